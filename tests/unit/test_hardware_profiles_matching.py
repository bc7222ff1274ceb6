"""Which profile a machine answers to: hard facts block, specific beats generic, the order is total."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts.hardware import Fingerprint, Gpu
from edgewright.contracts.ids import ProfileId
from edgewright.hardware_profiles.matching import Match, match
from edgewright.hardware_profiles.schema import MAX_CPU_FLAGS, load_profiles

GIB = 1024**3
PROFILES = load_profiles()
AVX2 = ("avx", "avx2", "f16c", "fma", "sse4_2")
VNNI = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")


def machine(
    architecture: str,
    flags: tuple[str, ...],
    *,
    board: str | None = None,
    cpu: str = "some CPU",
    gpu: Gpu | None = None,
) -> Fingerprint:
    return Fingerprint(
        machine=architecture,
        cpu_model=cpu,
        cores=4,
        cpu_flags=flags,
        memory_bytes=8 * GIB,
        board=board,
        gpu=gpu,
        os="Debian GNU/Linux 12 (bookworm)",
        glibc="2.36",
        python="3.11.2",
    )


def gpu(name: str, sm: int) -> Gpu:
    return Gpu(name=name, sm=sm, driver="550.54", memory_bytes=8 * GIB)


RTX_4060 = gpu("NVIDIA GeForce RTX 4060", 89)
ORIN = gpu("Orin", 87)


def fitting(found: tuple[Match, ...]) -> list[str]:
    return [m.profile for m in found if m.fits]


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        (machine("aarch64", ("asimd",), board="Raspberry Pi 3 Model B Plus Rev 1.3"), ["raspberry-pi-3", "aarch64"]),
        (machine("aarch64", ("asimd",), board="Raspberry Pi 3 Model B Rev 1.2"), ["raspberry-pi-3", "aarch64"]),
        (machine("aarch64", ("asimd",), board="Raspberry Pi 4 Model B Rev 1.5"), ["raspberry-pi-4", "aarch64"]),
        (machine("aarch64", ("asimd",), board="Raspberry Pi 400 Rev 1.0"), ["raspberry-pi-4", "aarch64"]),
        (machine("aarch64", ("asimd",), board="Raspberry Pi Compute Module 4 Rev 1.1"), ["raspberry-pi-4", "aarch64"]),
        (machine("aarch64", ("asimd", "asimddp"), board="Raspberry Pi 500 Rev 1.0"), ["raspberry-pi-5", "aarch64"]),
        (machine("aarch64", ("asimd",), board="Raspberry Pi Zero 2 W Rev 1.0"), ["aarch64"]),
        (machine("aarch64", ("asimd", "asimddp"), board="Radxa ROCK 5B"), ["aarch64"]),
        (machine("aarch64", ("asimd", "asimddp"), board="NVIDIA Orin Nano Developer Kit", gpu=ORIN),
         ["jetson-orin-nano", "aarch64"]),
        (machine("aarch64", ("asimd", "asimddp"), board="NVIDIA Jetson AGX Orin Developer Kit", gpu=ORIN), ["aarch64"]),
        (machine("x86_64", (*AVX2, "avx_vnni"), cpu="Intel(R) N100"), ["intel-n100", "x86-64-avx2"]),
        (machine("x86_64", (*AVX2, "avx_vnni"), cpu="12th Gen Intel(R) Core(TM) i5-12400"), ["x86-64-avx2"]),
        (machine("x86_64", AVX2, gpu=RTX_4060), ["rtx-4060", "x86-64-avx2"]),
        (machine("x86_64", VNNI, gpu=RTX_4060), ["rtx-4060", "x86-64-avx512-vnni", "x86-64-avx2"]),
        (machine("x86_64", VNNI, gpu=gpu("NVIDIA H200", 90)), ["x86-64-avx512-vnni", "x86-64-avx2"]),
        (machine("x86_64", (*AVX2, "avx_vnni"), cpu="Intel(R) N100", gpu=RTX_4060),
         ["intel-n100", "rtx-4060", "x86-64-avx2"]),
        (machine("x86_64", ("sse4_2",)), []),
        (machine("riscv64", ()), []),
    ],
    ids=lambda value: value.board or value.cpu_model if isinstance(value, Fingerprint) else ",".join(value),
)  # fmt: skip
def test_machine_answers_to(fingerprint: Fingerprint, expected: list[str]) -> None:
    assert fitting(match(fingerprint, PROFILES)) == expected


ORIN_NANO = machine("aarch64", ("asimd", "asimddp"), board="NVIDIA Jetson Orin Nano Developer Kit", gpu=ORIN)


@pytest.mark.parametrize(
    ("fingerprint", "blocker"),
    [
        (replace(ORIN_NANO, machine="armv7l"), "machine is armv7l, not aarch64"),
        (replace(ORIN_NANO, cpu_flags=("asimd",)), "the CPU lacks asimddp"),
        (replace(ORIN_NANO, gpu=None), "it has no GPU of SM 87"),
        (replace(ORIN_NANO, gpu=gpu("Xavier", 72)), "its GPU Xavier is SM 72, not 87"),
        (
            replace(ORIN_NANO, board="NVIDIA Jetson AGX Orin"),
            "it is NVIDIA Jetson AGX Orin, not NVIDIA Jetson Orin Nano",
        ),
        (replace(ORIN_NANO, board=None), "it is some CPU, not NVIDIA Jetson Orin Nano"),
    ],
    ids=["machine", "flags", "no GPU", "other GPU", "other board", "no board"],
)
def test_each_hard_fact_blocks_alone(fingerprint: Fingerprint, blocker: str) -> None:
    found = {m.profile: m for m in match(fingerprint, PROFILES)}[ProfileId("jetson-orin-nano")]
    assert (found.fits, found.score, found.blockers) == (False, 0.0, (blocker,))


def test_reasons_name_what_was_found() -> None:
    first = match(ORIN_NANO, PROFILES)[0]
    assert first.reasons == (
        "it is a NVIDIA Jetson Orin Nano Developer Kit",
        "its GPU Orin is SM 87",
        "machine is aarch64",
        "the CPU has asimd, asimddp",
    )


def test_gpu_of_the_same_name_beats_one_of_the_same_capability() -> None:
    card = PROFILES[ProfileId("rtx-4060")]
    other = replace(card, id=ProfileId("a-rtx-4090"), gpu="GeForce RTX 4090")
    found = match(machine("x86_64", AVX2, gpu=RTX_4060), {other.id: other, card.id: card})
    assert fitting(found) == ["rtx-4060", "a-rtx-4090"]


def test_no_number_of_flags_outweighs_a_gpu_or_board() -> None:
    flags = tuple(f"flag{number}" for number in range(MAX_CPU_FLAGS))
    flagged = replace(PROFILES[ProfileId("x86-64-avx2")], id=ProfileId("flagged"), cpu_flags=flags)
    card = replace(PROFILES[ProfileId("rtx-4060")], cpu_flags=(), gpu="another name")
    both = {flagged.id: flagged, card.id: card}
    assert fitting(match(machine("x86_64", flags, gpu=RTX_4060), both)) == ["rtx-4060", "flagged"]


@given(order=st.permutations(sorted(PROFILES)), fingerprint=st.sampled_from([ORIN_NANO, machine("x86_64", VNNI)]))
def test_order_of_profiles_does_not_matter(order: list[ProfileId], fingerprint: Fingerprint) -> None:
    twin = replace(PROFILES[ProfileId("aarch64")], id=ProfileId("aarch64-twin"))  # the same score
    found = match(fingerprint, {id_: PROFILES[id_] for id_ in order} | {twin.id: twin})
    assert found == match(fingerprint, {twin.id: twin} | PROFILES)
    assert len(found) == len(PROFILES) + 1


def test_no_profiles_no_matches() -> None:
    assert match(ORIN_NANO, {}) == ()
