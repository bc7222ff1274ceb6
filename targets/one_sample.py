"""The session of a runtime that runs one sample at a time; also the checks of what a caller hands in.

Edge inference is latency bound: artifacts run with batch 1, and larger batches are samples in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import UserError
from edgewright.contracts.manifest import Manifest, TensorSpec
from edgewright.targets.session import Arrays

RunOne = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]
"""One sample of each input (batch 1, in the manifest's order) to each output, in arrays of the caller's own."""


class OneSampleSession:
    """A `Session` over a function that runs one sample."""

    how = "measured"

    def __init__(self, manifest: Manifest, runtime: str, runtime_version: str, run_one: RunOne) -> None:
        self.runtime = runtime
        self.runtime_version = runtime_version
        self._inputs = manifest.inputs
        self._outputs = manifest.outputs
        self._run_one = run_one

    def infer(self, inputs: Arrays) -> Arrays:
        """See `Session.infer`."""
        count = check_inputs(self._inputs, inputs)
        arrays = [inputs[spec.name] for spec in self._inputs]
        samples = [self._run_one([array[i : i + 1] for array in arrays]) for i in range(count)]
        columns = (np.concatenate(column) for column in zip(*samples, strict=True))
        return {
            spec.name: column.astype(spec.dtype, copy=False)
            for spec, column in zip(self._outputs, columns, strict=True)
        }

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """See `Session.bind`; the native batch is one sample."""
        count = check_inputs(self._inputs, inputs)
        if count != 1:
            raise UserError(
                "input-mismatch", "one inference takes one sample", expected="1 sample", found=f"{count} samples"
            )
        return partial(self._run_one, [inputs[spec.name] for spec in self._inputs])


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Arrays) -> int:
    """The number of samples in `inputs`.

    Raises:
        UserError: `input-mismatch` when a name, a shape or a dtype is not as `specs` say.
    """
    names = [spec.name for spec in specs]
    if set(inputs) != set(names):
        raise _mismatch("the inputs' names are not the model's", ", ".join(names), ", ".join(inputs) or "no input")
    for spec in specs:
        array = inputs[spec.name]
        if array.dtype != np.dtype(spec.dtype):
            raise _mismatch(f"input '{spec.name}' is of another type", spec.dtype, str(array.dtype))
        fits = array.ndim == len(spec.shape) and all(
            size in (-1, actual) for size, actual in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or array.shape[0] == 0:
            expected = ", ".join(("N", *map(str, spec.shape[1:])))
            raise _mismatch(f"input '{spec.name}' is of another shape", f"({expected}), N >= 1", str(array.shape))
    counts = {name: inputs[name].shape[0] for name in names}
    if len(set(counts.values())) != 1:
        raise _mismatch("the inputs have different numbers of samples", "the same for all", str(counts))
    return counts[names[0]]


def check_tensor(spec: TensorSpec, dtype: str, shape: Sequence[int]) -> None:
    """Compare a loaded file's tensor for one sample with the manifest. Raises ValueError, for `quiet` to carry out.

    Integers may be narrower in the file than the manifest promises its callers: TFLite has them in 32 bits.
    """
    expected = (1, *spec.shape[1:])
    if np.dtype(dtype).kind != np.dtype(spec.dtype).kind or tuple(shape) != expected:
        found = f"{dtype} of shape {tuple(shape)}"
        raise ValueError(f"tensor '{spec.name}' is {found}; the manifest says {spec.dtype} of shape {expected}")


def _mismatch(what: str, expected: str, found: str) -> UserError:
    return UserError(
        "input-mismatch", what, expected=expected, found=found, next_step="see `inputs` in the artifact's manifest.json"
    )
