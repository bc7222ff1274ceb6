"""What a machine finds out about itself, from recorded files, odd files, and a real child process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.wire import decode, encode
from edgewright.hardware_profiles import fingerprint as module
from edgewright.hardware_profiles.fingerprint import (
    RUNTIME_DISTRIBUTIONS,
    Observations,
    assemble,
    observe,
    take_fingerprint,
)
from edgewright.hardware_profiles.matching import match
from edgewright.hardware_profiles.parsing import names, parse_nvidia_smi
from edgewright.hardware_profiles.schema import load_profiles
from edgewright.targets import TARGETS

KIB, MIB = 1024, 1024**2

# Recorded from such machines; blocks of further processors are made from the first.
EPYC_CORE = """\
processor\t: {n}
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
physical id\t: 0
siblings\t: 4
core id\t\t: {core}
cpu cores\t: 2
fpu\t\t: yes
flags\t\t: fpu vme sse2 ht syscall lm avx f16c avx2 bmi2 fma avx512f avx512dq avx512bw avx512vl avx_vnni avx512_vnni
bugs\t\t: sysret_ss_attrs null_seg spectre_v1
power management:

"""
A72_CORE = """\
processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
A76_CORE = """\
processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
A78AE_CORE = """\
processor\t: {n}
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat \
ilrcpc flagm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'

