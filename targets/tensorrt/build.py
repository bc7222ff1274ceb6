"""Builds one engine: ``python -m edgewright.targets.tensorrt.build RUNTIME ONNX SPEC OUT [--for-sm SM]``.

A program of its own, because a builder may crash, hang or fill the memory. It writes the engine to OUT (its caller
gives a path nobody reads yet), the builder's verbose log to stderr, and one JSON line to stdout: a `BuildReport`.
It imports no other toolchain, so that the same program builds on a device.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgewright.contracts.wire import decode, encode
from edgewright.targets.tensorrt.build_spec import BuildSpec


class BuildStatus(StrEnum):
    """How a build ended."""

    BUILT = "built"
    RUNTIME_MISSING = "runtime-missing"
    SM_UNSUPPORTED = "sm-unsupported"
    REFUSED = "refused"  # the parser does not take the model
    FAILED = "failed"
    TIMED_OUT = "timed-out"


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build came to. `detail` is for a person; `nodes` are those the parser refused."""

    status: BuildStatus
    runtime_version: str | None = None
    detail: str = ""
    nodes: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 whenever a report was written."""
    parser = argparse.ArgumentParser(prog="edgewright.targets.tensorrt.build")
    parser.add_argument("runtime", choices=("tensorrt", "tensorrt_rtx"))
    parser.add_argument("onnx", type=Path)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--for-sm", type=int, help="build for this GPU generation; without it, for the GPU that is here"
    )
    args = parser.parse_args(argv)
    # Builders print to stdout as they like; the report must be alone there.
    report_fd = os.dup(1)
    os.dup2(2, 1)
    spec = decode(BuildSpec, args.spec.read_bytes(), what=args.spec.name)
    report = build(args.runtime, args.onnx, spec, args.out, args.for_sm)
    with os.fdopen(report_fd, "wb") as stream:
        stream.write(encode(report) + b"\n")
    return 0


def build(runtime: str, onnx: Path, spec: BuildSpec, out: Path, for_sm: int | None) -> BuildReport:
    """Build, in this process, the engine that `spec` describes."""
    try:
        trt = importlib.import_module(runtime)
    except (ImportError, OSError) as error:  # OSError: the package is there and its libraries are not
        return BuildReport(status=BuildStatus.RUNTIME_MISSING, detail=f"{type(error).__name__}: {error}")
    version = str(trt.__version__)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 11 knows no other kind of network, and no flag for it.
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        return BuildReport(
            status=BuildStatus.REFUSED,
            runtime_version=version,
            detail="; ".join(str(error.desc()) for error in errors[:3]),
            nodes=tuple(f"{error.node_operator()} ({error.node_name()})" for error in errors if error.node_operator()),
        )
    config = _config(trt, builder, spec)
    if for_sm is not None and not _set_sm(trt, config, for_sm):
        return BuildReport(
            status=BuildStatus.SM_UNSUPPORTED,
            runtime_version=version,
            detail=f"{runtime} {version} builds for no SM {for_sm} GPU",
        )
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return BuildReport(status=BuildStatus.FAILED, runtime_version=version, detail="the builder gave no engine")
    out.write_bytes(engine)
    return BuildReport(status=BuildStatus.BUILT, runtime_version=version)


def _config(trt: Any, builder: Any, spec: BuildSpec) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace_bytes)
    if spec.profiles:
        shapes = builder.create_optimization_profile()
        for profile in spec.profiles:
            shapes.set_shape(profile.input, profile.min, profile.opt, profile.max)
        config.add_optimization_profile(shapes)
    return config


def _set_sm(trt: Any, config: Any, sm: int) -> bool:
    capability = getattr(getattr(trt, "ComputeCapability", None), f"SM{sm}", None)
    if capability is None:
        return False
    config.num_compute_capabilities = 1
    return bool(config.set_compute_capability(capability, 0))


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):
        def log(self, severity: Any, message: str) -> None:
            sys.stderr.write(f"{severity.name} {message}\n")

    return Logger()


if __name__ == "__main__":
    sys.exit(main())
