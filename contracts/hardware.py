"""Hardware as the compiler plans for it (profile) and as a device finds it (fingerprint)."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgewright.contracts.ids import ProfileId

FINGERPRINT_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One board, or one generic class of machines.

    Attributes:
        machine: `uname -m` of its user space.
        cores: cores of the fastest cluster.
        memory_bytes: memory fitted (the smallest variant sold); None for a generic profile.
        cpu_flags: names as in /proc/cpuinfo that every such machine has and that artifacts for it may use.
        boards: whole words of the device-tree model, the DMI product name or the CPU's model name that identify the
            board; empty for a generic one.
        gpu, sm: the GPU's name, and its CUDA compute capability times ten; None where there is none.
        targets: runtimes in order of preference.
        precisions: in order of preference.
        threads: inference threads that give the best latency.
        channel_multiple: widths that are multiples of this run at full speed.
        sources: for each fact above, where it was read.
    """

    id: ProfileId
    name: str
    machine: str
    cores: int
    memory_bytes: int | None
    cpu_flags: tuple[str, ...]
    boards: tuple[str, ...]
    gpu: str | None
    sm: int | None
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    threads: int
    channel_multiple: int
    sources: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A CUDA GPU. `sm` is its compute capability times ten; `driver` the driver's version."""

    name: str
    sm: int
    driver: str
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a device found out about itself.

    `runtimes` maps a runtime's name (a target's runtime: ``openvino``, ``tflite``, ``tensorrt``, ``tensorrt_rtx``,
    ``onnxruntime``) to its installed version. `board` is the device-tree model or the DMI product name.
    """

    machine: str
    cpu_model: str
    cores: int
    cpu_flags: tuple[str, ...]
    memory_bytes: int
    board: str | None
    gpu: Gpu | None
    os: str
    glibc: str | None
    python: str
    runtimes: dict[str, str] = field(default_factory=dict)
    schema: int = FINGERPRINT_SCHEMA
