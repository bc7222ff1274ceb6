"""Weights from a file into a module, or a message that says which of them do not fit."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.contracts.errors import UserError

if TYPE_CHECKING:
    import torch

_SHOWN = 4
_BLOCKED = re.compile(r"GLOBAL ([\w.]+)")


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load the state dict in `path` (.safetensors, or .pt without code) into `module`; every key must fit.

    Of names that share one tensor, one is enough.

    Raises:
        UserError: `weights-unreadable`, `weights-do-not-fit`.
    """
    state = _read(path)
    own = module.state_dict()
    misshapen = [
        f"{key} is {_shape(state[key])} in the file and {_shape(value)} in the model"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    tied = _tied(own, state)
    complaints = [
        _listing("missing from the file", [key for key in own if key not in state and key not in tied]),
        _listing("not in the model", [key for key in state if key not in own]),
        _listing("of another shape", misshapen),
    ]
    if any(complaints):
        raise UserError(
            "weights-do-not-fit",
            f"the weights in {path} do not fit the model",
            expected=f"the {len(own)} tensors of the model's state_dict()",
            found="; ".join(filter(None, complaints)),
            next_step=_renaming(set(own), set(state))
            or "check that model and weights belong together, and that the file holds model.state_dict() itself",
        )
    module.load_state_dict(state, strict=not tied)


def _renaming(own: set[str], given: set[str]) -> str | None:
    """What to do where wrappers (DataParallel, Lightning, torch.compile) have put one prefix before all names."""
    one = min(given, default="")
    for prefix in (one.removesuffix(name) for name in own if one.endswith(f".{name}")):
        if given == {prefix + name for name in own}:
            return f"all names begin with '{prefix}', as a wrapper's do: save the state_dict() of the model inside it"
    return None


def _tied(own: Mapping[str, torch.Tensor], given: Container[str]) -> set[str]:
    """Names that share their tensor with one that is given: safetensors' save_model keeps one of them."""
    there = {(value.data_ptr(), value.shape) for key, value in own.items() if key in given}
    return {key for key, value in own.items() if key not in given and (value.data_ptr(), value.shape) in there}


def _read(path: Path) -> dict[str, torch.Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            # Without code: a pickle from elsewhere must not run anything here.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's text advises to switch off the very check that keeps a checkpoint from running code.
        blocked = _BLOCKED.search(str(error))
        raise _unreadable(path, f"a pickle of {blocked[1]}" if blocked else "no pickle of tensors") from None
    except (SafetensorError, zipfile.BadZipFile) as error:
        raise _unreadable(path, str(error).splitlines()[0]) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        # What torch's unpickler raises on bytes that are no checkpoint.
        raise _unreadable(path, f"{type(error).__name__}: {error}".splitlines()[0]) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        found = f"a mapping of {', '.join(map(str, list(state)[:_SHOWN]))}" if isinstance(state, dict) else type(state)
        raise _unreadable(path, str(found))
    return state


def _unreadable(path: Path, found: str) -> UserError:
    return UserError(
        "weights-unreadable",
        f"{path} cannot be read as weights",
        expected="a state dict, written by safetensors.torch.save_file or torch.save(model.state_dict(), …)",
        found=found,
        next_step="save model.state_dict(), not the model and not a training checkpoint",
    )


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _listing(label: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)} {label}: {', '.join(items[:_SHOWN])}{more}"
