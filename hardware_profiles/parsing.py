"""Reads what Linux and NVIDIA's tools say about a machine. Pure: text in, facts out.

Rules: no text makes these functions raise; what cannot be read is empty, zero or None. A CPU flag counts only when
every processor has it, because a thread may run on any of them. Numbers are bounded, so that they fit where they are
stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgewright.contracts.hardware import Gpu

_KIB = 1024
_MIB = 1024**2

# Arm's processors give a number for their maker and kind, and no name: the Main ID Register of each one's Technical
# Reference Manual. https://github.com/util-linux/util-linux/blob/master/sys-utils/lscpu-arm.c keeps a long list.
_ARM_CORES: Mapping[tuple[int, int], str] = {
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x4E, 0x004): "Carmel",
}

# NVIDIA's integrated GPUs, which nvidia-smi does not describe: a word of the device-tree model, and the compute
# capability times ten (https://developer.nvidia.com/cuda-gpus).
_INTEGRATED_GPUS: Mapping[str, int] = {"Orin": 87, "Xavier": 72}

# What makers leave in the DMI product name when they do not fill it in.
_NOT_A_NAME = frozenset(
    {"default string", "not applicable", "not specified", "o.e.m.", "product name", "system product name"}
    | {"to be filled by o.e.m.", "unknown"}
)


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """`cores` counts physical cores, and is 0 where the text does not tell."""

    model: str
    cores: int
    flags: tuple[str, ...]


def parse_cpuinfo(text: str, machine: str) -> Cpu:
    """/proc/cpuinfo, as a kernel for `machine` (`uname -m`) writes it."""
    processors = [block for block in map(_fields, re.split(r"\n[ \t]*\n", text)) if "processor" in block]
    flags_key = "Features" if machine.startswith(("aarch64", "arm")) else "flags"
    names = [_core_name(processor) for processor in processors]
    return Cpu(
        model=clean(" + ".join(dict.fromkeys(name for name in names if name))),
        cores=_count_cores(processors),
        flags=_common_flags([processor.get(flags_key, "") for processor in processors]),
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _count_cores(processors: list[dict[str, str]]) -> int:
    # x86 names package and core of each hardware thread; elsewhere a processor is a core.
    places = {(processor.get("physical id"), processor.get("core id")) for processor in processors}
    return len(processors) if any(None in place for place in places) else len(places)


def _common_flags(lines: list[str]) -> tuple[str, ...]:
    if not lines:
        return ()
    common = set(lines[0].split()).intersection(*(line.split() for line in lines[1:]))
    return tuple(sorted(common))


def _core_name(processor: Mapping[str, str]) -> str:
    implementer, part = (_hex(processor.get(key, "")) for key in ("CPU implementer", "CPU part"))
    if implementer is None or part is None:
        return processor.get("model name", "")
    return _ARM_CORES.get((implementer, part), f"CPU implementer {implementer:#04x}, part {part:#05x}")


def _hex(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else None


def parse_memory(text: str) -> int:
    """Bytes of memory by /proc/meminfo, or 0."""
    found = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", text, re.MULTILINE)
    return int(found[1]) * _KIB if found else 0


def parse_nvidia_smi(text: str, system_memory_bytes: int) -> Gpu | None:
    """The first GPU of ``nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total`` in CSV without units.

    A GPU that does not say its memory is an integrated one: it has the system's.
    """
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 3)]
        capability = re.fullmatch(r"([0-9]{1,2})\.([0-9])", parts[1]) if len(parts) == 4 else None
        if capability is None:
            continue
        name, _, driver, memory = parts
        memory_bytes = int(memory) * _MIB if re.fullmatch(r"[0-9]{1,9}", memory) else system_memory_bytes
        sm = int(capability[1]) * 10 + int(capability[2])
        return Gpu(name=clean(name), sm=sm, driver=clean(driver), memory_bytes=memory_bytes)
    return None


def integrated_gpu(board: str | None, l4t_release: str, system_memory_bytes: int) -> Gpu | None:
    """The GPU of an NVIDIA Jetson, known by its board's name. `l4t_release` is the text of /etc/nv_tegra_release."""
    for word, sm in _INTEGRATED_GPUS.items():
        if board is not None and names(word, board):
            return Gpu(name=word, sm=sm, driver=parse_l4t_release(l4t_release), memory_bytes=system_memory_bytes)
    return None


def parse_l4t_release(text: str) -> str:
    """Version of NVIDIA's Jetson Linux, such as ``L4T 36.4.3``, or an empty string."""
    found = re.search(r"R([0-9]{1,3}) \(release\), REVISION: ([0-9.]{1,10})", text)
    return f"L4T {found[1]}.{found[2]}" if found else ""


def parse_os_release(text: str) -> str:
    """The system's name by /etc/os-release, or an empty string."""
    found = re.search(r"^PRETTY_NAME=(.*)$", text, re.MULTILINE)
    return clean(found[1].strip().strip("\"'")) if found else ""


def board_name(device_tree_model: str, product_name: str) -> str | None:
    """The device-tree model, else the DMI product name, else None; a maker's placeholder is no name."""
    for name in (clean(device_tree_model), clean(product_name)):
        if name and name.casefold() not in _NOT_A_NAME:
            return name
    return None


def user_space_machine(kernel_machine: str, pointer_bits: int) -> str:
    """`uname -m` as this process lives it: a 64-bit kernel may run a 32-bit user space (Raspberry Pi OS, 32-bit)."""
    if pointer_bits == 64:
        return kernel_machine
    return {"aarch64": "armv7l", "x86_64": "i686"}.get(kernel_machine, kernel_machine)


def names(part: str, whole: str) -> bool:
    """Whether `part` stands in `whole` as whole words: 'Raspberry Pi 5' is not in 'Raspberry Pi 500'."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", whole, re.IGNORECASE) is not None


def clean(text: str, limit: int = 200) -> str:
    """One printable line of at most `limit` characters: device trees end their strings with a zero byte."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:limit].strip()
