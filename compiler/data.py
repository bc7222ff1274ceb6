"""Samples for calibration and evaluation: from an npz file, from a function of the user's, or from an image folder.

A function named in a recipe is called without arguments and returns one of

    a mapping      input name → array, in the order of the model's arguments, and the labels under ``target``
    a tuple        (input, …, target) of arrays, all samples at once
    an iterable    of such mappings or tuples, one a batch, as a torch DataLoader gives them; another item is one input

Arrays are NumPy's or torch's; axis 0 counts samples. Inputs of a mapping keep their names; else they are called
``input_0``, ``input_1``, …. float64 becomes float32.

What comes out of this module is whole: at least one sample, equal lengths, one shape, no NaN and no infinity.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler.images import read_images
from edgewright.compiler.recipe import CallableSource, NpzSource, Source
from edgewright.compiler.user_code import load_callable, user_code
from edgewright.contracts.errors import UserError, did_you_mean
from edgewright.targets.protocol import Samples

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Dataset:
    """Samples and, where there are any, their labels.

    Attributes:
        inputs: by name, in the order of the model's arguments.
        target: labels, one a sample.
        named: whether the inputs' names are the user's.
        origin: where it comes from, for messages.
    """

    inputs: Samples
    target: Array | None
    named: bool
    origin: str

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def load_data(source: Source, folder: Path, role: str) -> Dataset:
    """Read and check `source`.

    Args:
        source: as the recipe names it.
        folder: the recipe's.
        role: ``calibrate`` or ``evaluate``, for messages.

    Raises:
        UserError: `data-empty`, `data-shape`, `data-length-differs`, `data-not-finite`, `data-malformed`,
            `data-unreadable`; and what `user_code` raises.
    """
    if isinstance(source, NpzSource):
        data = _read_npz(source, role)
    elif isinstance(source, CallableSource):
        origin = f"data.{role} ({source.function})"
        function = load_callable(source.function, folder)
        with user_code(f"{source.function}()"):
            data = _collect(function(), origin)
    else:
        inputs, labels = read_images(source, f"data.{role} ({source.folder.name})")
        data = Dataset({"input_0": inputs}, labels, named=False, origin=f"data.{role} ({source.folder.name})")
    return _checked(data)


def match_inputs(calibration: Dataset, evaluation: Dataset) -> Dataset:
    """`evaluation` with the names and the order of `calibration`'s inputs.

    Raises:
        UserError: `data-inputs-differ`, or `data-shape` when one sample differs in shape or type.
    """
    wanted, given = calibration.inputs, evaluation.inputs
    if set(wanted) == set(given):
        inputs = {name: given[name] for name in wanted}
    elif len(wanted) == len(given) and not (calibration.named and evaluation.named):
        inputs = dict(zip(wanted, given.values(), strict=True))
    else:
        raise UserError(
            "data-inputs-differ",
            "calibration and evaluation data have different inputs",
            expected=", ".join(wanted),
            found=", ".join(given),
            next_step="give both the same inputs",
        )
    for name, array in inputs.items():
        expected = wanted[name]
        if array.shape[1:] != expected.shape[1:] or array.dtype != expected.dtype:
            raise UserError(
                "data-shape",
                f"input '{name}' of {evaluation.origin} is not like that of {calibration.origin}",
                expected=f"{expected.dtype} of shape (samples, {_dims(expected)})",
                found=f"{array.dtype} of shape (samples, {_dims(array)})",
                next_step="prepare both data sets in the same way",
            )
    return replace(evaluation, inputs=inputs)


def take(samples: Samples, index: slice | Array) -> dict[str, Array]:
    """Some of the samples."""
    return {name: array[index] for name, array in samples.items()}


def _dims(array: Array) -> str:
    return ", ".join(map(str, array.shape[1:]))


def _read_npz(source: NpzSource, role: str) -> Dataset:
    origin = f"data.{role} ({source.path.name})"
    wanted = (*source.inputs, *((source.target,) if source.target is not None else ()))
    try:
        with source.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in wanted:
                if name not in file.files:
                    raise UserError(
                        "data-malformed",
                        f"{source.path} has no array '{name}'",
                        expected=", ".join(wanted),
                        found=", ".join(file.files) or "no array at all",
                        next_step=did_you_mean(name, file.files, "name the arrays of the file in the recipe"),
                    )
            arrays = {name: file[name] for name in wanted}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            "data-unreadable",
            f"{source.path} cannot be read",
            expected="an npz file of plain arrays, as numpy.savez writes it",
            found=str(error).splitlines()[0],
        ) from None
    target = arrays.pop(source.target) if source.target is not None else None
    return Dataset(arrays, target, named=True, origin=origin)


def _collect(returned: object, origin: str) -> Dataset:
    """What a user's function returned, as a data set."""
    if isinstance(returned, Mapping):
        return _of_mappings([returned], origin)
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes):
        raise _malformed(origin, type(returned).__name__)
    batches = [returned] if isinstance(returned, tuple) else list(_rows(returned, origin))
    mappings = [batch for batch in batches if isinstance(batch, Mapping)]
    if mappings and len(mappings) == len(batches):
        return _of_mappings(mappings, origin)
    columns = [_columns(batch, origin) for batch in batches]
    if len({len(column) for column in columns}) > 1:
        raise _malformed(origin, f"batches of {len(columns[0])} and of other numbers of arrays")
    if not columns:
        raise _empty(origin)
    joined = [_joined(parts, origin) for parts in zip(*columns, strict=True)]
    has_target = len(joined) > 1
    inputs = joined[:-1] if has_target else joined
    named = {f"input_{index}": array for index, array in enumerate(inputs)}
    return Dataset(named, joined[-1] if has_target else None, named=False, origin=origin)


