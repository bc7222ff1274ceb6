"""Samples into the batches a session can take, and its outputs back into one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.one_sample import check_inputs
from edgewright.targets.session import Arrays

Run = Callable[[dict[str, Any]], dict[str, Any]]


def in_batches(specs: tuple[TensorSpec, ...], inputs: Arrays, run: Run, *, limit: int, fixed: int | None) -> Arrays:
    """Call `run` on batches of `inputs` and join what it gives.

    Args:
        specs: the model's inputs.
        inputs: arrays by name; axis 0 counts samples.
        run: takes C-contiguous arrays of one batch.
        limit: the most samples a batch may have.
        fixed: the model's own batch where it takes no other; its last batch is filled up with the last sample, whose
            surplus outputs are dropped.

    Raises:
        UserError: `input-mismatch`.
    """
    count = check_inputs(specs, inputs)
    size = limit if fixed is None else fixed
    parts = []
    for start in range(0, count, size):
        stop = min(start + size, count) if fixed is None else start + size
        picked = np.minimum(np.arange(start, stop), count - 1)
        parts.append(run({spec.name: inputs[spec.name][picked] for spec in specs}))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def one_batch(specs: tuple[TensorSpec, ...], inputs: Arrays, run: Run) -> Callable[[], object]:
    """A function that calls `run` on `inputs` as they are. Raises UserError `input-mismatch`."""
    check_inputs(specs, inputs)
    arrays = {spec.name: np.ascontiguousarray(inputs[spec.name]) for spec in specs}
    return lambda: run(arrays)
