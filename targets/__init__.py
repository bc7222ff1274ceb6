"""The runtimes edgewright compiles for: one folder each, all with the same files.

    lower.py     the float model in the runtime's own format           (cloud)
    quantize.py  the same in INT8                                      (cloud)
    package.py   the files a device gets, and what it needs for them   (cloud)
    run.py       load an artifact and run it                           (device: imports no toolchain)
    README.md    what it supports, what it refuses, versions

`protocol.py` says what the functions in them take and give. To add a runtime, copy a folder and add a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One row of the table.

    Attributes:
        package: the import name of its folder.
        runtimes: the runtimes that can run its artifacts, as a fingerprint names them.
        simulated_by: the runtime that stands in for it on a host that cannot run it; None where none is needed.
        load_timeout_s: how long a first load may take; long where the device builds an engine.
        profile_facts: what its `lower` and `quantize` look at in a profile; profiles that agree in it share their work.
    """

    package: str
    runtimes: tuple[str, ...]
    simulated_by: str | None = None
    load_timeout_s: float = 120.0
    profile_facts: tuple[str, ...] = ()


TARGETS: Mapping[str, Target] = {
    "openvino": Target("edgewright.targets.openvino", runtimes=("openvino",), profile_facts=("machine", "cpu_flags")),
    "tflite": Target("edgewright.targets.tflite", runtimes=("tflite",)),
    "tensorrt": Target(
        "edgewright.targets.tensorrt",
        runtimes=("tensorrt", "tensorrt_rtx"),
        simulated_by="onnxruntime",
        load_timeout_s=1900.0,
    ),
}
