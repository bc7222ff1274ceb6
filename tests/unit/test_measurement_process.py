"""The child process that holds an artifact, with a real runtime and everything that can go wrong in it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from edgewright.contracts import wire
from edgewright.contracts.errors import ArtifactError, DeviceError, UserError
from edgewright.contracts.ids import digest_of
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
from edgewright.measurement.artifact import read_manifest, verify_files
from edgewright.measurement.benchmark import benchmark
from edgewright.measurement.probe import write_probe
from edgewright.measurement.process import ArtifactProcess
from edgewright.targets.quiet import without_telemetry


def build(root, *, width=32, layers=2, wrong_probe=False, **changes):
    """An OpenVINO artifact that multiplies by `layers` matrices."""
    without_telemetry()
    import openvino as ov
    from openvino import opset13 as ops

    root.mkdir()
    generator = np.random.default_rng(0)
    weights = [generator.normal(0, width**-0.5, (width, width)).astype(np.float32) for _ in range(layers)]
    parameter = ops.parameter([-1, width], np.float32, name="x")
    node = parameter
    for weight in weights:
        node = ops.matmul(node, ops.constant(weight), False, False)
    parameter.output(0).set_names({"x"})
    node.output(0).set_names({"y"})
    ov.save_model(ov.Model([ops.result(node)], [parameter], "m"), root / "model.xml", compress_to_fp16=False)
    x = generator.normal(size=(4, width)).astype(np.float32)
    y = x
    for weight in weights:
        y = y @ weight
    write_probe(root / "probe.npz", {"x": x}, {"y": y + 1 if wrong_probe else y})
    names = ("model.xml", "model.bin", "probe.npz")
    files = [(name, (root / name).read_bytes()) for name in names]
    fields = {
        "model": "m",
        "profile": "x86-64-avx2",
        "target": "openvino",
        "precision": "fp32",
        "entry": "model.xml",
        "inputs": (TensorSpec(name="x", dtype="float32", shape=(-1, width)),),
        "outputs": (TensorSpec(name="y", dtype="float32", shape=(-1, width)),),
        "files": tuple(FileEntry(path=name, digest=digest_of(data), size_bytes=len(data)) for name, data in files),
        "requirements": Requirements(),
        "probe": GoldenProbe(path="probe.npz", samples=4, atol=1e-4, rtol=1e-4, min_cosine=0.999),
        "quality": Quality(metric="none", value=0, baseline=0, samples=4, how="measured"),
        "provenance": Provenance(source=digest_of(b""), recipe=digest_of(b""), passes=(), seed=0, toolchain={}),
        "options": {"threads": 1, "inference_precision": "f32"},
    }
    (root / MANIFEST_NAME).write_bytes(wire.encode(Manifest(**fields | changes)))
    return root


@pytest.fixture
def artifact(tmp_path):
    return build(tmp_path / "artifact")


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def child_of(process):
    return process._child.pid


def test_an_intact_artifact_passes_its_probe(artifact):
    with ArtifactProcess(artifact) as process:
        result = process.probe()
        assert process.loaded.runtime == "openvino"
        assert process.loaded.how == "measured"
    assert result.passed
    assert result.samples == 4


def test_an_artifact_that_answers_otherwise_fails_its_probe(tmp_path):
    with ArtifactProcess(build(tmp_path / "a", wrong_probe=True)) as process:
        result = process.probe()
    assert not result.passed
    assert "'y'" in result.detail


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "probe.npz"])
def test_one_flipped_bit_is_refused_before_a_runtime_sees_it(artifact, name):
    flip_bit(artifact / name)
    with pytest.raises(ArtifactError) as caught, ArtifactProcess(artifact):
        pass
    assert caught.value.code == "artifact-digest-mismatch"
    assert name in caught.value.what


def test_missing_file_and_missing_artifact_are_named(artifact, tmp_path):
    (artifact / "model.bin").unlink()
    with pytest.raises(ArtifactError) as caught:
        verify_files(artifact, read_manifest(artifact)[0])
    assert caught.value.code == "artifact-file-missing"
    with pytest.raises(ArtifactError) as caught:
        read_manifest(tmp_path / "nowhere")
    assert caught.value.code == "artifact-missing"


def test_a_file_of_another_length_is_refused(artifact):
    with (artifact / "model.bin").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(ArtifactError, match="is not the file"):
        verify_files(artifact, read_manifest(artifact)[0])


def test_a_model_the_runtime_refuses_is_a_coded_error(tmp_path):
    root = build(tmp_path / "a", entry="probe.npz")
    with pytest.raises(DeviceError) as caught, ArtifactProcess(root):
        pass
    assert caught.value.code == "artifact-load-failed"


def test_a_target_this_version_does_not_know_is_a_coded_error(tmp_path):
    root = build(tmp_path / "a", target="abacus")
    with pytest.raises(DeviceError) as caught, ArtifactProcess(root):
        pass
    assert caught.value.code == "target-unknown"


def test_a_child_that_dies_is_an_error_and_not_our_end(artifact):
    with ArtifactProcess(artifact) as process:
        os.kill(child_of(process), signal.SIGSEGV)
        with pytest.raises(DeviceError) as caught:
            process.probe()
    assert caught.value.code == "artifact-crashed"
    assert "signal 11" in caught.value.found


def test_a_child_that_hangs_is_ended(artifact):
    with ArtifactProcess(artifact, timeout_s=20) as process:
        process._timeout_s = 0.3
        os.kill(child_of(process), signal.SIGSTOP)
        with pytest.raises(DeviceError) as caught:
            process.probe()
        pid = child_of(process)
    assert caught.value.code == "artifact-timeout"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_over_its_memory_limit_is_an_error(tmp_path):
    root = build(tmp_path / "a", width=2048, layers=4)
    with pytest.raises(DeviceError) as caught, ArtifactProcess(root, memory_limit_bytes=100 << 20) as process:
        process.probe()
    assert caught.value.code in {
        "artifact-out-of-memory",
        "artifact-crashed",
        "artifact-load-failed",
        "artifact-failed",
    }


def test_the_child_does_not_outlive_a_parent_that_is_killed(artifact):
    code = (
        "import os, signal, sys; from pathlib import Path; from edgewright.measurement.process import ArtifactProcess\n"
        f"with ArtifactProcess(Path({str(artifact)!r})) as process:\n"
        "    print(process._child.pid, flush=True)\n"
        "    os.kill(process._child.pid, signal.SIGSTOP)  # as one that hangs, and never sees its input end\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert is_gone(int(done.stdout))


def is_gone(pid, patience_s=10.0):
    """Whether the process ends by itself; an orphan that nobody reaped yet counts as ended."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_wrong_inputs_are_the_callers_mistake(artifact):
    with ArtifactProcess(artifact) as process:
        for inputs in ({"z": np.zeros((1, 32), np.float32)}, {"x": np.zeros((1, 31), np.float32)}):
            with pytest.raises(UserError) as caught:
                process.infer(inputs)
            assert caught.value.code == "input-mismatch"
        assert process.infer({"x": np.zeros((3, 32), np.float32)})["y"].shape == (3, 32)


def test_a_model_with_eight_times_the_work_is_measured_as_slower(tmp_path):
    small = build(tmp_path / "small", width=512, layers=2)
    large = build(tmp_path / "large", width=512, layers=16)
    fractions = []
    report = benchmark(large, against=small, seconds=0.3, on_progress=fractions.append)
    assert report.speedup.high < 1
    assert report.speedup.against == read_manifest(small)[1]
    assert report.latency_us.p50 <= report.latency_us.p90 <= report.latency_us.p99
    assert sum(report.sketch.buckets.values()) == report.runs
    assert report.peak_memory_bytes > 10 << 20
    assert fractions == sorted(fractions)


def trial(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "edgewright.measurement", *map(str, arguments)], capture_output=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_trial_prints_one_document_and_its_status(artifact):
    status, document = trial("probe", artifact)
    assert (status, document["passed"]) == (0, True)
    status, document = trial("benchmark", artifact, "--seconds", "0.05")
    assert status == 0
    assert document["artifact"] == read_manifest(artifact)[1]
    flip_bit(artifact / "model.bin")
    status, document = trial("probe", artifact)
    assert status == ArtifactError.exit_status
    assert document["error"]["code"] == "artifact-digest-mismatch"
