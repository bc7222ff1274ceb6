"""The float model as OpenVINO IR, in full precision and with the batch left open.

- Inputs and outputs carry the source's names, in its order.
- Weights are not compressed to FP16: this is the baseline, and what NNCF quantizes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.openvino import ir
from edgewright.targets.protocol import Lowered, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet, require, without_telemetry
from edgewright.targets.torch_export import export_any_batch, locate, unsupported_operator

require("openvino")

_UNSUPPORTED = re.compile(r"(?:No conversion rule found for operations|following ONNX operations):\s*([^\n]+)")
_NEXT_STEP = "replace it by operators that OpenVINO supports, or take another target for this profile"


def lower(source: SourceModel, profile: HardwareProfile, work: Path) -> Lowered:  # noqa: ARG001 - one IR fits all
    """See `protocol.Lower`. Also raises CompileError `export-refused` for a module torch.export cannot trace."""
    without_telemetry()
    model, findings = _from_module(source) if source.onnx_path is None else _from_onnx(source, source.onnx_path)
    path = work / "fp32.xml"
    try:
        with quiet():
            _name_tensors(model, source)
            ir.save(model, path, source.name)
    except ThirdPartyError as refusal:
        raise _lower_failed(source, refusal) from refusal
    return Lowered(path, "fp32", findings)


def _from_module(source: SourceModel) -> tuple[Any, tuple[Finding, ...]]:
    exported = export_any_batch(source)
    try:
        with quiet():
            import openvino as ov

            model = ov.convert_model(exported.program)
            # The converter leaves every dimension open; INT8 with all of them open does not compile in bf16.
            batch = 1 if exported.findings else -1
            shapes = [[batch, *spec.shape[1:]] for spec in source.inputs]
            model.reshape(dict(zip(model.inputs, shapes, strict=True)))
    except ThirdPartyError as refusal:
        operators = _unsupported(refusal)
        if not operators:
            raise _lower_failed(source, refusal) from refusal
        where = locate(exported.program, operators)
        raise unsupported_operator("OpenVINO", operators, where, ", ".join(operators), _NEXT_STEP) from refusal
    return model, exported.findings


def _from_onnx(source: SourceModel, path: Path) -> tuple[Any, tuple[Finding, ...]]:
    try:
        with quiet():
            import openvino as ov

            model = ov.convert_model(path)
    except ThirdPartyError as refusal:
        operators = _unsupported(refusal)
        if not operators:
            raise _lower_failed(source, refusal) from refusal
        raise unsupported_operator("OpenVINO", operators, path.name, ", ".join(operators), _NEXT_STEP) from refusal
    shapes = {spec.name: [-1, *spec.shape[1:]] for spec in source.inputs}
    try:
        with quiet():
            model.reshape(shapes)
    except ThirdPartyError as refusal:
        finding = Finding(
            code="batch-fixed",
            message="the ONNX model's batch is fixed",
            severity=Severity.INFO,
            where=path.name,
            next_step=f"only matters if you want larger batches: export it with an open batch ({refusal.cause})",
        )
        return model, (finding,)
    return model, ()


def _name_tensors(model: Any, source: SourceModel) -> None:
    for port, spec in zip(model.inputs, source.inputs, strict=True):
        port.get_tensor().set_names({spec.name})
    inputs = {spec.name for spec in source.inputs}
    for port, spec in zip(model.outputs, source.outputs, strict=True):
        if not inputs & port.get_names():  # an input passed through keeps its name; sessions take outputs by number
            port.get_tensor().set_names({spec.name})


def _unsupported(refusal: ThirdPartyError) -> list[str]:
    found = _UNSUPPORTED.search(str(refusal.cause))
    return [name.strip() for name in found[1].split(",")] if found else []


def _lower_failed(source: SourceModel, refusal: ThirdPartyError) -> CompileError:
    return CompileError(
        "lower-failed",
        f"OpenVINO could not convert the model '{source.name}'",
        found=refusal.found,
        next_step="check the model with openvino.convert_model, or take another target for this profile",
    )
