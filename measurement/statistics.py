"""What can be said of latencies that were measured in blocks.

Single inferences follow each other too closely to be independent: a core that clocks down slows a whole stretch.
Blocks spread over the run are nearly so, so intervals are made from block medians, without any assumption on their
distribution (order statistics: Hahn, Meeker, Statistical Intervals, 2nd ed., section 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgewright.contracts.benchmark import Latency

_MIN_BLOCKS = 6
"""With fewer, no pair of order statistics holds the median with 95 %."""


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the median with at least 95 % confidence.

    With fewer than six values the pair is the smallest and the largest, and the confidence is lower.
    """
    ordered = sorted(values)
    n = len(ordered)
    # P(X <= k) of Binomial(n, 1/2), summed until the tail would leave more than 2.5 % outside.
    tail, term, k = 0.0, 0.5**n, 0
    while n >= _MIN_BLOCKS and tail + term <= 0.025:
        tail += term
        term *= (n - k) / (k + 1)
        k += 1
    low = max(k - 1, 0)
    return ordered[low], ordered[n - 1 - low]


def summarize(blocks_us: Sequence[np.ndarray]) -> Latency:
    """Percentiles over all runs, and the median's interval over blocks. Each block: shape (runs,), microseconds."""
    all_us = np.concatenate(list(blocks_us))
    p50, p90, p99 = (float(value) for value in np.percentile(all_us, (50, 90, 99)))
    low, high = median_interval([float(np.median(block)) for block in blocks_us])
    # The median of all runs need not lie between two block medians; an interval that excludes its own estimate
    # would mislead, so it is widened to hold it.
    return Latency(p50=p50, p90=p90, p99=p99, mean=float(all_us.mean()), p50_low=min(low, p50), p50_high=max(high, p50))


def paired_ratio(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Median of theirs / ours over blocks measured side by side, with its 95 % interval: (ratio, low, high)."""
    ratios = [float(np.median(b) / np.median(a)) for a, b in zip(ours, theirs, strict=True)]
    low, high = median_interval(ratios)
    return float(np.median(ratios)), low, high
