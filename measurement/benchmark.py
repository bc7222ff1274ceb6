"""The one benchmark method of edgewright, in the compiler, on the device and on the command line.

1. Each artifact runs in a child process of its own, pinned to the fastest cores, with the manifest's thread count.
2. Warm-up until three blocks in a row have medians within 5 %, at most as long as the measurement itself.
3. Then blocks of inferences. When two artifacts are compared their blocks take turns, AB BA AB …, so that a drift of
   the machine meets both alike.
4. Percentiles come from all runs, intervals from block medians (statistics.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgewright.contracts.benchmark import BenchmarkReport, Conditions, LatencySketch, Speedup
from edgewright.contracts.findings import Finding
from edgewright.kernels.reference import sketch
from edgewright.measurement import conditions, statistics
from edgewright.measurement.artifact import read_manifest
from edgewright.measurement.probe import first_sample, read_probe
from edgewright.measurement.process import ArtifactProcess

_BLOCKS = 40
_MIN_BLOCKS = 12
_STEADY = 0.05
_SKETCH_ACCURACY = 0.01

OnProgress = Callable[[float], None]


@dataclass
class _Lane:
    """One artifact of a measurement and what was seen of it."""

    process: ArtifactProcess
    runs_per_block: int = 1
    warmup_runs: int = 0
    steady: bool = False
    peak_memory_bytes: int = 0
    blocks: list[np.ndarray] = field(default_factory=list)

    def block(self) -> np.ndarray:
        """One block of runs, in microseconds."""
        times, self.peak_memory_bytes = self.process.run(self.runs_per_block)
        return times


def benchmark(
    root: Path,
    *,
    against: Path | None = None,
    threads: int | None = None,
    seconds: float = 2.0,
    memory_limit_bytes: int | None = None,
    on_progress: OnProgress | None = None,
) -> BenchmarkReport:
    """Measure the artifact in `root`, and compare it with the one in `against` if given.

    Args:
        root: the artifact's folder.
        against: another artifact's; measured in turns with the first, for as long.
        threads: instead of the manifests'.
        seconds: how long each artifact is measured, after a warm-up of at most as long.
        memory_limit_bytes: private memory each child may use.
        on_progress: called with the fraction done.

    Raises:
        DeviceError: as ArtifactProcess.
    """
    wanted = _threads(root, threads)
    cpus = conditions.fastest_cpus(wanted)
    with contextlib.ExitStack() as stack:
        lanes = [
            _Lane(
                stack.enter_context(
                    ArtifactProcess(path, threads=wanted, cpus=cpus, memory_limit_bytes=memory_limit_bytes)
                )
            )
            for path in (root, against)
            if path is not None
        ]
        clock_before = conditions.clock_mhz(cpus)
        for lane in lanes:
            _warm_up(lane, seconds)
        _take_turns(lanes, seconds * len(lanes), on_progress)
        return _report(lanes, wanted, cpus, clock_before)


def _threads(root: Path, threads: int | None) -> int:
    """As asked for, else the manifest's, but never more than there are cores to pin to."""
    manifest, _ = read_manifest(root)
    wanted = threads if threads is not None else int(manifest.options.get("threads", 1))
    return max(1, min(wanted, len(os.sched_getaffinity(0))))


def _warm_up(lane: _Lane, seconds: float) -> None:
    inputs, _ = read_probe(lane.process.root / lane.process.manifest.probe.path)
    lane.process.bind(first_sample(inputs))
    deadline = time.monotonic() + seconds
    medians: list[float] = []
    while not lane.steady and (time.monotonic() < deadline or len(medians) < 3):
        times = lane.block()
        lane.warmup_runs += len(times)
        medians.append(float(np.median(times)))
        # A block lasts about 1/_BLOCKS of the measurement, so that the measurement has about _BLOCKS of them.
        lane.runs_per_block = max(1, round(seconds / _BLOCKS * 1e6 / medians[-1]))
        recent = medians[-3:]
        lane.steady = len(recent) == 3 and max(recent) <= min(recent) * (1 + _STEADY)


def _take_turns(lanes: list[_Lane], seconds: float, on_progress: OnProgress | None) -> None:
    start = time.monotonic()
    turn = 0
    while (elapsed := time.monotonic() - start) < seconds or turn < _MIN_BLOCKS:
        for lane in lanes if turn % 2 == 0 else reversed(lanes):
            lane.blocks.append(lane.block())
        turn += 1
        if on_progress is not None:
            on_progress(min(1.0, elapsed / seconds))


def _report(lanes: list[_Lane], threads: int, cpus: tuple[int, ...], clock_before: float | None) -> BenchmarkReport:
    ours = lanes[0]
    latency = statistics.summarize(ours.blocks)
    narrow = latency.p50_high - latency.p50_low <= _STEADY * latency.p50
    all_us = np.concatenate(ours.blocks)
    stable = ours.steady and narrow
    return BenchmarkReport(
        artifact=ours.process.digest,
        latency_us=latency,
        sketch=LatencySketch(relative_accuracy=_SKETCH_ACCURACY, buckets=sketch(all_us.tolist(), _SKETCH_ACCURACY)),
        runs=len(all_us),
        warmup_runs=ours.warmup_runs,
        stable=stable,
        throughput_per_s=1e6 / latency.mean,
        load_ms=ours.process.loaded.load_ms,
        peak_memory_bytes=ours.peak_memory_bytes,
        conditions=Conditions(
            threads=threads,
            batch=1,
            cpus=cpus,
            clock="CLOCK_MONOTONIC (perf_counter_ns)",
            clock_mhz_before=clock_before,
            clock_mhz_after=conditions.clock_mhz(cpus),
            temperature_c=conditions.temperature_c(),
            load_average=conditions.load_average(),
            how=ours.process.loaded.how,
        ),
        runtime=ours.process.loaded.runtime,
        runtime_version=ours.process.loaded.runtime_version,
        speedup=_speedup(*lanes) if len(lanes) == 2 else None,
        findings=() if stable else (_unstable(latency.p50_low, latency.p50_high),),
    )


def _speedup(ours: _Lane, theirs: _Lane) -> Speedup:
    ratio, low, high = statistics.paired_ratio(ours.blocks, theirs.blocks)
    return Speedup(
        against=theirs.process.digest,
        against_p50_us=float(np.median(np.concatenate(theirs.blocks))),
        ratio=ratio,
        low=low,
        high=high,
    )


def _unstable(low: float, high: float) -> Finding:
    return Finding(
        code="benchmark-unstable",
        message=f"the machine was not steady: the median lies between {low:.1f} and {high:.1f} us",
        next_step="measure again on an idle machine, or for longer",
    )
