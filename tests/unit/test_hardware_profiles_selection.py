"""Which artifact a machine gets: never one it cannot run, and always the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.hardware import Fingerprint, Gpu
from edgewright.contracts.ids import Digest, ProfileId
from edgewright.contracts.manifest import Requirements
from edgewright.contracts.messages import Candidate
from edgewright.hardware_profiles.matching import match
from edgewright.hardware_profiles.schema import load_profiles
from edgewright.hardware_profiles.selection import choose, incompatibilities

MIB, GIB = 1024**2, 1024**3
PROFILES = load_profiles()
AVX2 = ("avx2", "fma")
VNNI = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
ARM = ("asimd",)
DOT = ("asimd", "asimddp")

OPENVINO = {"openvino": ">=2026.0,<2027"}
TFLITE = {"tflite": ">=2.0,<3"}
TENSORRT = {"tensorrt": ">=10.3,<11", "tensorrt_rtx": ">=1.7,<1.8"}


def machine(
    architecture: str,
    flags: tuple[str, ...],
    runtimes: Mapping[str, str],
    *,
    board: str | None = None,
    cpu: str = "some CPU",
    sm: int | None = None,
    memory_bytes: int = 4 * GIB,
) -> Fingerprint:
    return Fingerprint(
        machine=architecture,
        cpu_model=cpu,
        cores=4,
        cpu_flags=flags,
        memory_bytes=memory_bytes,
        board=board,
        gpu=None if sm is None else Gpu(name="GPU", sm=sm, driver="1", memory_bytes=8 * GIB),
        os="Debian GNU/Linux 12 (bookworm)",
        glibc="2.36",
        python="3.11.2",
        runtimes=dict(runtimes),
    )


def candidate(
    profile: str,
    target: str,
    runtimes: Mapping[str, str],
    *,
    precision: str = "int8",
    machine: str,
    flags: tuple[str, ...] = (),
    sm: int | None = None,
    memory_bytes: int = 64 * MIB,
    size_bytes: int = 1000,
    number: int = 0,
) -> Candidate:
    return Candidate(
        artifact=Digest(f"sha256:{number:064x}"),
        profile=ProfileId(profile),
        target=target,
        precision=precision,
        size_bytes=size_bytes,
        requirements=Requirements(
            machine=(machine,), cpu_flags=flags, runtimes=dict(runtimes), memory_bytes=memory_bytes, sm=sm
        ),
    )


# A release with everything, and machines of all kinds.
X86, A64 = "x86_64", "aarch64"
CANDIDATES: Mapping[str, Candidate] = {
    "a": candidate("raspberry-pi-3", "tflite", TFLITE, machine=A64, flags=ARM, number=1),
    "b": candidate("raspberry-pi-4", "tflite", TFLITE, machine=A64, flags=ARM, number=2),
    "c": candidate("raspberry-pi-5", "tflite", TFLITE, machine=A64, flags=DOT, number=3),
    "d": candidate("jetson-orin-nano", "tensorrt", TENSORRT, machine=A64, flags=ARM, sm=87, number=4),
    "e": candidate("jetson-orin-nano", "tflite", TFLITE, machine=A64, flags=ARM, number=5),
    "f": candidate("intel-n100", "openvino", OPENVINO, machine=X86, flags=AVX2, number=6),
    "g": candidate("x86-64-avx512-vnni", "openvino", OPENVINO, machine=X86, flags=VNNI, number=7),
    "h": candidate("x86-64-avx512-vnni", "tflite", TFLITE, machine=X86, flags=AVX2, number=8),
    "i": candidate("x86-64-avx2", "tflite", TFLITE, machine=X86, flags=AVX2, number=9),
    "j": candidate("x86-64-avx2", "openvino", OPENVINO, machine=X86, flags=AVX2, precision="fp32", number=10),
    "k": candidate("rtx-4060", "tensorrt", TENSORRT, machine=X86, flags=(), sm=89, number=11),
    "l": candidate("rtx-4060", "openvino", OPENVINO, machine=X86, flags=AVX2, number=12),
    "m": candidate("aarch64", "tflite", TFLITE, machine=A64, flags=ARM, number=13),
    "n": candidate("aarch64", "tflite", TFLITE, machine=A64, precision="fp32", memory_bytes=2 * GIB, number=14),
}
LITERT, OV = {"tflite": "2.3.0"}, {"openvino": "2026.4.1"}
MACHINES: Mapping[str, Fingerprint] = {
    "Pi 4, 1 GB": machine(A64, ARM, LITERT, board="Raspberry Pi 4 Model B Rev 1.5", memory_bytes=920 * MIB),
    "Pi 5": machine(A64, DOT, LITERT, board="Raspberry Pi 5 Model B Rev 1.0"),
    "Pi 5, old runtime": machine(A64, DOT, {"tflite_runtime": "2.14.0"}, board="Raspberry Pi 5 Model B Rev 1.0"),
    "Orin": machine(A64, DOT, {"tensorrt": "10.3.0", **LITERT}, board="NVIDIA Jetson Orin Nano", sm=87),
    "Orin, LiteRT": machine(A64, DOT, LITERT, board="NVIDIA Jetson Orin Nano", sm=87),
    "Orin, TensorRT 11": machine(A64, DOT, {"tensorrt": "11.0.0", **LITERT}, board="NVIDIA Jetson Orin Nano", sm=87),
    "Zero 2 W": machine(A64, ARM, LITERT, board="Raspberry Pi Zero 2 W Rev 1.0", memory_bytes=460 * MIB),
    "N100": machine(X86, (*AVX2, "avx_vnni"), OV, cpu="Intel(R) N100"),
    "N100, LiteRT": machine(X86, (*AVX2, "avx_vnni"), LITERT, cpu="Intel(R) N100"),
    "VNNI": machine(X86, VNNI, {**OV, **LITERT}),
    "VNNI, LiteRT": machine(X86, VNNI, LITERT),
    "VNNI, old OpenVINO": machine(X86, VNNI, {"openvino": "2025.4.0", **LITERT}),
    "Haswell": machine(X86, AVX2, {**OV, **LITERT}),
    "RTX": machine(X86, AVX2, {"tensorrt_rtx": "1.7.1.116", **OV, **LITERT}, sm=89),
    "RTX, newer": machine(X86, AVX2, {"tensorrt_rtx": "1.8.0", **OV}, sm=89),
    "H200, TensorRT": machine(X86, VNNI, {"tensorrt": "10.3.0"}, sm=90),
    "no AVX2": machine(X86, ("sse4_2",), {**OV, **LITERT}),
    "bare": machine(X86, VNNI, {}),
}
# One row a machine: what it can run of the release, and what it gets. Written by hand from the two tables above.
TABLE: Mapping[str, tuple[str, str | None]] = {
    #                      abcdefghijklmn
    "Pi 4, 1 GB":         (".x..........x.", "b"),
    "Pi 5":               ("..x.........xx", "c"),
    "Pi 5, old runtime":  ("..............", None),
    "Orin":               ("...xx.......xx", "d"),
    "Orin, LiteRT":       ("....x.......xx", "e"),
    "Orin, TensorRT 11":  ("....x.......xx", "e"),
    "Zero 2 W":           ("............x.", "m"),
    "N100":               (".....x...x....", "f"),
    "N100, LiteRT":       ("........x.....", "i"),
    "VNNI":               ("......xxxx....", "g"),
    "VNNI, LiteRT":       (".......xx.....", "h"),
    "VNNI, old OpenVINO": (".......xx.....", "h"),
    "Haswell":            ("........xx....", "i"),
    "RTX":                ("........xxxx..", "k"),
    "RTX, newer":         (".........x.x..", "l"),
    "H200, TensorRT":     ("..............", None),
    "no AVX2":            ("..............", None),
    "bare":               ("..............", None),
}  # fmt: skip


def test_the_table_is_complete() -> None:
    assert TABLE.keys() == MACHINES.keys()
    assert all(len(row) == len(CANDIDATES) for row, _ in TABLE.values())


@pytest.mark.parametrize("name", TABLE)
def test_machine_gets(name: str) -> None:
    _, expected = TABLE[name]
    if expected is None:
        with pytest.raises(DeviceError):
            choose(tuple(CANDIDATES.values()), MACHINES[name], PROFILES)
    else:
        assert choose(tuple(CANDIDATES.values()), MACHINES[name], PROFILES).candidate == CANDIDATES[expected]


@pytest.mark.parametrize("name", TABLE)
def test_machine_can_run_exactly(name: str) -> None:
    row = ""
    for offered in CANDIDATES.values():
        try:
            row += "x" if choose((offered,), MACHINES[name], PROFILES).candidate == offered else "?"
        except DeviceError as error:
            assert error.code == "no-artifact-fits"
            row += "."
    assert row == TABLE[name][0]


@pytest.mark.parametrize("name", [name for name, (_, expected) in TABLE.items() if expected is not None])
def test_refused_are_exactly_those_that_cannot_run(name: str) -> None:
    refused = choose(tuple(CANDIDATES.values()), MACHINES[name], PROFILES).refused
    cannot = {CANDIDATES[letter].artifact for letter, can in zip(CANDIDATES, TABLE[name][0], strict=True) if can == "."}
    assert {offered.artifact for offered, _ in refused} == cannot
    assert all(why for _, why in refused)


def test_without_its_best_artifact_a_machine_gets_the_next_and_is_told_why() -> None:
    offered = (CANDIDATES["f"], CANDIDATES["i"])
    choice = choose(offered, MACHINES["N100, LiteRT"], PROFILES)
    assert choice.candidate == CANDIDATES["i"]
    assert choice.reasons[0] == "profile intel-n100 would fit better: nothing made for it can run here"
    assert choice.reasons[1].startswith("profile x86-64-avx2 fits, and is the best left: ")
    assert choice.refused == ((CANDIDATES["f"], "openvino >=2026.0,<2027 is not available here"),)


def test_profile_that_the_release_left_out_is_named() -> None:
    choice = choose((CANDIDATES["m"],), MACHINES["Pi 5"], PROFILES)
    assert choice.reasons[0] == "profile raspberry-pi-5 would fit better: the release has nothing for it"


def test_nothing_fits_says_why_for_each() -> None:
    with pytest.raises(DeviceError) as caught:
        choose((CANDIDATES["g"], CANDIDATES["b"], CANDIDATES["j"]), MACHINES["bare"], PROFILES)
    assert caught.value.code == "no-artifact-fits"
    text = str(caught.value)
    assert "raspberry-pi-4 tflite int8 (000000000000): it is some CPU, not Raspberry Pi 4 Model B; machine is" in text
    assert "x86-64-avx512-vnni openvino int8 (000000000000): openvino >=2026.0,<2027 is not available here" in text
    assert "x86-64-avx2 openvino fp32" in text


def test_release_without_artifacts_fits_nothing() -> None:
    with pytest.raises(DeviceError, match="no-artifact-fits") as caught:
        choose((), MACHINES["VNNI"], PROFILES)
    assert caught.value.found == "the release has no artifacts"


def test_candidate_for_an_unknown_profile_is_refused() -> None:
    stranger = replace(CANDIDATES["i"], profile=ProfileId("coral-dev-board"))
    choice = choose((stranger, CANDIDATES["j"]), MACHINES["Haswell"], PROFILES)
    assert choice.refused == ((stranger, "profile coral-dev-board is not known here"),)


def test_runtime_that_is_not_allowed_counts_as_not_installed() -> None:
    everything = tuple(CANDIDATES.values())
    assert choose(everything, MACHINES["VNNI"], PROFILES, ("tflite",)).candidate == CANDIDATES["h"]
    with pytest.raises(DeviceError):
        choose(everything, MACHINES["VNNI"], PROFILES, ())


INT8 = candidate("x86-64-avx512-vnni", "openvino", OPENVINO, machine=X86, size_bytes=2000, number=9)


@pytest.mark.parametrize(
    ("rival", "reason"),
    [
        (replace(INT8, target="tflite", size_bytes=1), "openvino comes first of its targets"),
        (replace(INT8, target="unlisted", size_bytes=1), "openvino comes first of its targets"),
        (replace(INT8, precision="fp32", size_bytes=1), "int8 comes first of its precisions"),
        (replace(INT8, precision="int4", size_bytes=1), "int8 comes first of its precisions"),
        (replace(INT8, size_bytes=2001, artifact=Digest("sha256:" + "0" * 64)), "it is the smallest"),
        (replace(INT8, artifact=Digest("sha256:" + "f" * 64)), "it is the smallest"),
    ],
    ids=["target", "unlisted target", "precision", "unlisted precision", "size", "digest"],
)
def test_preference_within_a_profile(rival: Candidate, reason: str) -> None:
    machine_ = MACHINES["VNNI"]
    for offered in ((INT8, rival), (rival, INT8)):
        choice = choose(offered, machine_, PROFILES)
        assert choice.candidate == INT8
        assert choice.reasons[-1].startswith(reason)


def test_two_that_claim_one_digest_are_still_in_order() -> None:
    twin = replace(INT8, requirements=Requirements())
    assert choose((INT8, twin), MACHINES["VNNI"], PROFILES) == choose((twin, INT8), MACHINES["VNNI"], PROFILES)


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        (Requirements(), None),
        (Requirements(machine=("x86_64", "aarch64")), None),
        (Requirements(machine=("aarch64", "armv7l")), "it is for aarch64 or armv7l, this is x86_64"),
        (Requirements(cpu_flags=("avx2", "amx_int8", "amx_tile")), "the CPU lacks amx_int8, amx_tile"),
        (Requirements(runtimes={"openvino": ""}), None),
        (Requirements(runtimes={"openvino": ">=2026.4,<2027"}), None),
        (Requirements(runtimes={"openvino": "<2026"}), "openvino is 2026.4.1, not <2026"),
        (Requirements(runtimes={"tensorrt": "", "openvino": ">=2026"}), None),
        (Requirements(runtimes={"tensorrt": ">=10", "tflite": ">=3"}),
         "tensorrt >=10 is not available here and tflite is 2.3.0, not >=3"),
        (Requirements(runtimes={"openvino": "newest"}),
         "openvino 2026.4.1 cannot be compared with 'newest': Invalid specifier: 'newest'"),
        (Requirements(memory_bytes=4 * GIB), None),
        (Requirements(memory_bytes=4 * GIB + 1), "it needs 4097 MiB of memory, 4096 MiB are there"),
        (Requirements(sm=89), "it needs a GPU of SM 89, there is none"),
    ],
)  # fmt: skip
def test_requirement(requirements: Requirements, expected: str | None) -> None:
    assert incompatibilities(requirements, MACHINES["VNNI"]) == ((expected,) if expected else ())


def test_compute_capability_must_be_equal() -> None:
    for sm, runs in ((86, False), (89, True), (90, False)):
        assert (incompatibilities(Requirements(sm=sm), MACHINES["RTX"]) == ()) is runs


def test_installed_pre_release_counts() -> None:
    nightly = replace(MACHINES["VNNI"], runtimes={"openvino": "2026.5.0.dev20261101"})
    assert incompatibilities(Requirements(runtimes=OPENVINO), nightly) == ()


def test_version_that_is_none_is_refused_and_not_an_accident() -> None:
    odd = replace(MACHINES["VNNI"], runtimes={"openvino": "custom build"})
    (why,) = incompatibilities(Requirements(runtimes=OPENVINO), odd)
    assert "custom build" in why


def test_unknown_memory_is_not_enough() -> None:
    (why,) = incompatibilities(Requirements(memory_bytes=1), replace(MACHINES["VNNI"], memory_bytes=0))
    assert why == "it needs 1 MiB of memory, it is not known"


def test_all_that_is_wrong_is_told_at_once() -> None:
    needs = Requirements(machine=("aarch64",), cpu_flags=("sve",), runtimes={"x": ""}, memory_bytes=2**60, sm=87)
    assert len(incompatibilities(needs, MACHINES["VNNI"])) == 5


RUNTIME_SETS = (OPENVINO, TFLITE, TENSORRT, {}, {"openvino": "<2026"}, {"tflite": "nonsense"})
candidates = st.builds(
    candidate,
    profile=st.sampled_from([*PROFILES, "coral-dev-board"]),
    target=st.sampled_from(["openvino", "tflite", "tensorrt", "other"]),
    runtimes=st.sampled_from(RUNTIME_SETS),
    precision=st.sampled_from(["int8", "fp32", "int4"]),
    machine=st.sampled_from([X86, A64]),
    flags=st.sampled_from([(), AVX2, VNNI, ARM, DOT]),
    sm=st.sampled_from([None, None, None, 87, 89]),
    memory_bytes=st.sampled_from([0, GIB, 8 * GIB]),
    size_bytes=st.integers(1, 3),
    number=st.integers(0, 20),
)
machines = st.sampled_from(list(MACHINES.values()))


@given(offered=st.lists(candidates, max_size=12), fingerprint=machines, data=st.data())
@settings(max_examples=300, deadline=None)
def test_choice_runs_and_does_not_depend_on_the_order(
    offered: list[Candidate], fingerprint: Fingerprint, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(offered))
    try:
        choice = choose(offered, fingerprint, PROFILES)
    except DeviceError as error:
        with pytest.raises(DeviceError) as again:
            choose(shuffled, fingerprint, PROFILES)
        assert str(again.value) == str(error)
        return
    assert choose(shuffled, fingerprint, PROFILES) == choice
    assert choice.candidate in offered
    assert incompatibilities(choice.candidate.requirements, fingerprint) == ()
    ranks = {found.profile: place for place, found in enumerate(match(fingerprint, PROFILES)) if found.fits}
    runnable = [c for c in offered if c.profile in ranks and not incompatibilities(c.requirements, fingerprint)]
    assert ranks[choice.candidate.profile] == min(ranks[c.profile] for c in runnable)


@given(offered=st.lists(candidates, min_size=1, max_size=6), extra=candidates, fingerprint=machines)
@settings(max_examples=300, deadline=None)
def test_what_cannot_run_never_changes_the_choice(
    offered: list[Candidate], extra: Candidate, fingerprint: Fingerprint
) -> None:
    def chosen(from_: list[Candidate]) -> Candidate | None:
        try:
            return choose(from_, fingerprint, PROFILES).candidate
        except DeviceError:
            return None

    if chosen([extra]) is None:
        assert chosen([*offered, extra]) == chosen(offered)
