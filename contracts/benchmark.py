"""What a benchmark of an artifact says, wherever it was run."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.contracts.findings import Finding
from edgewright.contracts.ids import Digest

BENCHMARK_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class LatencySketch:
    """A mergeable latency histogram (DDSketch: Masson, Rim, Lee, VLDB 2019).

    Bucket i counts samples in ``(gamma**(i-1), gamma**i]`` microseconds, ``gamma = (1+a)/(1-a)`` for the relative
    accuracy a. Two sketches of one accuracy merge by adding their counts.
    """

    relative_accuracy: float
    buckets: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one inference, in microseconds, with the 95 % confidence interval of the median."""

    p50: float
    p90: float
    p99: float
    mean: float
    p50_low: float
    p50_high: float


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How much faster than another artifact: the ratio of the other's median to ours, >1 is faster; 95 % interval."""

    against: Digest
    against_p50_us: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What could have bent the measurement. None: this machine does not tell.

    `how` is ``measured``, ``simulated`` or ``emulated``; `clock` the time source.
    """

    threads: int
    batch: int
    cpus: tuple[int, ...]
    clock: str
    clock_mhz_before: float | None
    clock_mhz_after: float | None
    temperature_c: float | None
    load_average: float | None
    how: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """One artifact on one device.

    Attributes:
        latency_us: microseconds for one inference of `conditions.batch` samples.
        stable: whether warm-up reached a steady state within its bound, and the median's interval is within 5 %.
        load_ms: from an empty process's order to load until the first inference is possible.
        peak_memory_bytes: peak resident memory of the child that ran it.
        speedup: against the artifact measured with it, block by block in turn; None when it ran alone.
    """

    artifact: Digest
    latency_us: Latency
    sketch: LatencySketch
    runs: int
    warmup_runs: int
    stable: bool
    throughput_per_s: float
    load_ms: float
    peak_memory_bytes: int
    conditions: Conditions
    runtime: str
    runtime_version: str
    speedup: Speedup | None = None
    findings: tuple[Finding, ...] = ()
    schema: int = BENCHMARK_SCHEMA
