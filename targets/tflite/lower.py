"""The float model as a `.tflite` file, by litert-torch.

- One signature for one sample: TFLite has no open batch, and sessions run sample by sample.
- Inputs keep the module's layout (NCHW for images).
- Signature names are the source's; 64-bit integers become 32-bit ones, as everywhere in TFLite.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from edgewright.contracts.errors import CompileError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.names import argument_names
from edgewright.targets.protocol import Lowered, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet, require
from edgewright.targets.torch_export import example_inputs, export_one, locate, unsupported_operator

require("litert_torch")

_UNSUPPORTED = re.compile(r"Lowering not found: (\S+)")
_EXECUTING = re.compile(r"While executing .*call_function\[target=torch\.ops\.([\w.]+)\]")
_NEXT_STEP = "replace it by operators that LiteRT supports, or take another target for this profile"


def lower(source: SourceModel, profile: HardwareProfile, work: Path) -> Lowered:  # noqa: ARG001 - one file fits all
    """See `protocol.Lower`. Also raises CompileError `export-refused` and, for ONNX, `unsupported-source`."""
    if source.module is None:
        raise CompileError(
            "unsupported-source",
            "TFLite artifacts cannot be made from an ONNX file",
            expected="a torch model: `model: package.module:callable`, or a .pt2 file",
            found=str(source.onnx_path),
            next_step="give the torch model this ONNX file was exported from, or leave TFLite profiles out",
        )
    exported = export_one(source)
    path = work / "fp32.tflite"
    try:
        with quiet():
            import litert_torch

            names = argument_names(source.inputs)
            example = dict(zip(names, example_inputs(source), strict=True))
            module = _Named(exported.program.module(check_guards=False), names)
            converted = litert_torch.convert(module, sample_kwargs=example)
            path.write_bytes(converted.model_content())
    except ThirdPartyError as refusal:
        raise _refused(source, exported.program, refusal) from refusal
    return Lowered(path, "fp32")


class _Named(torch.nn.Module):
    """A module of positional inputs behind keyword arguments: the converter takes a signature's names from those."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names
        self.training = False  # not by eval(): an exported program's module refuses that call

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The module's outputs, which litert-torch names ``output_0``, ``output_1``, …"""
        return self.module(*(inputs[name] for name in self.names))


def _refused(source: SourceModel, program: torch.export.ExportedProgram, refusal: ThirdPartyError) -> CompileError:
    text = str(refusal.cause)
    # Some operators have no lowering; others have one that fails on what this model asks of them.
    operator = _UNSUPPORTED.search(text) or _EXECUTING.search(text)
    if operator is None:
        return CompileError(
            "lower-failed",
            f"litert-torch could not convert the model '{source.name}'",
            found=refusal.found,
            next_step="check the model with litert_torch.convert, or take another target for this profile",
        )
    return unsupported_operator(
        "TFLite", [operator[1]], locate(program, {operator[1]}), text.splitlines()[0], _NEXT_STEP
    )
