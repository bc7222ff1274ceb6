"""Models in torch: a callable that returns an nn.Module, or a .pt2 file of torch.export."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgewright.compiler.model import Array, Loaded, check_rows, digest_parts, refused
from edgewright.compiler.recipe import CallableRef
from edgewright.compiler.user_code import load_callable, location, user_code
from edgewright.compiler.weights import load_weights
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.ids import Digest
from edgewright.targets.protocol import Samples

# How torch's operators complain of an argument's shape or type, in contrast to a fault in the forward itself.
_ABOUT_SHAPE = re.compile(
    r"shape|size|dimension|channel|dtype|same type|scalar type|input type|expected .*input", re.IGNORECASE
)


class FlatOutputs(torch.nn.Module):
    """A module whose outputs are a mapping or a list, as one with a tuple of tensors."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs in order, those that are None left out."""
        outputs = self.module(*inputs)
        values = outputs.values() if isinstance(outputs, dict) else outputs
        return tuple(value for value in values if value is not None)


def load_module(reference: CallableRef, weights: Path | None, folder: Path, sample: Samples) -> Loaded:
    """Call `reference`, load `weights` into what it returns, and make it ready to be compiled.

    Args:
        reference: the function or class that the recipe names.
        weights: a file, or None to keep the weights that the model has.
        folder: the recipe's.
        sample: one sample of each input, in the order of forward's arguments.

    Raises:
        UserError: `model-module-missing`, `model-callable-missing`, `model-not-a-module`, `weights-unreadable`,
            `weights-do-not-fit`, `data-inputs-differ`, `data-shape`, `model-output-unsupported`.
        CompileError: `user-code-failed`, `model-failed`.
    """
    function = load_callable(reference, folder)
    with user_code(f"{reference}()"):
        module = function()
    if not isinstance(module, torch.nn.Module):
        raise UserError(
            "model-not-a-module",
            f"{reference} does not return a model",
            expected="a torch.nn.Module",
            found=type(module).__name__,
            next_step="return the module itself",
        )
    if weights is not None:
        load_weights(module, weights)
    module = module.to("cpu", torch.float32).eval().requires_grad_(False)
    _check_arity(module, reference, tuple(sample))
    code = Path(inspect.getfile(sys.modules[reference.module])).read_bytes()
    return _loaded(module, sample, _digest(module, code))


def load_exported(path: Path, sample: Samples) -> Loaded:
    """Load a .pt2 file, and try it on `sample`, one sample of each input.

    Raises:
        UserError: `model-unreadable`, `data-inputs-differ`, `data-shape`, `model-output-unsupported`.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch logs the traceback of what is told in one line here
    try:
        if not zipfile.is_zipfile(path):
            raise _unreadable(path, "no zip archive")
        program = torch.export.load(path)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - torch raises anything on a damaged archive
        raise _unreadable(path, f"{type(error).__name__}: {str(error).splitlines()[0][:300]}") from None
    finally:
        logging.disable(before)
    wanted = program.graph_signature.user_inputs
    if len(wanted) != len(sample):
        raise UserError(
            "data-inputs-differ",
            f"the data has another number of inputs than {path.name}",
            expected=", ".join(map(str, wanted)),
            found=", ".join(sample),
            next_step="give one array for each of the model's inputs",
        )
    # Its guards would refuse every shape but the exported one, even where the graph takes them; and it may not be
    # traced. What shapes it takes is tried (model.py).
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()
    # An exported graph has no mode, and its eval() raises; targets may call it as on any module.
    module.train = types.MethodType(lambda self, mode=True: self, module)  # noqa: ARG005 - the signature of train()
    module.eval = types.MethodType(lambda self: self, module)
    return _loaded(module.requires_grad_(False), sample, digest_parts([("pt2", path.read_bytes())]))


def _loaded(module: torch.nn.Module, sample: Samples, digest: Digest) -> Loaded:
    """`module` with the function that runs it; a mapping or a list of outputs becomes a tuple."""
    if isinstance(_forward(module, sample), dict | list):
        module = FlatOutputs(module).eval()

    def run(inputs: Samples) -> dict[str, Array]:
        return _named(_forward(module, inputs), len(next(iter(inputs.values()))))

    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    return Loaded(run=run, size_bytes=size_bytes, digest=digest, module=module)


def _forward(module: torch.nn.Module, inputs: Samples) -> object:
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()]
    try:
        with torch.inference_mode():
            outputs: object = module(*tensors)
    except (RuntimeError, ValueError, AssertionError) as error:
        if _ABOUT_SHAPE.search(str(error)):
            raise refused(error, inputs, location(error)) from None
        raise _failed(error) from None
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise _failed(error) from None
    return outputs


def _named(returned: object, count: int) -> dict[str, Array]:
    values = (returned,) if isinstance(returned, torch.Tensor) else returned
    if not isinstance(values, tuple) or not all(isinstance(value, torch.Tensor) for value in values):
        raise UserError(
            "model-output-unsupported",
            "the model returns something that is not a tensor, nor a tuple, list or mapping of tensors",
            expected="a tensor, or several",
            found=_described(returned),
            next_step="wrap the model in a module that returns tensors",
        )
    outputs = {f"output_{index}": value.detach().numpy() for index, value in enumerate(values)}
    check_rows(outputs, count)
    return outputs


def _described(outputs: object) -> str:
    name = type(outputs).__name__
    inside = (type(value).__name__ for value in outputs) if isinstance(outputs, tuple) else ()
    return f"{name} of {', '.join(inside) or 'nothing'}" if isinstance(outputs, tuple) else name


def _check_arity(module: torch.nn.Module, reference: CallableRef, inputs: tuple[str, ...]) -> None:
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*inputs)
    except TypeError:
        raise UserError(
            "data-inputs-differ",
            f"the data has another number of inputs than the forward of {reference}",
            expected=f"forward{signature}",
            found=", ".join(inputs),
            next_step="name the inputs in the order of forward's arguments, and the labels as the target",
        ) from None


def _digest(module: torch.nn.Module, code: bytes) -> Digest:
    state = sorted(module.state_dict().items())
    parts = [(f"{name} {value.dtype} {tuple(value.shape)}", _bytes(value)) for name, value in state]
    return digest_parts([("code", code), *parts])


def _bytes(value: Any) -> bytes:
    return (
        value.detach().cpu().contiguous().numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
    )


def _failed(error: Exception) -> CompileError:
    return CompileError(
        "model-failed",
        "the model's forward failed on a calibration sample",
        expected="outputs",
        found=f"{type(error).__name__}: {str(error).strip()[:300]}",
        next_step=f"mend {location(error)}",
    )


def _unreadable(path: Path, found: str) -> UserError:
    return UserError(
        "model-unreadable",
        f"{path} cannot be read as a model",
        expected="a file written by torch.export.save",
        found=found,
        next_step="export it again, with the torch version that edgewright uses",
    )
