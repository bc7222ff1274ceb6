"""The trained float model, from whatever form the user has it in, and its outputs, the yardstick of everything after.

A model is a callable that returns an nn.Module, a .pt2 file of torch.export, or an .onnx file. Whatever it was, it
becomes one `FloatModel`: in eval mode, float32, on the CPU, taking any number of samples. It is run once on real data
before any work starts, so that a model that does not fit its data, gives NaN or mixes its samples is told at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler.data import Dataset, take
from edgewright.compiler.recipe import CallableRef, Recipe
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.ids import Digest, digest_of
from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.protocol import Samples, SourceModel

if TYPE_CHECKING:
    import torch

Array = NDArray[np.generic]
Run = Callable[[Samples], dict[str, Array]]

_BATCH = 64
_FLOAT_MODEL = "the float model"


@dataclass(frozen=True)
class Loaded:
    """A model as its loader gives it: `run` takes one batch, `input_names` is None where the data names the inputs.

    `size_bytes` counts parameters and buffers in float32; `digest` stands for weights and code.
    """

    run: Run
    size_bytes: int
    digest: Digest
    input_names: tuple[str, ...] | None = None
    module: torch.nn.Module | None = None
    onnx_path: Path | None = None


@dataclass(frozen=True)
class FloatModel:
    """The model as the targets take it, and the function that gives its outputs for any number of samples."""

    source: SourceModel
    loaded: Loaded

    def infer(self, inputs: Samples, origin: str) -> dict[str, Array]:
        """Outputs by name for `inputs`, in float32.

        Raises:
            CompileError: `model-output-nan`, naming the sample; `model-failed`.
        """
        count = len(next(iter(inputs.values())))
        parts = [self.loaded.run(take(inputs, slice(start, start + _BATCH))) for start in range(0, count, _BATCH)]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        check_finite(outputs, _FLOAT_MODEL, origin)
        return outputs


def load_model(recipe: Recipe, calibration: Dataset) -> tuple[FloatModel, Dataset]:
    """Load the recipe's model and try it on the first samples of `calibration`.

    Returns:
        The model, and `calibration` with the model's own input names where it has some (ONNX).

    Raises:
        UserError: `model-…`, `weights-…` or `data-shape`: what was given does not fit together.
        CompileError: `model-failed`, `model-output-nan`, `user-code-failed`.
    """
    first = take(calibration.inputs, slice(0, 1))
    if isinstance(recipe.model, CallableRef):
        from edgewright.compiler.torch_model import load_module

        loaded = load_module(recipe.model, recipe.weights, recipe.folder, first)
    elif recipe.model.suffix == ".pt2":
        from edgewright.compiler.torch_model import load_exported

        loaded = load_exported(recipe.model, first)
    else:
        from edgewright.compiler.onnx_model import load_onnx

        loaded = load_onnx(recipe.model)
    if loaded.input_names is not None:
        calibration = _named(calibration, loaded.input_names)
        first = take(calibration.inputs, slice(0, 1))
    outputs = loaded.run(first)
    check_finite(outputs, _FLOAT_MODEL, calibration.origin)
    _check_batch(loaded, calibration, outputs)
    source = SourceModel(
        name=recipe.name,
        module=loaded.module,
        onnx_path=loaded.onnx_path,
        inputs=_specs(first),
        outputs=_specs(outputs),
        example=first,
    )
    return FloatModel(source, loaded), calibration


def digest_parts(parts: Sequence[tuple[str, bytes]]) -> Digest:
    """One digest for several named pieces of bytes, in order."""
    total = hashlib.sha256()
    for name, data in parts:
        total.update(f"{name}\0{digest_of(data)}\n".encode())
    return Digest(f"sha256:{total.hexdigest()}")


def check_finite(outputs: Samples, whose: str, origin: str, code: str = "model-output-nan") -> None:
    """Raises CompileError `code` naming the first sample for which an output has a NaN or an infinity.

    `whose` says whose outputs they are, and `origin` what data they belong to.
    """
    for name, array in outputs.items():
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise CompileError(
                code,
                f"output '{name}' of {whose} has NaN or infinity for {len(bad)} of {len(array)} samples",
                expected="finite numbers",
                found=f"the first for sample {bad[0]} of {origin}",
                next_step="look for NaN in the weights, and for a division or a logarithm of zero in the model",
            )


def check_rows(outputs: Samples, count: int) -> None:
    """Raises UserError `model-output-unsupported` unless each output has one row for each of `count` samples."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise UserError(
                "model-output-unsupported",
                f"output '{name}' of the model does not have one row for each sample",
                expected=f"shape ({count}, …) for {count} samples",
                found=f"shape {array.shape}",
                next_step="keep the samples along axis 0",
            )


def refused(error: Exception, inputs: Samples, where: str) -> UserError:
    """The error for a model that does not take samples of this shape or type."""
    shapes = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in inputs.items())
    return UserError(
        "data-shape",
        "the model refuses the samples of data.calibrate",
        expected="samples of the shape and type that the model was trained on",
        found=f"{shapes}; the model says: {str(error).strip().splitlines()[0][:300]}",
        next_step=f"change the data's shape or type, or look at {where}",
    )


def _named(calibration: Dataset, names: tuple[str, ...]) -> Dataset:
    inputs = calibration.inputs
    if len(inputs) != len(names):
        raise UserError(
            "data-inputs-differ",
            "the data has another number of inputs than the model",
            expected=", ".join(names),
            found=", ".join(inputs),
            next_step="give one array for each of the model's inputs",
        )
    if set(inputs) == set(names):
        renamed = {name: inputs[name] for name in names}
    else:
        renamed = dict(zip(names, inputs.values(), strict=True))
    # The names are no longer the user's: evaluation data that has those goes by its order.
    return replace(calibration, inputs=renamed, named=False)


def _check_batch(loaded: Loaded, calibration: Dataset, alone: Samples) -> None:
    """A sample's output must not depend on its batch: all later steps choose their own batch sizes."""
    if len(calibration) < 2:
        return
    try:
        together = loaded.run(take(calibration.inputs, slice(0, 2)))
    except (UserError, CompileError) as error:
        raise UserError(
            "model-batch-fixed",
            "the model takes one sample and refuses two",
            expected="any number of samples along axis 0",
            found=error.found or error.what,
            next_step="export it with a dynamic batch dimension (dynamic_shapes in torch.export and torch.onnx.export)",
        ) from None
    for name, array in alone.items():
        wanted, got = array[0].astype(np.float64), together[name][0].astype(np.float64)
        # float32 sums in another order differ by far less.
        if wanted.shape != got.shape or not np.allclose(wanted, got, rtol=1e-3, atol=1e-3 * (1 + np.abs(wanted).max())):
            raise UserError(
                "model-depends-on-batch",
                f"output '{name}' of one sample changes with the other samples of its batch, or by chance",
                expected="the same output alone and in a batch",
                found=f"shapes {wanted.shape} and {got.shape}, largest difference "
                + (f"{np.abs(wanted - got).max():.3g}" if wanted.shape == got.shape else "unknown"),
                next_step="export in eval mode (dropout, batch normalization), and keep axis 0 for the samples",
            )


def _specs(samples: Samples) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, dtype=array.dtype.name, shape=(-1, *array.shape[1:])) for name, array in samples.items()
    )
