"""A TensorRT artifact on a real GPU: its outputs are those of its simulation. Skipped where there is no GPU."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import ProfileId, digest_of
from edgewright.contracts.manifest import FileEntry, GoldenProbe, Manifest, Provenance, Quality, TensorSpec
from edgewright.targets.protocol import SourceModel
from edgewright.targets.tensorrt.cuda import Cuda, open_cuda
from edgewright.targets.tensorrt.run import open_session, open_simulation


@pytest.fixture(scope="module")
def gpu() -> Cuda:
    if find_spec("tensorrt") is None and find_spec("tensorrt_rtx") is None:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed")
    try:
        return open_cuda()
    except DeviceError as error:
        pytest.skip(f"no CUDA GPU here: {error.found}")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_gpu_computes_what_the_simulation_computes(
    gpu: Cuda, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from edgewright.targets.tensorrt.lower import lower
    from edgewright.targets.tensorrt.package import package
    from edgewright.targets.tensorrt.quantize import quantize

    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3), torch.nn.Flatten()
    )
    samples = np.random.default_rng(0).normal(size=(20, 3, 16, 16)).astype(np.float32)
    source = SourceModel(
        name="model",
        module=conv.eval(),
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 3, 16, 16)),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1, 6272)),),
        example={"x": samples[:1]},
    )
    profile = HardwareProfile(
        id=ProfileId("this-gpu"),
        name=gpu.gpu,
        machine="x86_64",
        cores=1,
        memory_bytes=None,
        cpu_flags=(),
        boards=(),
        gpu=gpu.gpu,
        sm=gpu.sm,
        targets=("tensorrt",),
        precisions=("int8", "fp32"),
        threads=1,
        channel_multiple=16,
        sources={},
    )
    lowered = lower(source, profile, tmp_path)
    if precision == "int8":
        lowered = quantize(source, lowered, {"x": samples}, profile, tmp_path, lambda *_: None)
    root = tmp_path / "artifact"
    root.mkdir()
    packaged = package(source, lowered, profile, root)
    nothing = digest_of(b"")
    manifest = Manifest(
        model="model",
        profile=profile.id,
        target="tensorrt",
        precision=precision,
        entry=packaged.entry,
        inputs=source.inputs,
        outputs=source.outputs,
        files=tuple(FileEntry(path=name, digest=nothing, size_bytes=0) for name in (packaged.entry, "probe.npz")),
        requirements=packaged.requirements,
        probe=GoldenProbe(path="probe.npz", samples=1, atol=0, rtol=0, min_cosine=0),
        quality=Quality(metric="accuracy", value=1, baseline=1, samples=1, how="simulated"),
        provenance=Provenance(source=nothing, recipe=nothing, passes=(), seed=0, toolchain={}),
        options=packaged.options,
    )
    expected = open_simulation(root, manifest).infer({"x": samples})["output_0"]
    for attempt in (manifest, replace(manifest, options={})):  # the engine that came along, and one built here
        outputs = open_session(root, attempt).infer({"x": samples})["output_0"]
        cosine = (outputs * expected).sum() / np.linalg.norm(outputs) / np.linalg.norm(expected)
        assert cosine > 0.999
