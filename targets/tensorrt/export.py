"""An exported torch program as ONNX; an operator without an ONNX form is named with its layer and line."""

from __future__ import annotations

import re
from typing import Any

import torch

from edgewright.contracts.errors import CompileError
from edgewright.targets.protocol import SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet
from edgewright.targets.tensorrt.onnx_file import tidy
from edgewright.targets.torch_export import locate

# The newest that the ONNX parser of TensorRT 10.3 (JetPack 6) reads.
OPSET = 21

_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)', overload='([^']+)'\)>")
# What `torch_export` wraps a module in; it is no layer of the user's.
WRAPPER = "source"


def to_onnx(program: torch.export.ExportedProgram, source: SourceModel) -> Any:
    """`program` as a tidy `onnx.ModelProto`, with the names that `source` gives its inputs and outputs.

    Raises:
        CompileError: `unsupported-op` with the operator, the layer and the line; `lower-failed` otherwise.
    """
    try:
        with quiet():
            model = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in source.inputs],
                output_names=[spec.name for spec in source.outputs],
                external_data=False,
                verbose=False,
            ).model_proto
    except ThirdPartyError as refusal:
        raise _refusal(refusal, program, source) from refusal
    tidy(model, wrapper=WRAPPER)
    return model


def _refusal(refusal: ThirdPartyError, program: torch.export.ExportedProgram, source: SourceModel) -> CompileError:
    operators = sorted({".".join(match) for match in _OPERATOR.findall(str(refusal.cause))})
    if not operators:
        return CompileError(
            "lower-failed",
            f"the model '{source.name}' cannot be written as ONNX",
            found=refusal.found,
            next_step="export it to ONNX yourself and give the .onnx file as the model",
        )
    where = locate(program, operators)
    return CompileError(
        "unsupported-op",
        f"TensorRT reads ONNX, which has no counterpart for {', '.join(operators)}" + (f" in {where}" if where else ""),
        expected=f"a model of operators that ONNX opset {OPSET} can express",
        found=", ".join(operators),
        next_step="replace the operation in the model, or choose another target for this profile",
    )
