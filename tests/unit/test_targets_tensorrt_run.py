"""Sessions on a device, against a GPU and a TensorRT that are only pretended: device memory is the host's, and an
"engine" is the ONNX model itself. What is pretended has no name that the real bindings lack.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgewright.contracts.errors import ArtifactError, DeviceError, UserError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import ProfileId, digest_of
from edgewright.contracts.manifest import (
    FileEntry,
    GoldenProbe,
    Manifest,
    Provenance,
    Quality,
    Requirements,
    TensorSpec,
)
from edgewright.contracts.wire import encode
from edgewright.targets.tensorrt import cuda, run
from edgewright.targets.tensorrt.build import BuildReport, BuildStatus
from edgewright.targets.tensorrt.build_spec import make_spec
from edgewright.targets.tensorrt.engine import Build

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


class FakeDriver:
    """libcuda for one GPU. `free` counts what was given back, `live` holds what was not."""

    def __init__(self, sm: int = 87, fails: str = "") -> None:
        self.sm = sm
        self.fails = fails
        self.live: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return lambda *arguments: 2 if name == self.fails else getattr(self, f"do_{name}")(*arguments) or 0

    def do_cuDeviceGet(self, device: Any, ordinal: int) -> None:  # noqa: N802 - the driver's own names
        device._obj.value = ordinal

    def do_cuDeviceGetName(self, name: Any, size: int, device: Any) -> None:  # noqa: N802
        name.value = b"Pretended GPU"

    def do_cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> None:  # noqa: N802
        value._obj.value = {75: self.sm // 10, 76: self.sm % 10}[number]

    def do_cuDriverGetVersion(self, version: Any) -> None:  # noqa: N802
        version._obj.value = 12060

    def do_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802
        context._obj.value = 1

    def do_cuCtxSetCurrent(self, context: Any) -> None:  # noqa: N802
        assert context.value == 1

    def do_cuStreamCreate(self, stream: Any, flags: int) -> None:  # noqa: N802
        stream._obj.value = 7

    def do_cuStreamSynchronize(self, stream: Any) -> None:  # noqa: N802
        assert stream.value == 7

    def do_cuMemAlloc_v2(self, address: Any, size: Any) -> None:  # noqa: N802
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.live[ctypes.addressof(buffer)] = buffer

    def do_cuMemFree_v2(self, address: Any) -> None:  # noqa: N802
        del self.live[address.value]

    def do_cuMemcpyHtoDAsync_v2(self, address: Any, data: Any, size: Any, stream: Any) -> None:  # noqa: N802
        assert size.value <= len(self.live[address.value])
        ctypes.memmove(address.value, data.value, size.value)

    def do_cuMemcpyDtoHAsync_v2(self, data: Any, address: Any, size: Any, stream: Any) -> None:  # noqa: N802
        assert size.value <= len(self.live[address.value])
        ctypes.memmove(data.value, address.value, size.value)


class FakeContext:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._shapes["x"][0], 3)

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == 7
        (batch, width) = self._shapes["x"]
        raw = ctypes.string_at(self._addresses["x"], 4 * batch * width)
        (y,) = self._session.run(["y"], {"x": np.frombuffer(raw, np.float32).reshape(batch, width)})
        ctypes.memmove(self._addresses["y"], y.ctypes.data, y.nbytes)
        return True


class FakeEngine:
    def __init__(self, data: bytes) -> None:
        self._session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = next(value.shape for value in self._session.get_inputs() if value.name == name)
        return tuple(size if isinstance(size, int) else -1 for size in shape)

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self._session)


class FakeRuntime:
    def __init__(self, logger: object) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
        return None if data == b"broken" else FakeEngine(data)


def fake_tensorrt(version: str) -> Any:
    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            self._severity = severity

    return SimpleNamespace(__version__=version, Logger=Logger, Runtime=FakeRuntime)


def gemm(batch: int | str = "batch") -> bytes:
    """The ONNX model y = x @ WEIGHTS."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [value("x", 1, [batch, 4])],
        [value("y", 1, [batch, 3])],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


ORIN = HardwareProfile(
    id=ProfileId("orin"),
    name="Orin",
    machine="aarch64",
    cores=6,
    memory_bytes=None,
    cpu_flags=(),
    boards=(),
    gpu="Orin",
    sm=87,
    targets=("tensorrt",),
    precisions=("fp32",),
    threads=1,
    channel_multiple=16,
    sources={},
)
NOTHING = digest_of(b"")
MANIFEST = Manifest(
    model="gemm",
    profile=ORIN.id,
    target="tensorrt",
    precision="fp32",
    entry="model.onnx",
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 3)),),
    files=tuple(FileEntry(path=name, digest=NOTHING, size_bytes=0) for name in ("model.onnx", "probe.npz")),
    requirements=Requirements(sm=87),
    probe=GoldenProbe(path="probe.npz", samples=1, atol=0, rtol=0, min_cosine=0),
    quality=Quality(metric="accuracy", value=1, baseline=1, samples=1, how="simulated"),
    provenance=Provenance(source=NOTHING, recipe=NOTHING, passes=(), seed=0, toolchain={}),
)


