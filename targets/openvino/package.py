"""The two files of an OpenVINO artifact, and what a device needs for them."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from edgewright.contracts.errors import CompileError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import Requirements
from edgewright.targets.openvino.ir import largest_activation_bytes
from edgewright.targets.protocol import Lowered, Packaged, SourceModel

# IR of 2026.4 gave on 2026.0 the same printed outputs. Newer releases read older IR, but what they compute may
# change with the year's series.
RUNTIMES = {"openvino": ">=2026.0,<2027"}

# Measured on networks of 0.01 to 43 MB: a process with Python, NumPy and OpenVINO; the file and a repacked copy;
# activations and the scratch memory of convolutions.
_PROCESS_BYTES = 100_000_000
_COPIES_OF_WEIGHTS = 2
_COPIES_OF_LARGEST_ACTIVATION = 3


def package(source: SourceModel, lowered: Lowered, profile: HardwareProfile, dest: Path) -> Packaged:
    """See `protocol.Package`."""
    graph, weights = dest / "model.xml", dest / "model.bin"
    try:
        for file in (graph, weights):
            shutil.copyfile(lowered.path.with_suffix(file.suffix), file)
    except OSError as error:
        raise CompileError(
            "package-failed",
            f"the files of '{source.name}' for OpenVINO could not be written",
            found=str(error),
            next_step="make room in the output folder's file system",
        ) from error
    tools = ("openvino", "torch") if lowered.precision == "fp32" else ("nncf", "openvino", "torch")
    return Packaged(
        files=(graph, weights),
        entry=graph.name,
        requirements=Requirements(
            machine=(profile.machine,),
            cpu_flags=profile.cpu_flags,
            runtimes=dict(RUNTIMES),
            memory_bytes=_PROCESS_BYTES
            + _COPIES_OF_WEIGHTS * weights.stat().st_size
            + _COPIES_OF_LARGEST_ACTIVATION * largest_activation_bytes(graph),
        ),
        # Left to itself OpenVINO computes what stays float in bf16 on x86 and in f16 on ARM: other results on each.
        options={"inference_precision": "f32", "threads": profile.threads},
        toolchain={tool: version(tool) for tool in tools},
    )