EPYC: Mapping[str, str] = {
    "proc/cpuinfo": "".join(EPYC_CORE.format(n=n, core=n // 2) for n in range(4)),
    "proc/meminfo": "MemTotal:       24683892 kB\nMemFree:        11868548 kB\n",
    "sys/class/dmi/id/product_name": "PowerEdge R6615\n",
    "etc/os-release": DEBIAN,
}
PI_4: Mapping[str, str] = {
    "proc/cpuinfo": "".join(A72_CORE.format(n=n) for n in range(4))
    + "Revision\t: d03115\nSerial\t\t: 100000000fe69593\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n",
    "proc/meminfo": "MemTotal:        3885396 kB\nMemFree:         1283380 kB\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
    "etc/os-release": DEBIAN,
}
PI_5: Mapping[str, str] = {
    "proc/cpuinfo": "".join(A76_CORE.format(n=n) for n in range(4))
    + "Hardware\t: BCM2835\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    "proc/meminfo": "MemTotal:        8245088 kB\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "etc/os-release": DEBIAN,
}
ORIN_NANO: Mapping[str, str] = {
    "proc/cpuinfo": "".join(A78AE_CORE.format(n=n) for n in range(6)),
    "proc/meminfo": "MemTotal:        7802884 kB\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
}
ORIN_SMI = "Orin (nvgpu), [N/A], 540.4.0, [N/A]\n"


def fingerprint_of(
    root: Path, files: Mapping[str, str], machine: str, *, pointer_bits: int = 64, nvidia_smi: str = ""
) -> Fingerprint:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    seen = observe(root)
    return assemble(
        replace(seen, machine=machine, pointer_bits=pointer_bits, nvidia_smi=nvidia_smi, processors=1, runtimes={})
    )


def best(found: Fingerprint) -> str:
    first = match(found, load_profiles())[0]
    assert first.fits
    return first.profile


def test_server_with_vnni(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, EPYC, "x86_64")
    assert (found.machine, found.cpu_model, found.board) == ("x86_64", "AMD EPYC", "PowerEdge R6615")
    assert found.cores == 2  # four hardware threads
    assert found.memory_bytes == 24683892 * KIB
    assert {"avx2", "avx512_vnni"} <= set(found.cpu_flags)
    assert (found.gpu, found.os) == (None, "Debian GNU/Linux 12 (bookworm)")
    assert best(found) == "x86-64-avx512-vnni"


def test_raspberry_pi_4(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, PI_4, "aarch64")
    assert (found.cpu_model, found.cores, found.board) == ("Cortex-A72", 4, "Raspberry Pi 4 Model B Rev 1.5")
    assert found.cpu_flags == ("asimd", "cpuid", "crc32", "evtstrm", "fp")
    assert best(found) == "raspberry-pi-4"


def test_raspberry_pi_5(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, PI_5, "aarch64")
    assert (found.cpu_model, found.cores) == ("Cortex-A76", 4)
    assert "asimddp" in found.cpu_flags
    assert best(found) == "raspberry-pi-5"


@pytest.mark.parametrize("nvidia_smi", ["", ORIN_SMI, "No devices were found\n"], ids=["absent", "mute", "none"])
def test_orin_nano_has_its_gpu_whatever_nvidia_smi_says(tmp_path: Path, nvidia_smi: str) -> None:
    found = fingerprint_of(tmp_path, ORIN_NANO, "aarch64", nvidia_smi=nvidia_smi)
    assert (found.cpu_model, found.cores) == ("Cortex-A78AE", 6)
    assert found.gpu is not None
    assert (found.gpu.sm, found.gpu.driver) == (87, "L4T 36.4.3")
    assert found.gpu.memory_bytes == found.memory_bytes == 7802884 * KIB
    assert best(found) == "jetson-orin-nano"


def test_orin_nano_of_jetpack_5_is_one_too(tmp_path: Path) -> None:
    old = {**ORIN_NANO, "proc/device-tree/model": "NVIDIA Orin Nano Developer Kit\0"}
    assert best(fingerprint_of(tmp_path, old, "aarch64")) == "jetson-orin-nano"


def test_32_bit_user_space_of_a_64_bit_kernel_is_not_aarch64(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, PI_4, "aarch64", pointer_bits=32)
    assert found.machine == "armv7l"
    assert not any(m.fits for m in match(found, load_profiles()))


def test_flag_that_only_some_cores_have_does_not_count(tmp_path: Path) -> None:
    cpuinfo = A72_CORE.format(n=0) + A76_CORE.format(n=1)
    found = fingerprint_of(tmp_path, {"proc/cpuinfo": cpuinfo}, "aarch64")
    assert found.cpu_model == "Cortex-A72 + Cortex-A76"
    assert "asimd" in found.cpu_flags
    assert "asimddp" not in found.cpu_flags


def test_unknown_arm_core_is_named_by_its_numbers(tmp_path: Path) -> None:
    cpuinfo = A72_CORE.format(n=0).replace("0xd08", "0xfff")
    found = fingerprint_of(tmp_path, {"proc/cpuinfo": cpuinfo}, "aarch64")
    assert found.cpu_model == "CPU implementer 0x41, part 0xfff"


def test_cpuinfo_of_the_host_says_nothing_about_an_emulated_machine(tmp_path: Path) -> None:
    assert fingerprint_of(tmp_path, EPYC, "aarch64").cpu_flags == ()


def test_placeholder_of_a_maker_is_no_board(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, {**EPYC, "sys/class/dmi/id/product_name": "To Be Filled By O.E.M.\n"}, "x86_64")
    assert found.board is None


def test_empty_machine_has_no_facts_and_one_core(tmp_path: Path) -> None:
    found = fingerprint_of(tmp_path, {}, "")
    assert (found.cpu_model, found.cores, found.cpu_flags, found.memory_bytes) == ("", 1, (), 0)
    assert (found.board, found.gpu) == (None, None)
    assert found.os  # the kernel's name


@pytest.mark.parametrize("digits", [16, 5000])  # beyond 64 bits; beyond what int() reads
def test_memory_that_cannot_be_is_unknown(tmp_path: Path, digits: int) -> None:
    found = fingerprint_of(tmp_path, {"proc/meminfo": f"MemTotal:  {'9' * digits} kB\n"}, "x86_64")
    assert found.memory_bytes == 0


def test_folder_in_place_of_a_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "proc/cpuinfo").mkdir(parents=True)
    assert fingerprint_of(tmp_path, {}, "x86_64").cpu_flags == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NVIDIA GeForce RTX 4060, 8.9, 550.54.14, 8188", ("NVIDIA GeForce RTX 4060", 89, 8188 * MIB)),
        ("NVIDIA RTX PRO 6000, 12.0, 575.51, 97887", ("NVIDIA RTX PRO 6000", 120, 97887 * MIB)),
        ("A, name, with commas, 7.5, 550, 16000", ("A, name, with commas", 75, 16000 * MIB)),
        ("NVIDIA GB10, 12.1, 580.95, [N/A]", ("NVIDIA GB10", 121, 42)),  # integrated: the system's memory
        ("Orin (nvgpu), [N/A], 540.4.0, [N/A]", None),
        ("garbage", None),
        ("", None),
    ],
)
def test_line_of_nvidia_smi(line: str, expected: tuple[str, int, int] | None) -> None:
    gpu = parse_nvidia_smi(line, 42)
    assert (gpu and (gpu.name, gpu.sm, gpu.memory_bytes)) == expected


def test_first_readable_gpu_counts() -> None:
    gpu = parse_nvidia_smi("broken\nFirst, 8.6, 1, 1\nSecond, 8.9, 1, 1\n", 0)
    assert gpu is not None
    assert gpu.name == "First"


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    install_nvidia_smi(tmp_path, monkeypatch, f'echo "$@" > {asked}; echo "NVIDIA GeForce RTX 4060, 8.9, 550.1, 8188"')
    gpu = take_fingerprint(tmp_path).gpu
    assert gpu is not None
    assert gpu.sm == 89
    assert asked.read_text().split() == [
        "--query-gpu=name,compute_cap,driver_version,memory.total",
        "--format=csv,noheader,nounits",
    ]


@pytest.mark.parametrize(
    "script",
    ["echo 'NVIDIA-SMI has failed, 8.9, 1, 1'; exit 9", "exec sleep 60", r"printf '\377\376, 8.x, \000'", "kill -9 $$"],
    ids=["fails", "hangs", "garbage", "dies"],
)
def test_nvidia_smi_that_does_not_answer_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(module, "_NVIDIA_SMI_TIMEOUT_S", 0.5)
    install_nvidia_smi(tmp_path, monkeypatch, script)
    assert take_fingerprint(tmp_path).gpu is None


