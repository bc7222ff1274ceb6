"""The float model as ONNX: exported from torch, or the user's own file after it was checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.protocol import Lowered, SourceModel
from edgewright.targets.tensorrt.export import to_onnx
from edgewright.targets.tensorrt.lint import check
from edgewright.targets.tensorrt.onnx_file import read_model, tidy, write_model
from edgewright.targets.torch_export import export_any_batch

MIN_OPSET = 17
_STANDARD_DOMAINS = ("", "ai.onnx")


def lower(source: SourceModel, profile: HardwareProfile, work: Path) -> Lowered:  # noqa: ARG001 - every GPU reads the same ONNX
    """Write `source` as float32 ONNX to ``work/model.onnx``; two runs write the same bytes.

    Raises:
        CompileError: `export-refused`, `unsupported-op`, `lower-failed`, `model-too-large`, or `tensorrt-lint`.
        UserError: `onnx-unreadable`.
    """
    findings: tuple[Finding, ...] = ()
    if source.onnx_path is not None:
        model = _users_model(source.onnx_path)
    else:
        exported = export_any_batch(source)
        findings = exported.findings
        model = to_onnx(exported.program, source)
    check(model)
    path = work / "model.onnx"
    write_model(model, path)
    return Lowered(path=path, precision="fp32", findings=findings)


def _users_model(path: Path) -> Any:
    model = read_model(path)
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS), 0)
    if opset < MIN_OPSET:
        raise CompileError(
            "unsupported-op",
            f"{path.name} is written in an ONNX opset that is too old",
            expected=f"opset {MIN_OPSET} or newer",
            found=f"opset {opset}",
            next_step=f"export it again with opset {MIN_OPSET} or newer, or use onnx.version_converter",
        )
    for node in model.graph.node:
        if node.domain not in _STANDARD_DOMAINS:
            raise CompileError(
                "unsupported-op",
                f"{node.op_type} ({node.name or 'without a name'}) is of the domain {node.domain}, which TensorRT "
                "does not know",
                expected="operators of the ONNX standard",
                found=f"{node.domain}::{node.op_type}",
                next_step="export the model without runtime-specific operators",
            )
    try:
        onnx.checker.check_model(model, full_check=True)
        typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise CompileError(
            "lower-failed",
            f"{path.name} is not a valid ONNX model",
            found=" ".join(str(error).split())[:300],
            next_step="run onnx.checker.check_model on it, and mend how it was exported",
        ) from None
    tidy(typed)
    return typed
