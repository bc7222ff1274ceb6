"""The files a device gets: the model, how to build it, and where TensorRT-RTX can, the engine itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import Option, Requirements
from edgewright.contracts.wire import encode
from edgewright.targets.protocol import Lowered, Packaged, SourceModel
from edgewright.targets.tensorrt.build import BuildStatus
from edgewright.targets.tensorrt.build_spec import MODEL_NAME, SPEC_NAME, make_spec
from edgewright.targets.tensorrt.engine import Build, build_engine
from edgewright.targets.tensorrt.engine_check import layers_not_int8, layers_without_weights, quantized_layers
from edgewright.targets.tensorrt.files import write_atomically
from edgewright.targets.tensorrt.lint import check
from edgewright.targets.tensorrt.onnx_file import input_shapes, read_model

_RTX = "tensorrt_rtx"
_ON_DEVICE = "the device builds its engine from the ONNX model when it first loads the artifact"
_TOOLS = ("onnx", "onnxruntime", "onnxscript", "torch", "torchao")
# Read by the parser, copied by the builder, and once more in the engine; without the CUDA context.
_COPIES_IN_MEMORY = 3


def package(
    source: SourceModel,  # noqa: ARG001 - everything a device needs stands in the ONNX file
    lowered: Lowered,
    profile: HardwareProfile,
    dest: Path,
) -> Packaged:
    """Put the model, its build spec and, where one can be built here, an engine into `dest`.

    Raises:
        CompileError: `package-failed` for a profile without a CUDA GPU, `unsupported-op` when TensorRT's parser
            refuses the model, `tensorrt-lint`.
    """
    if profile.sm is None:
        raise CompileError(
            "package-failed",
            f"the profile {profile.id} has no CUDA GPU, which TensorRT needs",
            expected="a profile with an `sm`",
            next_step="take tensorrt out of the profile's targets",
        )
    model = lowered.path.read_bytes()
    graph = read_model(lowered.path)
    check(graph)
    onnx, spec_path = dest / MODEL_NAME, dest / SPEC_NAME
    spec = make_spec(model, lowered.precision, profile, profile.sm, input_shapes(graph))
    write_atomically(onnx, model)
    write_atomically(spec_path, encode(spec))

    engine = _prebuild(onnx, spec_path, profile.sm, dest)
    options: dict[str, Option] = {"threads": profile.threads}
    toolchain = {name: metadata.version(name) for name in _TOOLS}
    if engine.file is not None:
        options |= {"engine": engine.file.name, "engine_runtime": _RTX, "engine_sm": profile.sm}
        options["engine_version"] = toolchain["tensorrt-rtx"] = engine.version
    return Packaged(
        files=(onnx, spec_path) + ((engine.file,) if engine.file is not None else ()),
        entry=MODEL_NAME,
        requirements=Requirements(
            machine=(profile.machine,),
            runtimes=spec.runtimes,
            memory_bytes=_COPIES_IN_MEMORY * len(model),
            sm=profile.sm,
        ),
        options=options,
        toolchain=toolchain,
        findings=engine.findings,
    )


@dataclass(frozen=True)
class _Prebuilt:
    """The engine, if one could be built here and is right, and what there is to say of it."""

    findings: tuple[Finding, ...]
    file: Path | None = None
    version: str = ""


def _prebuild(onnx: Path, spec: Path, sm: int, dest: Path) -> _Prebuilt:
    out = dest / "engine.plan"
    build = build_engine(_RTX, onnx, spec, out, for_sm=sm)
    report = build.report
    if report.status is BuildStatus.REFUSED:
        raise CompileError(
            "unsupported-op",
            f"TensorRT's parser refuses {', '.join(report.nodes[:3]) or 'the model'}",
            found=report.detail[:500],
            next_step="replace the operation in the model, or choose another target for this profile",
        )
    if report.status is not BuildStatus.BUILT:
        return _Prebuilt((_not_built(report.status, sm, build),))
    layers = quantized_layers(read_model(onnx))
    absent = layers_without_weights(out.read_bytes(), layers)
    if absent:
        out.unlink()
        return _Prebuilt((_wrong_weights(absent),))
    version = report.runtime_version or ""
    named = out.replace(dest / f"engine-sm{sm}-rtx{version}.plan")
    return _Prebuilt(_built(sm, build, layers_not_int8(build.log, layers), len(layers)), named, version)


def _wrong_weights(layers: tuple[str, ...]) -> Finding:
    return Finding(
        code="tensorrt-engine-weights",
        message=f"the engine built here does not hold the weights of {len(layers)} layers and was left out: "
        f"{', '.join(layers[:5])}",
        where=layers[0],
        next_step=f"{_ON_DEVICE}; the golden probe shows there whether that engine is right",
    )


def _not_built(status: BuildStatus, sm: int, build: Build) -> Finding:
    if status is BuildStatus.RUNTIME_MISSING:
        return Finding(
            code="tensorrt-rtx-missing",
            message=f"no engine was built ahead of time: {build.report.detail[:200]}",
            severity=Severity.INFO,
            next_step=f"pip install 'edgewright[tensorrt-rtx]' to build it here; without it {_ON_DEVICE}",
        )
    if status is BuildStatus.SM_UNSUPPORTED:
        return Finding(
            code="tensorrt-engine-on-device",
            message=f"TensorRT-RTX {build.report.runtime_version} builds no engine for SM {sm}; {_ON_DEVICE}",
            severity=Severity.INFO,
        )
    return Finding(
        code="tensorrt-engine-failed",
        message=f"no engine was built ahead of time: {build.report.detail[:300]}",
        next_step=f"{_ON_DEVICE}, if its builder does better",
    )


def _built(sm: int, build: Build, floats: tuple[str, ...], quantized: int) -> tuple[Finding, ...]:
    made = Finding(
        code="tensorrt-engine-prebuilt",
        message=f"engine for SM {sm} by TensorRT-RTX {build.report.runtime_version}"
        + (f": {quantized - len(floats)} of {quantized} quantized layers run in INT8" if quantized else ""),
        severity=Severity.INFO,
    )
    if not floats:
        return (made,)
    slow = Finding(
        code="tensorrt-not-int8",
        message=f"{len(floats)} of {quantized} quantized layers do not run in INT8 on SM {sm}: {', '.join(floats[:5])}",
        where=floats[0],
        next_step="compare its latency with the float artifact's before you roll it out",
    )
    return made, slow
