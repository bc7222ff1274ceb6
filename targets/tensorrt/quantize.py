"""The model in INT8, as ONNX with Q/DQ pairs that TensorRT takes.

From torch by PT2E with our quantizer; from ONNX by ONNX Runtime's static quantization with the options that make the
same form. Both are calibrated on every sample and both pass the linter, or nothing is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.protocol import Lowered, Progress, Samples, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet
from edgewright.targets.tensorrt.export import to_onnx
from edgewright.targets.tensorrt.lint import check
from edgewright.targets.tensorrt.onnx_file import input_shapes, read_model, tidy, write_model
from edgewright.targets.torch_export import example_inputs, export_any_batch

_CALIBRATION_BATCH = 16
_WHAT = "calibrate tensorrt"
_QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")


def quantize(
    source: SourceModel,
    lowered: Lowered,
    calibration: Samples,
    profile: HardwareProfile,  # noqa: ARG001 - every GPU reads the same ONNX
    work: Path,
    progress: Progress,
) -> Lowered:
    """Write `source` as INT8 Q/DQ ONNX to ``work/model.int8.onnx``; `lowered` is what an ONNX source starts from.

    Raises:
        CompileError: `quantize-failed`, `export-refused`, `unsupported-op`, `lower-failed` or `tensorrt-lint`.
    """
    path = work / "model.int8.onnx"
    findings: tuple[Finding, ...] = ()
    try:
        if source.module is not None:
            model, findings = _quantize_torch(source, calibration, progress)
        else:
            model = _quantize_onnx(lowered.path, source, calibration, progress, work)
    except ThirdPartyError as failure:
        raise CompileError(
            "quantize-failed",
            f"the model '{source.name}' could not be quantized",
            found=failure.found,
            next_step="compile it without the int8 pass, and report the operator that stands in the way",
        ) from failure
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise CompileError(
            "quantize-failed",
            f"nothing in {source.name} could be quantized",
            expected="a convolution or a linear layer with constant weights",
            next_step="compile it without the int8 pass",
        )
    check(model)
    write_model(model, path)
    return Lowered(path=path, precision="int8", findings=findings)


def _quantize_torch(source: SourceModel, calibration: Samples, progress: Progress) -> tuple[Any, tuple[Finding, ...]]:
    exported = export_any_batch(source)
    fixed = 1 if exported.findings else None
    inputs = example_inputs(source, samples=1 if fixed else 2)
    shapes = None if fixed else ({0: torch.export.Dim("batch")},) * len(inputs)
    with quiet() as section:
        # Imported here, because torchao complains on stderr of the accelerators it does not find.
        from edgewright.targets.tensorrt.quantizer import float_layers, quantize_program

        batches = _batches(source, calibration, fixed, section.aloud(progress))
        tensors = (tuple(map(torch.from_numpy, batch.values())) for batch in batches)
        converted = quantize_program(exported.program, tensors)
        # Not behind another wrapper: traced as a root, its nodes keep the names of their layers.
        program = torch.export.export(converted, inputs, dynamic_shapes=shapes, strict=False)
    return to_onnx(program, source), exported.findings + _float_findings(float_layers(converted))


def _quantize_onnx(path: Path, source: SourceModel, calibration: Samples, progress: Progress, work: Path) -> Any:
    model = read_model(path)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise CompileError(
            "quantize-failed",
            f"{source.name} is quantized already",
            next_step="compile it without the int8 pass, or bring the float model",
        )
    batch = input_shapes(model)[source.inputs[0].name][0]
    fixed = None if batch == -1 else batch
    with quiet() as section, tempfile.TemporaryDirectory(dir=work) as scratch:
        prepared, quantized = Path(scratch, "prepared.onnx"), Path(scratch, "quantized.onnx")
        # Folds batch norms into convolutions, which a Q/DQ pair between them would prevent.
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Reader(_batches(source, calibration, fixed, section.aloud(progress))),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_QUANTIZED_OPS),
            nodes_to_exclude=_without_weights(onnx.load(prepared)),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                # A pair between a convolution and its activation would keep TensorRT from fusing them.
                "OpTypesToExcludeOutputQuantization": list(_QUANTIZED_OPS),
            },
        )
        model = onnx.load(quantized)
    tidy(model)
    return model


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterator[dict[str, Any]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _batches(
    source: SourceModel, calibration: Samples, fixed: int | None, progress: Progress
) -> Iterator[dict[str, Any]]:
    """All samples, in batches of the model's size; a fixed batch is filled up with samples from the start."""
    total = len(next(iter(calibration.values())))
    size = _CALIBRATION_BATCH if fixed is None else fixed
    for start in range(0, total, size):
        stop = min(start + size, total)
        picked = np.arange(start, stop if fixed is None else start + size) % total
        yield {spec.name: np.ascontiguousarray(calibration[spec.name][picked]) for spec in source.inputs}
        progress(_WHAT, stop, total)


def _without_weights(model: Any) -> list[str]:
    """Products of two activations, as in attention: quantizing those costs accuracy and TensorRT fuses them as they
    are.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type in _QUANTIZED_OPS and n.input[1] not in constants]


def _float_findings(layers: tuple[str, ...]) -> tuple[Finding, ...]:
    if not layers:
        return ()
    return (
        Finding(
            code="tensorrt-layer-float",
            severity=Severity.INFO,
            message=f"{len(layers)} layers with weights stay in float: {', '.join(layers[:5])}",
            where=layers[0],
            next_step="none is needed if accuracy and speed are right",
        ),
    )
