"""INT8 by NNCF, on the float IR, with all calibration samples.

The choices, and why:

- full bias correction: NNCF's default, the fast one, costs about a point of accuracy on pruned networks;
- `ModelType.TRANSFORMER` where the graph has attention: without it embeddings drift (cosine .65 instead of .99);
- ranges that hold every calibration value in other graphs: NNCF's default, the mean of each sample's extremes, cuts
  off about every second sample's peaks (worst cosine of a separable CNN for digits: .994, with these .9995);
- asymmetric activations where an activation function goes below zero, symmetric ones elsewhere: NNCF's own advice
  (the same CNN with SiLU: .9962 symmetric, .9988 asymmetric);
- half the weights' range on x86 without VNNI: its 16-bit accumulators saturate silently otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewright.contracts.errors import CompileError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.openvino import ir
from edgewright.targets.protocol import Lowered, Progress, Samples, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet, require, without_telemetry

require("nncf", "openvino")

_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_BELOW_ZERO = frozenset({"Elu", "Gelu", "HSwish", "Mish", "PRelu", "Selu", "SoftPlus", "Swish", "Tanh"})


def quantize(
    source: SourceModel,
    lowered: Lowered,
    calibration: Samples,
    profile: HardwareProfile,
    work: Path,
    progress: Progress,
) -> Lowered:
    """See `protocol.Quantize`."""
    without_telemetry()
    path = work / "int8.xml"
    try:
        with quiet() as section:
            import nncf
            import openvino as ov

            model = ov.Core().read_model(lowered.path)
            attention = has_attention(model)
            count = len(next(iter(calibration.values())))
            quantized = nncf.quantize(
                model,
                nncf.Dataset(range(count), _Feed(calibration, section.aloud(progress))),
                subset_size=count,
                fast_bias_correction=False,
                model_type=nncf.ModelType.TRANSFORMER if attention else None,
                preset=_preset(nncf, model, attention=attention),
                advanced_parameters=_advanced(nncf, profile, attention=attention),
            )
            ir.save(quantized, path, source.name)
    except ThirdPartyError as refusal:
        raise CompileError(
            "quantize-failed",
            f"NNCF could not quantize the model '{source.name}'",
            found=refusal.found,
            next_step="check that the calibration samples are what the model was trained on, or leave `ptq` out",
        ) from refusal
    return Lowered(path, "int8", lowered.findings)


def has_attention(model: Any) -> bool:
    """Whether an `ov.Model` is a transformer: attention as one operator, or a softmax and a product of activations."""
    operators = model.get_ordered_ops()
    types = {operator.get_type_name() for operator in operators}
    return "ScaledDotProductAttention" in types or (
        "Softmax" in types
        and any(
            operator.get_type_name() == "MatMul"
            and operator.input_value(1).get_node().get_type_name() not in ("Constant", "Convert")
            for operator in operators
        )
    )


class _Feed:
    """One calibration sample by its number; tells how many have been used."""

    def __init__(self, calibration: Samples, progress: Progress) -> None:
        self._calibration = calibration
        self._progress = progress
        self._used: set[int] = set()

    def __call__(self, number: int) -> dict[str, Any]:
        self._used.add(number)
        total = len(next(iter(self._calibration.values())))
        self._progress("calibrating for openvino", len(self._used), total)
        return {name: samples[number : number + 1] for name, samples in self._calibration.items()}


def _preset(nncf: Any, model: Any, *, attention: bool) -> Any:
    below_zero = any(operator.get_type_name() in _BELOW_ZERO for operator in model.get_ops())
    return nncf.QuantizationPreset.MIXED if attention or below_zero else nncf.QuantizationPreset.PERFORMANCE


def _advanced(nncf: Any, profile: HardwareProfile, *, attention: bool) -> Any:
    from nncf.quantization import range_estimator

    saturates = profile.machine == "x86_64" and not _VNNI & set(profile.cpu_flags)
    parameters = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE if saturates else nncf.OverflowFix.DISABLE
    )
    if not attention:  # where a few outliers would cost all other values their resolution
        kinds, over = range_estimator.StatisticsType, range_estimator.AggregatorType
        collect = range_estimator.StatisticsCollectorParameters
        parameters.activations_range_estimator_params = range_estimator.RangeEstimatorParameters(
            min=collect(statistics_type=kinds.MIN, aggregator_type=over.MIN),
            max=collect(statistics_type=kinds.MAX, aggregator_type=over.MAX),
        )
    return parameters