def test_nvidia_smi_that_cannot_be_started_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nvidia-smi"
    path.write_bytes(b"\x7fELF of another machine")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert take_fingerprint(tmp_path).gpu is None


def test_runtimes_of_all_targets_are_looked_for() -> None:
    assert {runtime for target in TARGETS.values() for runtime in target.runtimes} <= set(RUNTIME_DISTRIBUTIONS)


def add_distribution(folder: Path, name: str, version: str, metadata: str | None) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata is not None:
        (info / "METADATA").write_text(metadata)


def test_runtime_is_known_by_any_distribution_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_distribution(
        tmp_path, "tensorrt_cu12", "10.3.0", "Metadata-Version: 2.1\nName: tensorrt_cu12\nVersion: 10.3.0\n"
    )
    add_distribution(tmp_path, "tflite_runtime", "2.14.0", "Name: tflite-runtime\nVersion: 2.14.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert take_fingerprint(tmp_path).runtimes == {"tensorrt": "10.3.0", "tflite_runtime": "2.14.0"}


def test_installation_cut_short_is_no_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_distribution(tmp_path, "openvino", "2026.4.1", None)
    add_distribution(tmp_path, "tensorrt", "10.3.0", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert take_fingerprint(tmp_path).runtimes == {}


def test_a_fingerprint_imports_nothing_heavy() -> None:
    script = (
        "import sys, json; from edgewright.hardware_profiles.fingerprint import take_fingerprint; take_fingerprint();"
        "import edgewright.hardware_profiles.selection; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"numpy", "psutil", "rich", "openvino", "ai_edge_litert", "onnxruntime", "tensorrt", "tensorrt_rtx"}
    assert loaded & heavy == set()


def test_this_machine_has_a_fingerprint_that_can_be_sent() -> None:
    found = take_fingerprint()
    assert found.cores >= 1
    assert found.memory_bytes > 0
    assert decode(Fingerprint, encode(found), what="fingerprint") == found


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        ("Raspberry Pi 5", "Raspberry Pi 5 Model B Rev 1.0", True),
        ("Raspberry Pi 5", "Raspberry Pi 500 Rev 1.0", False),
        ("Raspberry Pi 5", "my raspberry pi 5", True),
        ("Intel(R) N100", "Intel(R) N100", True),
        ("Intel(R) N100", "Intel(R) N1000", False),
        ("Orin", "Orin (nvgpu)", True),
    ],
)
def test_a_name_is_found_as_whole_words(part: str, whole: str, expected: bool) -> None:
    assert names(part, whole) is expected


# Pieces that lead into each parser, mixed with anything.
PIECES = st.sampled_from(
    [
        *("processor: 0\n", "Features: asimd\n", "flags: avx2\n", "physical id: 1\n", "core id:", "model name:"),
        *("CPU implementer: 0x41\n", "CPU part: 0xd08\n", "CPU part: 0x", "MemTotal: 12 kB", "MemTotal: ", " kB\n"),
        *("PRETTY_NAME=", '"', "Orin", "R36 (release), REVISION: 4", "GPU, 8.9, 1, ", ", ", ":", "\n\n", "\0"),
        *("9" * 5000, "\u0663"),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=20), max_size=12).map("".join)
OBSERVATIONS = st.builds(
    Observations,
    cpuinfo=TEXTS,
    meminfo=TEXTS,
    device_tree_model=TEXTS,
    product_name=TEXTS,
    os_release=TEXTS,
    l4t_release=TEXTS,
    nvidia_smi=TEXTS,
    machine=st.sampled_from(["x86_64", "aarch64", "armv7l", "riscv64", ""]),
    pointer_bits=st.sampled_from([32, 64]),
    kernel=st.just("Linux 6.1"),
    processors=st.integers(1, 512),
    glibc=st.none() | st.just("2.36"),
    python=st.just("3.11.7"),
    runtimes=st.just({}),
)


def check_is_sound(found: Fingerprint) -> None:
    assert found.cores >= 1
    assert 0 <= found.memory_bytes < 2**63
    assert decode(Fingerprint, encode(found), what="fingerprint") == found
    said = [found.cpu_model, found.board or "", found.os, *([found.gpu.name, found.gpu.driver] if found.gpu else [])]
    assert all(text.isprintable() and len(text) <= 200 for text in said)
    assert match(found, load_profiles())


@given(seen=OBSERVATIONS)
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_fingerprint(seen: Observations) -> None:
    check_is_sound(assemble(seen))


@given(contents=st.fixed_dictionaries(dict.fromkeys({**EPYC, **ORIN_NANO}, st.binary(max_size=300))))
@settings(max_examples=60, deadline=None)
def test_no_bytes_in_its_files_break_a_fingerprint(contents: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, data in contents.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(data)
        check_is_sound(take_fingerprint(Path(folder)))
