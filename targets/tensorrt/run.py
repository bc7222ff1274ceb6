"""Load a TensorRT artifact and run it: on a device with TensorRT, or simulated by ONNX Runtime on any host.

- No toolchain is imported, and a runtime only when a session is opened.
- The engine that came with the artifact is used when its runtime, version and GPU generation are this machine's.
  Otherwise one is built from the ONNX model in a child process, and kept in ``$EDGEWRIGHT_CACHE`` (or
  ``~/.cache/edgewright/tensorrt``), because the artifact's own folder never changes.
- An engine says nothing of its bytes being right: digests are checked before this module sees the artifact.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaging.specifiers import SpecifierSet

from edgewright.contracts.errors import ArtifactError, DeviceError
from edgewright.contracts.ids import digest_of
from edgewright.contracts.manifest import Manifest, TensorSpec
from edgewright.contracts.wire import decode
from edgewright.targets.quiet import ThirdPartyError, quiet
from edgewright.targets.session import Arrays, Session
from edgewright.targets.tensorrt.batches import in_batches, one_batch
from edgewright.targets.tensorrt.build import BuildStatus
from edgewright.targets.tensorrt.build_spec import MAX_BATCH, SPEC_NAME, BuildSpec, cache_key
from edgewright.targets.tensorrt.cuda import Cuda, open_cuda
from edgewright.targets.tensorrt.engine import build_engine
from edgewright.targets.tensorrt.files import write_atomically

# The simulation's samples at once: bounds its memory, which runs without graph optimizations.
_SIMULATED_BATCH = 32


@dataclass(frozen=True)
class _Runtime:
    name: str
    version: str
    module: Any


def open_session(root: Path, manifest: Manifest) -> Session:
    """Load the artifact in `root` onto the GPU, building its engine first where none is at hand.

    Raises:
        DeviceError: `runtime-missing`, `no-gpu`, `cuda-failed`, `engine-build-failed`, `artifact-load-failed`.
        UserError: `document-malformed` for a build spec that cannot be read.
    """
    spec = _read_spec(root)
    runtime = _import_runtime(spec, prefer=str(manifest.options.get("engine_runtime", "")))
    cuda = open_cuda()
    path = _engine(root, manifest, spec, runtime, cuda)
    return EngineSession(runtime, cuda, path.read_bytes(), manifest)


def open_simulation(root: Path, manifest: Manifest) -> Session:
    """Load the artifact's ONNX model on ONNX Runtime's CPU backend: the same numbers, not the same speed.

    Raises:
        DeviceError: `runtime-missing` without onnxruntime, `artifact-load-failed`.
    """
    return SimulatedSession(root / manifest.entry, manifest)


class EngineSession:
    """A TensorRT engine on the first GPU (see `Session`)."""

    how = "measured"

    def __init__(self, runtime: _Runtime, cuda: Cuda, engine: bytes, manifest: Manifest) -> None:
        trt = runtime.module
        self.runtime = runtime.name
        self.runtime_version = runtime.version
        self._inputs = manifest.inputs
        self._outputs = manifest.outputs
        self._cuda = cuda
        try:
            with quiet():
                self._logger = trt.Logger(trt.Logger.WARNING)
                # An engine needs the runtime that read it, for as long as it lives.
                self._trt_runtime = trt.Runtime(self._logger)
                self._engine = _given(self._trt_runtime.deserialize_cuda_engine(engine), "engine")
                self._context = _given(self._engine.create_execution_context(), "execution context")
        except ThirdPartyError as refusal:
            raise DeviceError(
                "artifact-load-failed",
                f"{runtime.name} {runtime.version} cannot load the engine",
                found=refusal.found,
                next_step=f"fetch the artifact again, or remove {cache_folder()}, so that the engine is built again",
            ) from refusal
        batch = int(self._engine.get_tensor_shape(manifest.inputs[0].name)[0])
        self._fixed = None if batch == -1 else batch
        self._buffers: dict[str, tuple[int, int]] = {}

    def infer(self, inputs: Arrays) -> Arrays:
        """See `Session.infer`."""
        return in_batches(self._inputs, inputs, self._run, limit=MAX_BATCH, fixed=self._fixed)

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """See `Session.bind`. Copies to the GPU and back are part of what is called."""
        return one_batch(self._inputs, inputs, self._run)

    def _run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
            self._cuda.to_device(self._address(name, array.nbytes), array)
        results = {spec.name: self._output(spec) for spec in self._outputs}
        if not self._context.execute_async_v3(self._cuda.stream):
            raise DeviceError(
                "inference-failed",
                f"{self.runtime} could not run the engine",
                next_step="the log above says why; a full GPU memory is the usual cause",
            )
        for name, array in results.items():
            self._cuda.to_host(array, self._buffers[name][0])
        self._cuda.wait()
        return results

    def _output(self, spec: TensorSpec) -> Any:
        array = np.empty(tuple(self._context.get_tensor_shape(spec.name)), np.dtype(spec.dtype))
        self._address(spec.name, array.nbytes)
        return array

    def _address(self, name: str, size_bytes: int) -> int:
        """The tensor's memory on the device, which only grows."""
        address, size = self._buffers.get(name, (0, 0))
        if size < size_bytes:
            if address:
                self._cuda.free(address)
            address = self._cuda.allocate(size_bytes)
            self._buffers[name] = (address, size_bytes)
            self._context.set_tensor_address(name, address)
        return address