def _of_mappings(batches: Sequence[Mapping[object, object]], origin: str) -> Dataset:
    names = list(batches[0])
    if any(set(batch) != set(names) for batch in batches):
        raise _malformed(origin, "batches of different names")
    arrays = {str(name): _joined([_array(batch[name], origin) for batch in batches], origin) for name in names}
    target = arrays.pop("target", None)
    if not arrays:
        raise _malformed(origin, "a mapping without inputs")
    return Dataset(arrays, target, named=True, origin=origin)


def _joined(parts: Sequence[Array], origin: str) -> Array:
    if len(parts) == 1:
        return parts[0]
    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise UserError(
            "data-shape",
            f"the batches of {origin} do not fit together",
            expected="equal shapes but for the number of samples",
            found=str(error),
            next_step="make all samples alike, by padding or cutting; each array's first axis counts samples",
        ) from None


def _rows(returned: Iterable[object], origin: str) -> Iterable[object]:
    if isinstance(returned, np.ndarray) or hasattr(returned, "detach"):
        raise _malformed(origin, "one array without a name")
    return returned


def _columns(batch: object, origin: str) -> list[Array]:
    if isinstance(batch, tuple | list):
        return [_array(item, origin) for item in batch]
    return [_array(batch, origin)]


def _array(value: Any, origin: str) -> Array:
    """`value`, NumPy's or torch's, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise _malformed(origin, f"{type(value).__name__} of dtype {array.dtype}")
    return array


def _checked(data: Dataset) -> Dataset:
    inputs: dict[str, Array] = {}
    lengths = {}
    for name, array in data.inputs.items():
        if array.dtype.kind not in "fiub":
            raise _malformed(data.origin, f"'{name}' of dtype {array.dtype}")
        if array.ndim < 2:
            raise UserError(
                "data-shape",
                f"input '{name}' of {data.origin} has no axis beside that of the samples",
                expected="shape (samples, …)",
                found=f"shape {array.shape}",
                next_step="add the samples' axis as the first one",
            )
        inputs[name] = np.ascontiguousarray(array, np.float32 if array.dtype == np.float64 else array.dtype)
        lengths[name] = len(array)
    if data.target is not None:
        lengths["target"] = len(data.target) if data.target.ndim else -1
    if min(lengths.values()) == 0 or any(array.size == 0 for array in inputs.values()):
        raise _empty(data.origin)
    if len(set(lengths.values())) > 1:
        raise UserError(
            "data-length-differs",
            f"the arrays of {data.origin} differ in their number of samples",
            expected="one number of samples for all",
            found=", ".join(f"{name}: {length}" for name, length in lengths.items()),
        )
    for name, array in inputs.items():
        _check_finite(name, array, data.origin)
    return replace(data, inputs=inputs)


def _check_finite(name: str, array: Array, origin: str) -> None:
    if array.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(bad):
        raise UserError(
            "data-not-finite",
            f"input '{name}' of {origin} has NaN or infinity in {len(bad)} of {len(array)} samples",
            expected="finite numbers",
            found=f"the first in sample {bad[0]}",
            next_step="look at how that sample was made",
        )


def _empty(origin: str) -> UserError:
    return UserError(
        "data-empty", f"{origin} has no samples", expected="at least one sample", found="none", next_step="add samples"
    )


def _malformed(origin: str, found: str) -> UserError:
    return UserError(
        "data-malformed",
        f"{origin} does not give arrays of numbers in a form that can be read",
        expected="a mapping of arrays with the labels under 'target', or an iterable of (input, …, target) batches",
        found=found,
    )
