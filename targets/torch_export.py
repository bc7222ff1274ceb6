"""A source's module as a `torch.export` program, and where in the user's code an operator of it comes from.

- Inputs are positional, outputs a flat tuple of tensors, both in the source's order.
- A model that torch.export refuses is the user's to mend: the error shows the line.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import _pytree as pytree

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.targets.protocol import SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet

_PREFIX = "source"
_OWN = str(Path(__file__).parents[1])
_STDLIB = sysconfig.get_path("stdlib")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)\n\s+(?P<code>[^\n]+)')


@dataclass(frozen=True)
class Exported:
    """A traced model. `findings` says so when its batch could not be left open."""

    program: torch.export.ExportedProgram
    findings: tuple[Finding, ...] = ()


class _Flat(torch.nn.Module):
    """The source's module with its outputs as a flat tuple of tensors."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.add_module(_PREFIX, module)
        self.training = False  # not by eval(): an exported program's module refuses that call

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = getattr(self, _PREFIX)(*inputs)
        return tuple(leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor))


def export_one(source: SourceModel) -> Exported:
    """`source` for exactly one sample.

    Raises:
        CompileError: `export-refused`.
    """
    try:
        return Exported(_export(source, dynamic=False))
    except ThirdPartyError as refusal:
        raise _export_refused(source, refusal) from refusal


def export_any_batch(source: SourceModel) -> Exported:
    """`source` for any number of samples, or for one, with a finding, where the model fixes its batch.

    Raises:
        CompileError: `export-refused`.
    """
    try:
        return Exported(_export(source, dynamic=True))
    except ThirdPartyError as refusal:
        exported = export_one(source)
        return Exported(
            exported.program,
            (
                Finding(
                    code="batch-fixed",
                    message=f"the model takes one sample at a time: {_first_line(refusal.cause)}",
                    severity=Severity.INFO,
                    where=_user_line(refusal.cause),
                    next_step="only matters if you want larger batches: leave the batch dimension open in the model",
                ),
            ),
        )


def example_inputs(source: SourceModel, samples: int = 1) -> tuple[torch.Tensor, ...]:
    """The source's example as tensors, repeated to `samples`."""
    arrays = (torch.from_numpy(source.example[spec.name].copy()) for spec in source.inputs)
    return tuple(array.repeat(samples, *([1] * (array.ndim - 1))) for array in arrays)


def locate(program: torch.export.ExportedProgram, operators: Collection[str]) -> str | None:
    """Where the first of `operators` (as ``aten.relu.default``) comes from: the layer's path and the line of code."""
    for graph in (program.graph, _decomposed(program)):
        for node in graph.nodes if graph is not None else ():
            if str(node.target) in operators:
                places = (_layer(node), _last_user_frame(node.meta.get("stack_trace") or ""))
                return ", ".join(place for place in places if place) or None
    return None


def unsupported_operator(
    target: str, operators: list[str], where: str | None, found: str, next_step: str
) -> CompileError:
    """The error for operators that `target` has no counterpart for."""
    return CompileError(
        "unsupported-op",
        f"{target} has no counterpart for {', '.join(operators)}" + (f" in {where}" if where else ""),
        expected="a model of operators that the target supports",
        found=found,
        next_step=next_step,
    )


def _export(source: SourceModel, *, dynamic: bool) -> torch.export.ExportedProgram:
    if source.module is None:
        raise CompileError("export-refused", "only a torch module can be exported")
    # torch.export takes a dimension of size 1 as fixed, so an open batch is shown two samples.
    inputs = example_inputs(source, samples=2 if dynamic else 1)
    shapes = {"inputs": ({0: torch.export.Dim("batch")},) * len(inputs)} if dynamic else None
    with quiet(), torch.no_grad():
        return torch.export.export(_Flat(source.module), inputs, dynamic_shapes=shapes, strict=False)


def _export_refused(source: SourceModel, refusal: ThirdPartyError) -> CompileError:
    line = _user_line(refusal.cause)
    return CompileError(
        "export-refused",
        f"torch.export cannot trace the model '{source.name}'" + (f" at {line}" if line else ""),
        expected="a forward() whose Python control flow does not depend on the values of tensors",
        found=_first_line(refusal.cause),
        next_step="change that line (torch.where or torch.cond instead of `if`, no .item() or NumPy), and check it "
        "with torch.export.export(model, (example,))",
    )


def _user_line(error: Exception) -> str | None:
    """The line of the user's code an exception is about: torch names it in the text, plain Python in the traceback."""
    return _last_user_frame(str(error)) or _last_user_frame("".join(traceback.format_tb(error.__traceback__)))


def _last_user_frame(text: str) -> str | None:
    frames = [match for match in _FRAME.finditer(text) if not _is_library(match["file"])]
    if not frames:
        return None
    return f"{frames[-1]['file']}:{frames[-1]['line']}: {frames[-1]['code'].strip()}"


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith(("<", _OWN, _STDLIB))


def _layer(node: torch.fx.Node) -> str | None:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]).removeprefix(_PREFIX).removeprefix(".") if stack else ""
    return f"layer '{path}'" if path else None


def _decomposed(program: torch.export.ExportedProgram) -> torch.fx.Graph | None:
    try:
        with quiet():
            return program.run_decompositions().graph
    except ThirdPartyError:
        return None  # only the place in an error's text depends on it


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
