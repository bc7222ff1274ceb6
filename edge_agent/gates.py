"""The limits of a rollout's policy, held against what this device measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.contracts.benchmark import BenchmarkReport, LatencySketch
from edgewright.contracts.messages import Policy


@dataclass(frozen=True)
class Exceeded:
    """A limit that was not kept: a kebab-case reason for a program, a sentence for a person."""

    reason: str
    detail: str


def quantile(sketch: LatencySketch, q: float) -> float:
    """The q-quantile in microseconds, 0 <= q <= 1, within the sketch's relative accuracy.

    Bucket i is represented by ``2 * gamma**i / (gamma + 1)`` (DDSketch, Masson, Rim, Lee, VLDB 2019, section 2.1). An
    empty sketch has no quantile: NaN, which no limit accepts.
    """
    gamma = (1 + sketch.relative_accuracy) / (1 - sketch.relative_accuracy)
    rank = q * (sum(sketch.buckets.values()) - 1)
    seen = 0
    for index in sorted(sketch.buckets):
        seen += sketch.buckets[index]
        if seen > rank:
            return float(2 * gamma**index / (gamma + 1))
    return float("nan")


def exceeded_gates(policy: Policy, report: BenchmarkReport) -> tuple[Exceeded, ...]:
    """The limits of `policy` that `report` does not keep, in the policy's order.

    Each is written as "not within", so that a NaN does not pass. `min_speedup` asks for the interval's lower end: a
    model that may be slower is not let through; without an active model to compare with there is no such gate.
    """
    exceeded = []
    if policy.max_p95_us is not None:
        p95 = quantile(report.sketch, 0.95)
        if not p95 <= policy.max_p95_us:
            exceeded.append(Exceeded("gate-max-p95", f"p95 is {p95:.1f} us, the limit {policy.max_p95_us:.1f} us"))
    if policy.max_memory_bytes is not None and not report.peak_memory_bytes <= policy.max_memory_bytes:
        exceeded.append(
            Exceeded(
                "gate-max-memory",
                f"peak memory is {report.peak_memory_bytes} bytes, the limit {policy.max_memory_bytes} bytes",
            )
        )
    if policy.min_speedup is not None and report.speedup is not None and not report.speedup.low >= policy.min_speedup:
        exceeded.append(
            Exceeded(
                "gate-min-speedup",
                f"speedup against the active model is {report.speedup.ratio:.3f} "
                f"[{report.speedup.low:.3f}, {report.speedup.high:.3f}], the limit {policy.min_speedup:.3f}",
            )
        )
    return tuple(exceeded)
