"""Post-training quantization: each target's own quantizer, on the calibration data.

No single quantized form carries to all runtimes, so the float model and the calibration set go to each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgewright.compiler.passes import TargetModel, TargetPass
from edgewright.targets.protocol import Lowered


@dataclass(frozen=True)
class Config:
    """Options of the pass. `precision` is that of weights and activations."""

    precision: Literal["int8"] = "int8"


def run(model: TargetModel, config: Config) -> Lowered:  # noqa: ARG001 - int8 is the only precision there is
    """`model`, quantized. Raises CompileError `quantize-failed`."""
    return model.quantize(model.source, model.lowered, model.calibration, model.profile, model.work, model.progress)


PTQ = TargetPass(Config, run)