def write_artifact(root: Path, sm: int = 87, batch: int | str = "batch") -> Path:
    root.mkdir(exist_ok=True)
    model = gemm(batch)
    shape = (-1 if isinstance(batch, str) else batch, 4)
    (root / "model.onnx").write_bytes(model)
    (root / "build_spec.json").write_bytes(encode(make_spec(model, "fp32", ORIN, sm, {"x": shape})))
    return root


class Builder:
    """Counts builds; an engine is the model, or `broken` bytes."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.status = BuildStatus.BUILT

    def __call__(self, runtime: str, onnx: Path, spec: Path, out: Path) -> Build:
        self.built.append(runtime)
        if self.status is BuildStatus.BUILT:
            out.write_bytes(onnx.read_bytes())
        return Build(BuildReport(status=self.status, runtime_version="10.3.0", detail="as it was told"), "")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A machine with a pretended GPU and TensorRT 10.3, and no TensorRT-RTX."""
    driver = FakeDriver()
    monkeypatch.setattr(run, "open_cuda", lambda: cuda.Cuda(driver))
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3.0"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    return driver


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    builder = Builder()
    monkeypatch.setattr(run, "build_engine", builder)
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    return builder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


def samples(count: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)}


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_an_engine_gives_each_sample_its_own_output(
    artifact: Path, driver: FakeDriver, builder: Builder, count: int
) -> None:
    session = run.open_session(artifact, MANIFEST)
    inputs = samples(count)
    np.testing.assert_allclose(session.infer(inputs)["y"], inputs["x"] @ WEIGHTS, rtol=1e-5)
    assert (session.runtime, session.runtime_version, session.how) == ("tensorrt", "10.3.0", "measured")


def test_an_engine_of_a_fixed_batch_takes_any_number_of_samples(
    tmp_path: Path, driver: FakeDriver, builder: Builder
) -> None:
    session = run.open_session(write_artifact(tmp_path / "fixed", batch=4), MANIFEST)
    inputs = samples(6)
    np.testing.assert_allclose(session.infer(inputs)["y"], inputs["x"] @ WEIGHTS, rtol=1e-5)


def test_memory_on_the_device_is_kept_and_grows_only_for_larger_batches(
    artifact: Path, driver: FakeDriver, builder: Builder
) -> None:
    session = run.open_session(artifact, MANIFEST)
    for count in (1, 1, 5, 2):
        session.infer(samples(count))
    assert sorted(map(len, driver.live.values())) == [5 * 3 * 4, 5 * 4 * 4]


def test_a_bound_inference_reads_its_input_each_time(artifact: Path, driver: FakeDriver, builder: Builder) -> None:
    inputs = samples(1)
    infer = run.open_session(artifact, MANIFEST).bind(inputs)
    first = infer()
    inputs["x"][:] = 1.0
    second = infer()
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    np.testing.assert_allclose(second["y"], np.ones((1, 4), np.float32) @ WEIGHTS)
    assert not np.allclose(first["y"], second["y"])


@pytest.mark.parametrize("open_it", [run.open_session, run.open_simulation], ids=["device", "simulated"])
def test_an_input_of_another_shape_is_refused(
    artifact: Path, driver: FakeDriver, builder: Builder, open_it: Any
) -> None:
    session = open_it(artifact, MANIFEST)
    with pytest.raises(UserError) as caught:
        session.infer({"x": np.zeros((1, 5), np.float32)})
    assert caught.value.code == "input-mismatch"


def test_an_engine_is_built_once_and_kept(artifact: Path, driver: FakeDriver, builder: Builder) -> None:
    for _ in range(2):
        run.open_session(artifact, MANIFEST)
    assert builder.built == ["tensorrt"]
    assert {path.name for path in artifact.iterdir()} == {"model.onnx", "build_spec.json"}


def test_a_kept_engine_with_a_flipped_bit_is_built_again(artifact: Path, driver: FakeDriver, builder: Builder) -> None:
    run.open_session(artifact, MANIFEST)
    (kept,) = run.cache_folder().glob("*.plan")
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    run.open_session(artifact, MANIFEST)
    assert builder.built == ["tensorrt", "tensorrt"]


