"""The build spec: what it says comes back from its file, and what it must not say is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts.errors import UserError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import ProfileId, digest_of
from edgewright.contracts.wire import decode, encode
from edgewright.targets.tensorrt.build_spec import (
    CACHE_KEY_PARTS,
    BuildSpec,
    ShapeProfile,
    cache_key,
    make_spec,
    runtimes_for,
)

ORIN = HardwareProfile(
    id=ProfileId("jetson-orin-nano"),
    name="Jetson Orin Nano",
    machine="aarch64",
    cores=6,
    memory_bytes=2 << 30,
    cpu_flags=(),
    boards=(),
    gpu="Orin",
    sm=87,
    targets=("tensorrt",),
    precisions=("int8",),
    threads=2,
    channel_multiple=16,
    sources={},
)
SPEC = make_spec(b"model", "int8", ORIN, 87, {"image": (-1, 3, 8, 8), "anchors": (5, 4)})
HERE = {"runtime": "tensorrt", "runtime_version": "10.3.0", "gpu": "Orin", "sm": 87, "driver": "12.6"}

sizes = st.integers(1, 4096)


@st.composite
def shape_profiles(draw: st.DrawFn) -> ShapeProfile:
    columns = zip(*draw(st.lists(st.tuples(sizes, sizes, sizes).map(sorted), min_size=1, max_size=5)), strict=True)
    low, best, high = (tuple(column) for column in columns)
    return ShapeProfile(input=draw(st.text(max_size=8)), min=low, opt=best, max=high)


@st.composite
def specs(draw: st.DrawFn) -> BuildSpec:
    return BuildSpec(
        onnx=draw(st.text(max_size=8)),
        onnx_digest=digest_of(draw(st.binary(max_size=8))),
        precision=draw(st.sampled_from(["fp32", "int8"])),
        sm=draw(st.integers(0, 200)),
        runtimes=draw(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)),
        profiles=tuple(draw(st.lists(shape_profiles(), max_size=3))),
        workspace_bytes=draw(st.integers(0, 1 << 40)),
        trtexec=draw(st.text(max_size=40)),
        dla_core=draw(st.none() | st.integers(0, 1)),
    )


@given(specs())
def test_a_spec_comes_back_from_its_file_as_it_was(spec: BuildSpec) -> None:
    assert decode(BuildSpec, encode(spec), what="build_spec.json") == spec


def test_a_spec_of_another_schema_is_refused() -> None:
    newer = encode(SPEC).replace(b'"schema":1', b'"schema":2')
    with pytest.raises(UserError) as caught:
        decode(BuildSpec, newer, what="build_spec.json")
    assert caught.value.code == "build-spec-malformed"


@pytest.mark.parametrize(
    ("low", "best", "high"),
    [((2,), (1,), (8,)), ((1,), (9,), (8,)), ((0,), (1,), (8,)), ((1, 3), (1,), (8, 3))],
    ids=["min above opt", "opt above max", "empty batch", "ranks differ"],
)
def test_shapes_that_make_no_profile_are_refused(
    low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        ShapeProfile(input="image", min=low, opt=best, max=high)
    assert caught.value.code == "build-spec-malformed"


def test_only_dynamic_inputs_get_shapes() -> None:
    assert [(p.input, p.min, p.opt, p.max) for p in SPEC.profiles] == [
        ("image", (1, 3, 8, 8), (1, 3, 8, 8), (8, 3, 8, 8))
    ]


def test_the_trtexec_line_is_the_same_build() -> None:
    assert SPEC.trtexec == (
        "trtexec --onnx=model.onnx --saveEngine=model.plan --stronglyTyped --minShapes=image:1x3x8x8 "
        "--optShapes=image:1x3x8x8 --maxShapes=image:8x3x8x8 --memPoolSize=workspace:512 --profilingVerbosity=detailed"
    )


def test_a_name_with_a_colon_is_quoted_for_trtexec_and_for_the_shell() -> None:
    line = make_spec(b"", "fp32", ORIN, 87, {"in:0": (-1, 4)}).trtexec
    assert """'--minShapes='"'"'in:0'"'"':1x4'""" in line


def test_a_small_board_lends_a_quarter_of_its_memory() -> None:
    assert SPEC.workspace_bytes == (2 << 30) // 4
    assert make_spec(b"", "fp32", replace(ORIN, memory_bytes=None), 87, {}).workspace_bytes == 1 << 30


def test_the_rtx_runtime_is_offered_only_where_it_exists() -> None:
    assert set(runtimes_for(87)) == {"tensorrt"}
    assert set(runtimes_for(89)) == {"tensorrt", "tensorrt_rtx"}


def test_a_cache_key_changes_with_everything_it_is_said_to_depend_on() -> None:
    changed = {"runtime": "tensorrt_rtx", "runtime_version": "10.4.0", "gpu": "Thor", "sm": 110, "driver": "13.0"}
    key = cache_key(SPEC, **HERE)
    keys = {key, cache_key(replace(SPEC, onnx_digest=digest_of(b"other")), **HERE)}
    keys |= {cache_key(SPEC, **(HERE | {part: value})) for part, value in changed.items()}
    assert len(keys) == 1 + len(CACHE_KEY_PARTS)
    assert cache_key(SPEC, **HERE) == key
