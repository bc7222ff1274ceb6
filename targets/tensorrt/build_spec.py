"""What an engine is built from: written beside the model, read on the device and by whoever builds by hand.

An engine belongs to one runtime release, one GPU and one driver; `cache_key` is what an engine may be kept under.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgewright.contracts.errors import UserError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import Digest, digest_of
from edgewright.contracts.wire import encode

SPEC_NAME = "build_spec.json"
MODEL_NAME = "model.onnx"
BUILD_SPEC_SCHEMA = 1

# What TensorRT-RTX 1.7 can build for (its SM87 and SM90 do not exist).
RTX_SMS = frozenset({75, 80, 86, 89, 120, 121})
# 10.3 is what JetPack 6 brings, and its ONNX parser is the first here that knows opset 21. 12 is not out.
TENSORRT_RANGE = ">=10.3,<12"
# An engine of one TensorRT-RTX release does not load in another; the ONNX beside it does.
RTX_RANGE = ">=1.7,<1.8"

MAX_BATCH = 8
_WORKSPACE_BYTES = 1 << 30
_MIB = 1 << 20

CACHE_KEY_PARTS = ("runtime", "runtime_version", "gpu", "sm", "driver", "spec")


@dataclass(frozen=True, kw_only=True)
class ShapeProfile:
    """The shapes of one dynamic input an engine is built for; it is fastest at `opt`."""

    input: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks = {len(self.min), len(self.opt), len(self.max)}
        if len(ranks) != 1 or not all(
            1 <= low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)
        ):
            raise UserError(
                "build-spec-malformed",
                f"the shapes of input {self.input!r} do not make a profile",
                expected="1 <= min <= opt <= max in every dimension",
                found=f"min {self.min}, opt {self.opt}, max {self.max}",
            )


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One engine, as it is to be built.

    Attributes:
        onnx: the model's file, beside this one.
        onnx_digest: of that file; an engine built from other bytes is another engine.
        sm: CUDA compute capability times ten of the profile.
        runtimes: runtime name to the versions that read this model.
        strongly_typed: the ONNX file's types decide each layer's precision, not the builder.
        profiles: one a dynamic input; empty where every shape is fixed.
        workspace_bytes: scratch memory the builder's choices may need at run time.
        dla_core: None: the GPU, no deep-learning accelerator.
        trtexec: the same build as a command line, for the device's own TensorRT.
        cache_keyed_by: what makes an engine kept on a device valid; any other value is a rebuild.
    """

    onnx: str
    onnx_digest: Digest
    precision: str
    sm: int
    runtimes: dict[str, str]
    profiles: tuple[ShapeProfile, ...]
    workspace_bytes: int
    trtexec: str
    strongly_typed: bool = True
    dla_core: int | None = None
    cache_keyed_by: tuple[str, ...] = field(default=CACHE_KEY_PARTS)
    schema: int = BUILD_SPEC_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != BUILD_SPEC_SCHEMA:
            raise UserError(
                "build-spec-malformed",
                "the build spec is of a schema this version does not read",
                expected=str(BUILD_SPEC_SCHEMA),
                found=str(self.schema),
                next_step="use a version of edgewright that reads it",
            )


def make_spec(
    model: bytes, precision: str, profile: HardwareProfile, sm: int, inputs: Mapping[str, tuple[int, ...]]
) -> BuildSpec:
    """The spec of an engine for `model` (the bytes of the ONNX file) on `profile`, whose GPU is of `sm`.

    `inputs` are the shapes by name; -1 is the batch.
    """
    profiles = tuple(
        ShapeProfile(input=name, min=_at(shape, 1), opt=_at(shape, 1), max=_at(shape, MAX_BATCH))
        for name, shape in inputs.items()
        if -1 in shape
    )
    memory = profile.memory_bytes
    # A quarter of a small board's memory, which its CPU and GPU share.
    workspace = _WORKSPACE_BYTES if memory is None else min(_WORKSPACE_BYTES, memory // 4)
    return BuildSpec(
        onnx=MODEL_NAME,
        onnx_digest=digest_of(model),
        precision=precision,
        sm=sm,
        runtimes=runtimes_for(sm),
        profiles=profiles,
        workspace_bytes=workspace,
        trtexec=trtexec_command(profiles, workspace),
    )


def runtimes_for(sm: int) -> dict[str, str]:
    """The runtimes there are for a GPU, with the versions that read our models."""
    runtimes = {"tensorrt": TENSORRT_RANGE}
    if sm in RTX_SMS:
        runtimes["tensorrt_rtx"] = RTX_RANGE
    return runtimes


def trtexec_command(profiles: Sequence[ShapeProfile], workspace_bytes: int) -> str:
    """The build as a command line of the tool that comes with TensorRT."""
    words = ["trtexec", f"--onnx={MODEL_NAME}", "--saveEngine=model.plan", "--stronglyTyped"]
    for option, which in (("minShapes", "min"), ("optShapes", "opt"), ("maxShapes", "max")):
        shapes = ",".join(f"{_quoted(p.input)}:{'x'.join(map(str, getattr(p, which)))}" for p in profiles)
        if shapes:
            words.append(f"--{option}={shapes}")
    words += [f"--memPoolSize=workspace:{workspace_bytes // _MIB}", "--profilingVerbosity=detailed"]
    return shlex.join(words)


def cache_key(spec: BuildSpec, *, runtime: str, runtime_version: str, gpu: str, sm: int, driver: str) -> str:
    """64 hex digits that an engine on a device is kept under; changes with each of `CACHE_KEY_PARTS`."""
    values = (runtime, runtime_version, gpu, sm, driver, digest_of(encode(spec)))
    return digest_of(encode(dict(zip(CACHE_KEY_PARTS, values, strict=True)))).removeprefix("sha256:")


def _at(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return tuple(batch if size == -1 else size for size in shape)


def _quoted(name: str) -> str:
    # trtexec splits name from shape at the colon, and takes a name that holds one in quotes.
    return f"'{name}'" if ":" in name else name
