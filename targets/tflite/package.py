"""The one file of a TFLite artifact, what a device needs for it, and what in it will run slower than it could."""

from __future__ import annotations

import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import Requirements
from edgewright.targets.protocol import Lowered, Packaged, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet

# Files for 2.3 gave on 2.1 the same outputs to 1e-8. The next major version may change the interpreter.
RUNTIMES = {"tflite": ">=2.1,<3"}

# Measured on networks of 0.01 to 43 MB: a process with Python, NumPy and LiteRT; the file and a repacked copy;
# activations and the scratch memory of convolutions.
_PROCESS_BYTES = 48_000_000
_COPIES_OF_WEIGHTS = 2
_COPIES_OF_LARGEST_ACTIVATION = 6


def package(source: SourceModel, lowered: Lowered, profile: HardwareProfile, dest: Path) -> Packaged:
    """See `protocol.Package`."""
    file = dest / "model.tflite"
    try:
        shutil.copyfile(lowered.path, file)
        with quiet():
            from edgewright.targets.tflite import graph

            largest = graph.largest_activation_bytes(file)
            findings = _findings(graph.operators(file)["TRANSPOSE"], graph.left_to_reference_kernels(file))
    except (OSError, ThirdPartyError) as error:
        raise CompileError(
            "package-failed",
            f"the file of '{source.name}' for TFLite could not be written and read back",
            found=error.found if isinstance(error, ThirdPartyError) else str(error),
            next_step="make room in the output folder's file system; if that is not it, report the model",
        ) from error
    tools = ("litert-torch", "torch") if lowered.precision == "fp32" else ("ai-edge-quantizer", "litert-torch", "torch")
    return Packaged(
        files=(file,),
        entry=file.name,
        requirements=Requirements(
            machine=(profile.machine,),
            cpu_flags=profile.cpu_flags,
            runtimes=dict(RUNTIMES),
            memory_bytes=_PROCESS_BYTES
            + _COPIES_OF_WEIGHTS * file.stat().st_size
            + _COPIES_OF_LARGEST_ACTIVATION * largest,
        ),
        options={"threads": profile.threads},
        toolchain={tool: version(tool) for tool in tools},
        findings=findings,
    )


def _findings(transposes: int, left: Counter[str]) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    if transposes:
        findings.append(
            Finding(
                code="tflite-transposes-left",
                message=f"TRANSPOSE operators left in the graph: {transposes} (TFLite computes images in NHWC)",
                severity=Severity.INFO,
                where="model.tflite",
                next_step="one at an image input is normal; others often come from x.mean((2, 3)), for which "
                "AdaptiveAvgPool2d(1) and flatten leave none",
            )
        )
    if left:
        names = ", ".join(f"{count} {name}" for name, count in sorted(left.items()))
        findings.append(
            Finding(
                code="tflite-not-delegated",
                message=f"XNNPACK does not take over {names}: they run in slower kernels",
                where="model.tflite",
                next_step="replace them in the model if its latency matters",
            )
        )
    return tuple(findings)
