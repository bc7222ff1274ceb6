"""What an analysis of INT8 says, as plain data for the report. SQNR is in decibels: 20 is a tenth of the signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgewright.contracts.findings import Finding, Severity

GUILTY_SHARE = 0.1
"""A layer is guilty when it alone makes this share of the noise of the whole model in INT8, …"""
HEALTHY_DB = 30.0
"""… and the whole model's SQNR, or its own output's, is below this."""


class FaultKind(StrEnum):
    """What is wrong with a layer in INT8."""

    OUTLIER_CHANNEL = "outlier-channel"
    SATURATING_ACTIVATION = "saturating-activation"
    BADLY_SCALED = "badly-scaled"
    BIAS_OVERFLOW = "bias-overflow"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a layer, and how that is known.

    Attributes:
        origin: the path of the layer that makes the tensor in question; None: it is the model's input.
        channel: of the layer's input, or of its output for a bias; None: several.
        evidence: figures by name.
        message: one sentence.
        next_step: what to try.
    """

    kind: FaultKind
    origin: str | None
    channel: int | None
    evidence: Mapping[str, float]
    message: str
    next_step: str


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What INT8 does to one layer.

    Attributes:
        path: in the user's module.
        macs: multiplications of one sample.
        local_sqnr_db: of the layer's own output when its input, weights and bias are INT8.
        input_sqnr_db: of its output when only its input is INT8.
        weight_sqnr_db: of its output when only its weights are INT8.
        alone_sqnr_db: of the model's output when this layer alone is INT8; None: not tried.
        restored_sqnr_db: of the model's output when this layer alone is float; None: not tried.
        fault: what is wrong with it; None: nothing in particular.
    """

    path: str
    macs: int
    local_sqnr_db: float
    input_sqnr_db: float
    weight_sqnr_db: float
    alone_sqnr_db: float | None = None
    restored_sqnr_db: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change to the whole model that was tried, and the SQNR of the INT8 model's output after it."""

    name: str
    sqnr_db: float
    next_step: str


@dataclass(frozen=True, kw_only=True)
class FloatStep:
    """One more layer kept in float.

    Attributes:
        path: the layer.
        sqnr_db: of the model's output with this and all layers of the steps before in float.
        gain_db: what this one gained.
        macs_share: of the whole model, in float after this step.
    """

    path: str
    sqnr_db: float
    gain_db: float
    macs_share: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The analysis of a model.

    Attributes:
        int8_sqnr_db: of the model's output with every layer in INT8.
        layers: the most sensitive first: by their effect on the model's output, then by their own.
        remedies: the best first.
        samples: how many the figures come from.
        evaluations: how often the model ran on them.
        is_complete: whether the budget sufficed for what was planned.
    """

    int8_sqnr_db: float
    layers: tuple[LayerSensitivity, ...]
    remedies: tuple[Remedy, ...]
    samples: int
    evaluations: int
    is_complete: bool
    order: tuple[FloatStep, ...] = field(default=())

    def guilty(self) -> tuple[LayerSensitivity, ...]:
        """Layers that have a fault and make a good part of the noise, the worst first."""
        return tuple(layer for layer in self.layers if layer.fault is not None and self._matters(layer))

    def findings(self) -> tuple[Finding, ...]:
        """One `layer-sensitive` for each guilty layer; a note on the most sensitive one where none is guilty."""
        guilty = self.guilty()
        if guilty:
            return tuple(self._finding(layer, layer.fault) for layer in guilty if layer.fault is not None)
        if not self.layers:
            return ()
        first = self.layers[0]
        return (
            Finding(
                code="layer-sensitive",
                message=f"no layer is at fault: INT8 costs all of them a little (SQNR of the output "
                f"{self.int8_sqnr_db:.1f} dB), {first.path} the most ({_alone(first)})",
                severity=Severity.INFO,
                where=first.path,
                next_step=self._best_remedy() or f"try quantization-aware training, or keep {first.path} in float",
            ),
        )

    def _matters(self, layer: LayerSensitivity) -> bool:
        if layer.alone_sqnr_db is None or min(self.int8_sqnr_db, layer.local_sqnr_db) >= HEALTHY_DB:
            return False
        return 10 ** ((self.int8_sqnr_db - layer.alone_sqnr_db) / 10) >= GUILTY_SHARE

    def _finding(self, layer: LayerSensitivity, fault: Fault) -> Finding:
        tried = self._best_remedy()
        return Finding(
            code="layer-sensitive",
            message=f"{layer.path} loses the signal in INT8 ({_alone(layer)}; with all layers in INT8 "
            f"{self.int8_sqnr_db:.1f} dB{_restored(layer)}): {fault.message}",
            where=layer.path,
            next_step=f"{tried or fault.next_step}; or keep {layer.path} in float",
        )

    def _best_remedy(self) -> str | None:
        best = self.remedies[0] if self.remedies else None
        if best is None or best.sqnr_db < self.int8_sqnr_db + 3:
            return None
        return f"{best.next_step} (tried: {self.int8_sqnr_db:.1f} dB become {best.sqnr_db:.1f} dB)"


def _alone(layer: LayerSensitivity) -> str:
    if layer.alone_sqnr_db is None:
        return f"its own output has {layer.local_sqnr_db:.1f} dB"
    return f"alone in INT8 it leaves the model's output {layer.alone_sqnr_db:.1f} dB"


def _restored(layer: LayerSensitivity) -> str:
    return "" if layer.restored_sqnr_db is None else f", without this one {layer.restored_sqnr_db:.1f} dB"