class SimulatedSession:
    """The ONNX model on the CPU (see `Session`)."""

    runtime = "onnxruntime"
    how = "simulated"

    def __init__(self, path: Path, manifest: Manifest) -> None:
        try:
            with quiet():
                ort = importlib.import_module("onnxruntime")
                options = ort.SessionOptions()
                # Its fusions change the arithmetic of Q/DQ models: the simulation is to be what the graph says.
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.intra_op_num_threads = int(manifest.options.get("threads", 1))
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except ThirdPartyError as refusal:
            if isinstance(refusal.cause, ImportError):
                raise _runtime_missing("onnxruntime", refusal.found, "pip install onnxruntime") from refusal
            raise DeviceError(
                "artifact-load-failed",
                f"onnxruntime cannot load {path.name}",
                found=refusal.found,
                next_step="check the artifact's digests, and that this version of onnxruntime reads its opset",
            ) from refusal
        self.runtime_version = str(ort.__version__)
        self._inputs = manifest.inputs
        self._names = [spec.name for spec in manifest.outputs]

        batch = self._session.get_inputs()[0].shape[0]  # a number, or the name of an open dimension
        self._fixed = batch if isinstance(batch, int) else None

    def infer(self, inputs: Arrays) -> Arrays:
        """See `Session.infer`."""
        return in_batches(self._inputs, inputs, self._run, limit=_SIMULATED_BATCH, fixed=self._fixed)

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """See `Session.bind`."""
        return one_batch(self._inputs, inputs, self._run)

    def _run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self._names, self._session.run(self._names, arrays), strict=True))


def _read_spec(root: Path) -> BuildSpec:
    try:
        data = (root / SPEC_NAME).read_bytes()
    except OSError as error:
        raise ArtifactError(
            "artifact-file-missing",
            f"the artifact has no readable {SPEC_NAME}",
            found=str(error),
            next_step="fetch the artifact again",
        ) from None
    return decode(BuildSpec, data, what=SPEC_NAME)


def _import_runtime(spec: BuildSpec, *, prefer: str) -> _Runtime:
    """The first runtime that is installed in a version the spec takes; `prefer` is looked at first."""
    found: dict[str, str] = {}
    for name in sorted(spec.runtimes, key=lambda name: (name != prefer, name)):
        try:
            with quiet():
                module = importlib.import_module(name)
        except ThirdPartyError as refusal:  # not there at all, or without its libraries
            found[name] = refusal.found
            continue
        version = str(module.__version__)
        if version in SpecifierSet(spec.runtimes[name]):
            return _Runtime(name, version, module)
        found[name] = version
    raise _runtime_missing(
        " or ".join(f"{name} {versions}" for name, versions in spec.runtimes.items()),
        ", ".join(f"{name}: {what}" for name, what in found.items()),
        "install TensorRT's Python package (on a Jetson it comes with JetPack: apt install python3-libnvinfer)",
    )


def _given(thing: Any, what: str) -> Any:
    """TensorRT's calls give None where they fail, and say why only in the log."""
    if thing is None:
        raise ValueError(f"it gives no {what}")
    return thing


def _runtime_missing(expected: str, found: str, next_step: str) -> DeviceError:
    return DeviceError(
        "runtime-missing",
        "no runtime that can run this artifact is installed",
        expected=expected,
        found=found,
        next_step=next_step,
    )


def _engine(root: Path, manifest: Manifest, spec: BuildSpec, runtime: _Runtime, cuda: Cuda) -> Path:
    prebuilt = _prebuilt(root, manifest.options, runtime, cuda)
    if prebuilt is not None:
        return prebuilt
    key = cache_key(
        spec, runtime=runtime.name, runtime_version=runtime.version, gpu=cuda.gpu, sm=cuda.sm, driver=cuda.driver
    )
    kept, seal = cache_folder() / f"{key}.plan", cache_folder() / f"{key}.sha256"
    if _is_sealed(kept, seal):
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    build = build_engine(runtime.name, root / spec.onnx, root / SPEC_NAME, kept)
    if build.report.status is not BuildStatus.BUILT:
        raise DeviceError(
            "engine-build-failed",
            f"{runtime.name} {runtime.version} could not build the engine on {cuda.gpu}",
            found=f"{build.report.status}: {build.report.detail[:300]}",
            next_step=f"try it by hand in the artifact's folder: {spec.trtexec}",
        )
    write_atomically(seal, digest_of(kept.read_bytes()).encode())
    return kept


def _is_sealed(engine: Path, seal: Path) -> bool:
    """Whether a kept engine is still what was built: a flipped bit in it changes results without any error."""
    try:
        return digest_of(engine.read_bytes()) == seal.read_text()
    except OSError:
        return False


def _prebuilt(root: Path, options: Mapping[str, object], runtime: _Runtime, cuda: Cuda) -> Path | None:
    """The artifact's own engine, if it is for exactly this runtime and this generation of GPU."""
    made_for = tuple(options.get(name) for name in ("engine_runtime", "engine_version", "engine_sm"))
    return root / str(options["engine"]) if made_for == (runtime.name, runtime.version, cuda.sm) else None


def cache_folder() -> Path:
    """Where engines built on this machine are kept."""
    given = os.environ.get("EDGEWRIGHT_CACHE")
    return Path(given, "tensorrt") if given else Path.home() / ".cache" / "edgewright" / "tensorrt"
