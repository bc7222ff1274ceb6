"""What this machine is. `observe` asks, `assemble` concludes.

Rules: it never raises for a strange machine; what is not known is empty, zero or None. It needs nothing beyond the
standard library, imports no runtime to learn its version, and starts one child process at most (nvidia-smi, where
there is one).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewright.contracts.hardware import Fingerprint
from edgewright.hardware_profiles import parsing

# A runtime's name, and the distributions that bring it.
RUNTIME_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx",),
    "tflite": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime",),
}
_NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap,driver_version,memory.total",
    "--format=csv,noheader,nounits",
)
_NVIDIA_SMI_TIMEOUT_S = 10
_MAX_BYTES = 8 * 1024**2  # /proc/cpuinfo of a 1,000-core server is 2 MB


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Texts as they were found; empty where there was nothing.

    Attributes:
        machine: the kernel's, by `uname -m`.
        kernel: name and release.
        processors: how many processors the system counts.
        runtimes: installed versions, by the runtime's name.
    """

    cpuinfo: str
    meminfo: str
    device_tree_model: str
    product_name: str
    os_release: str
    l4t_release: str
    nvidia_smi: str
    machine: str
    pointer_bits: int
    kernel: str
    processors: int
    glibc: str | None
    python: str
    runtimes: dict[str, str]


def take_fingerprint(root: Path = Path("/")) -> Fingerprint:
    """What this machine is. Files are read below `root`; the rest is asked of this process and of nvidia-smi."""
    return assemble(observe(root))


def observe(root: Path) -> Observations:
    """Read everything a fingerprint is made of; see `take_fingerprint`."""
    return Observations(
        cpuinfo=_read(root / "proc/cpuinfo"),
        meminfo=_read(root / "proc/meminfo"),
        device_tree_model=_read(root / "proc/device-tree/model"),
        product_name=_read(root / "sys/class/dmi/id/product_name"),
        os_release=_read(root / "etc/os-release") or _read(root / "usr/lib/os-release"),
        l4t_release=_read(root / "etc/nv_tegra_release"),
        nvidia_smi=_ask_nvidia_smi(),
        machine=platform.machine(),
        pointer_bits=8 * struct.calcsize("P"),
        kernel=f"{platform.system()} {platform.release()}",
        processors=os.cpu_count() or 1,
        glibc=_glibc(),
        python=platform.python_version(),
        runtimes=_installed_runtimes(),
    )


def assemble(seen: Observations) -> Fingerprint:
    """The fingerprint that `seen` amounts to. Pure."""
    machine = parsing.user_space_machine(seen.machine, seen.pointer_bits)
    cpu = parsing.parse_cpuinfo(seen.cpuinfo, machine)
    memory_bytes = parsing.parse_memory(seen.meminfo)
    board = parsing.board_name(seen.device_tree_model, seen.product_name)
    gpu = parsing.parse_nvidia_smi(seen.nvidia_smi, memory_bytes)
    return Fingerprint(
        machine=machine,
        cpu_model=cpu.model,
        cores=cpu.cores or seen.processors,
        cpu_flags=cpu.flags,
        memory_bytes=memory_bytes,
        board=board,
        gpu=gpu or parsing.integrated_gpu(board, seen.l4t_release, memory_bytes),
        os=parsing.parse_os_release(seen.os_release) or seen.kernel,
        glibc=seen.glibc,
        python=seen.python,
        runtimes=seen.runtimes,
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _ask_nvidia_smi() -> str:
    if shutil.which(_NVIDIA_SMI[0]) is None:
        return ""
    try:
        done = subprocess.run(
            _NVIDIA_SMI, capture_output=True, timeout=_NVIDIA_SMI_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    # Without a driver it says so on stdout, and fails.
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _glibc() -> str | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # another C library, such as musl
        return None
    return text.removeprefix("glibc ") if text else None


def _installed_runtimes() -> dict[str, str]:
    found = {}
    for runtime, distributions in RUNTIME_DISTRIBUTIONS.items():
        versions = filter(None, map(_version, distributions))
        if version := next(versions, None):
            found[runtime] = version
    return found


def _version(distribution: str) -> str | None:
    try:
        metadata = importlib.metadata.metadata(distribution)
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError):
        return None
    # An installation that was cut short has no version.
    return parsing.clean(str(metadata["Version"])) if "Version" in metadata else None
