"""Slow, readable references: what each kernel computes, said as plainly as Python can say it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable


def sketch(values: Iterable[float], relative_accuracy: float) -> dict[int, int]:
    """Buckets of a DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019, section 2.1).

    Args:
        values: positive numbers; smaller than 1e-9 counts as 1e-9.
        relative_accuracy: every quantile read from the buckets is within this fraction of the true one.

    Returns:
        Counts by bucket i, which holds the values in ``(gamma**(i-1), gamma**i]``.
    """
    log_gamma = math.log((1 + relative_accuracy) / (1 - relative_accuracy))
    return dict(sorted(Counter(math.ceil(math.log(max(value, 1e-9)) / log_gamma) for value in values).items()))


def sketch_quantile(buckets: dict[int, int], relative_accuracy: float, quantile: float) -> float:
    """The value at `quantile` (0 to 1) of what went into the buckets; section 2.2 of the same paper.

    Args:
        buckets: at least one bucket with a positive count.
        relative_accuracy: the one the buckets were made with.
        quantile: 0 to 1.
    """
    gamma = (1 + relative_accuracy) / (1 - relative_accuracy)
    rank = quantile * (sum(buckets.values()) - 1)
    seen = 0
    for index in sorted(buckets):
        seen += buckets[index]
        if seen > rank:
            return 2 * gamma**index / (gamma + 1)
    return 2 * gamma ** max(buckets) / (gamma + 1)