def test_another_runtime_version_is_another_engine(
    artifact: Path, driver: FakeDriver, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.open_session(artifact, MANIFEST)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.4.0"))
    run.open_session(artifact, MANIFEST)
    assert len(builder.built) == 2


PREBUILT = {
    "engine": "engine.plan",
    "engine_runtime": "tensorrt_rtx",
    "engine_version": "1.7.1.116",
    "engine_sm": 89,
}


@pytest.mark.parametrize(
    ("version", "sm", "builds"),
    [("1.7.1.116", 89, []), ("1.7.2", 89, ["tensorrt_rtx"]), ("1.7.1.116", 86, ["tensorrt_rtx"])],
    ids=["the very same", "another release", "another gpu"],
)
def test_the_artifacts_own_engine_is_used_where_it_fits(
    tmp_path: Path,
    driver: FakeDriver,
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    sm: int,
    builds: list[str],
) -> None:
    root = write_artifact(tmp_path / "rtx", sm=89)
    (root / "engine.plan").write_bytes(gemm())
    driver.sm = sm
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt(version))
    session = run.open_session(root, replace(MANIFEST, options=dict(PREBUILT)))
    assert session.runtime == "tensorrt_rtx"
    assert builder.built == builds


def test_a_build_that_fails_says_how_to_try_it_by_hand(artifact: Path, driver: FakeDriver, builder: Builder) -> None:
    builder.status = BuildStatus.FAILED
    with pytest.raises(DeviceError) as caught:
        run.open_session(artifact, MANIFEST)
    assert caught.value.code == "engine-build-failed"
    assert "trtexec --onnx=model.onnx" in str(caught.value.next_step)


def test_an_engine_the_runtime_cannot_read_is_an_error_of_the_device(
    tmp_path: Path, driver: FakeDriver, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_artifact(tmp_path / "rtx", sm=89)
    (root / "engine.plan").write_bytes(b"broken")
    driver.sm = 89
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt("1.7.1.116"))
    with pytest.raises(DeviceError) as caught:
        run.open_session(root, replace(MANIFEST, options=dict(PREBUILT)))
    assert caught.value.code == "artifact-load-failed"


def test_without_a_runtime_the_error_names_those_that_would_do(
    artifact: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError) as caught:
        run.open_session(artifact, MANIFEST)
    assert caught.value.code == "runtime-missing"
    assert caught.value.expected == "tensorrt >=10.3,<12"


def test_a_runtime_too_old_is_a_missing_one(
    artifact: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("8.6.2"))
    with pytest.raises(DeviceError) as caught:
        run.open_session(artifact, MANIFEST)
    assert (caught.value.code, caught.value.found) == ("runtime-missing", "tensorrt: 8.6.2")


def test_without_a_driver_there_is_no_gpu(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ctypes.CDLL

    def without_libcuda(name: str | None) -> Any:
        if name == "libcuda.so.1":
            raise OSError(f"{name}: cannot open shared object file")
        return real(name)

    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3.0"))
    monkeypatch.setattr(ctypes, "CDLL", without_libcuda)
    with pytest.raises(DeviceError) as caught:
        run.open_session(artifact, MANIFEST)
    assert caught.value.code == "no-gpu"
    assert "libcuda.so.1" in str(caught.value.found)


def test_a_call_the_driver_refuses_is_named(artifact: Path, driver: FakeDriver, builder: Builder) -> None:
    session = run.open_session(artifact, MANIFEST)
    driver.fails = "cuMemAlloc_v2"
    with pytest.raises(DeviceError) as caught:
        session.infer(samples(1))
    assert caught.value.code == "cuda-failed"
    assert "cuMemAlloc_v2" in caught.value.what


def test_the_gpu_is_described_as_fingerprints_and_caches_need_it() -> None:
    gpu = cuda.Cuda(FakeDriver(sm=120))
    assert (gpu.gpu, gpu.sm) == ("Pretended GPU", 120)
    assert gpu.driver.startswith("12.6")


def test_an_artifact_without_its_build_spec_is_broken(artifact: Path, driver: FakeDriver) -> None:
    (artifact / "build_spec.json").unlink()
    with pytest.raises(ArtifactError) as caught:
        run.open_session(artifact, MANIFEST)
    assert caught.value.code == "artifact-file-missing"


def test_a_model_the_simulation_cannot_read_is_an_error_of_the_device(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"\xff broken")
    with pytest.raises(DeviceError) as caught:
        run.open_simulation(artifact, MANIFEST)
    assert caught.value.code == "artifact-load-failed"


def test_what_is_pretended_exists_in_the_real_bindings() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed", exc_type=ImportError)
    pairs = ((FakeContext, trt.IExecutionContext), (FakeEngine, trt.ICudaEngine), (FakeRuntime, trt.Runtime))
    for fake, real in pairs:
        assert {name for name in vars(fake) if not name.startswith("_")} <= set(dir(real))
    assert set(vars(fake_tensorrt("1"))) <= set(dir(trt))


def test_importing_run_loads_no_toolchain_and_no_runtime() -> None:
    code = (
        "import sys, edgewright.targets.tensorrt.run;"
        "heavy = {'torch', 'torchao', 'onnx', 'onnxruntime', 'onnxscript', 'tensorrt', 'tensorrt_rtx'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"
