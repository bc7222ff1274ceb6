"""Samples of documents and artifacts, for tests of everything that passes them on without running a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.contracts import wire
from edgewright.contracts.benchmark import BenchmarkReport, Conditions, Latency, LatencySketch
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import Digest, ProfileId, digest_of
from edgewright.contracts.manifest import (
    MANIFEST_NAME,
    FileEntry,
    GoldenProbe,
    Manifest,
    Provenance,
    Quality,
    Requirements,
    TensorSpec,
)

MakeArtifact = Callable[..., Path]
MakeReport = Callable[..., BenchmarkReport]


@pytest.fixture(scope="session")
def needs_mosquitto() -> None:
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("needs mosquitto: apt-get install mosquitto")


@pytest.fixture
def make_artifact() -> MakeArtifact:
    """`make_artifact(root, model=…, profile=…, target=…, weights=…)` writes an artifact folder and returns it."""

    def make(
        root: Path,
        *,
        model: str = "digits",
        profile: str = "rpi-4",
        target: str = "tflite",
        weights: bytes = b"\x01\x02",
    ) -> Path:
        root.mkdir(parents=True)
        files = {"model.bin": weights, "probe.npz": b"probe"}
        for name, data in files.items():
            (root / name).write_bytes(data)
        tensor = TensorSpec(name="x", dtype="float32", shape=(-1, 64))
        manifest = Manifest(
            model=model,
            profile=ProfileId(profile),
            target=target,
            precision="int8",
            entry="model.bin",
            inputs=(tensor,),
            outputs=(tensor,),
            files=tuple(
                FileEntry(path=name, digest=digest_of(data), size_bytes=len(data)) for name, data in files.items()
            ),
            requirements=Requirements(machine=("aarch64",), runtimes={target: ">=2"}),
            probe=GoldenProbe(path="probe.npz", samples=1, atol=0.1, rtol=0.1, min_cosine=0.99),
            quality=Quality(metric="accuracy", value=0.97, baseline=0.98, samples=100, how="measured"),
            provenance=Provenance(
                source=digest_of(b"source"), recipe=digest_of(b"recipe"), passes=("ptq",), seed=0, toolchain={}
            ),
        )
        (root / MANIFEST_NAME).write_bytes(wire.encode(manifest))
        return root

    return make


@pytest.fixture(scope="session")
def make_report() -> MakeReport:
    """`make_report(artifact, p50_us=…, how=…)` is what a device would have measured."""

    def make(artifact: Digest, *, p50_us: float = 1234.5, how: str = "measured") -> BenchmarkReport:
        return BenchmarkReport(
            artifact=artifact,
            latency_us=Latency(
                p50=p50_us, p90=p50_us * 1.1, p99=p50_us * 1.3, mean=p50_us, p50_low=p50_us - 1, p50_high=p50_us + 1
            ),
            sketch=LatencySketch(relative_accuracy=0.01, buckets={356: 900, 357: 100}),
            runs=1000,
            warmup_runs=10,
            stable=True,
            throughput_per_s=1e6 / p50_us,
            load_ms=12.0,
            peak_memory_bytes=10_000_000,
            conditions=Conditions(
                threads=1,
                batch=1,
                cpus=(),
                clock="perf_counter",
                clock_mhz_before=None,
                clock_mhz_after=None,
                temperature_c=None,
                load_average=None,
                how=how,
            ),
            runtime="tflite",
            runtime_version="2.3.0",
        )

    return make


@pytest.fixture(scope="session")
def fingerprint() -> Fingerprint:
    """A device."""
    return Fingerprint(
        machine="aarch64",
        cpu_model="Cortex-A72",
        cores=4,
        cpu_flags=("asimd",),
        memory_bytes=4 << 30,
        board="Raspberry Pi 4 Model B Rev 1.4",
        gpu=None,
        os="Debian GNU/Linux 12",
        glibc="2.36",
        python="3.11.2",
        runtimes={"tflite": "2.3.0"},
    )
