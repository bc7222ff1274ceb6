"""Reading, tidying and writing ONNX files.

- Equal models become equal bytes: doc strings and metadata (which hold paths, lines and stack traces) go.
- A node's name says which layer it belongs to: ``layer1.0.conv/Conv``.
- One file a model, its weights inside.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.protobuf.message as _protobuf  # type: ignore[import-untyped]
import onnx

from edgewright.contracts.errors import CompileError, UserError
from edgewright.targets.tensorrt.files import write_atomically

_SCOPES = "pkg.torch.onnx.name_scopes"


def read_model(path: Path) -> Any:
    """An ONNX model with its weights, external ones too.

    Raises:
        UserError: `onnx-unreadable`.
    """
    try:
        return onnx.load(path)
    except (OSError, _protobuf.DecodeError, onnx.checker.ValidationError) as error:
        raise UserError(
            "onnx-unreadable",
            f"{path} cannot be read as an ONNX model",
            found=_first_line(error),
            next_step="check that it is an .onnx file, and that the weight files it names lie beside it",
        ) from None


def write_model(model: Any, path: Path) -> None:
    """Write `model` to `path`, all or nothing; the same model gives the same bytes.

    Raises:
        CompileError: `model-too-large` above the 2 GiB that one ONNX file can hold.
    """
    try:
        data = model.SerializeToString(deterministic=True)
    except (_protobuf.EncodeError, ValueError) as error:
        raise CompileError(
            "model-too-large",
            "the model does not fit one ONNX file",
            expected="less than 2 GiB with its weights",
            found=_first_line(error),
            next_step="make the model smaller",
        ) from None
    write_atomically(path, data)


def tidy(model: Any, *, wrapper: str = "") -> None:
    """Take out, in place, what differs between equal models, and name each node after its layer.

    Args:
        model: an `onnx.ModelProto`.
        wrapper: the name of a module, or of several in each other, around the user's: left out of layers' names.
    """
    model.doc_string = ""
    del model.metadata_props[:]
    # Importers of domains that no node is of are leftovers, and TensorRT warns about each.
    used = {node.domain for graph in _graphs(model) for node in graph.node} | {""}
    standard = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    seen: set[str] = set()
    for graph in _graphs(model):
        graph.doc_string = ""
        for node in graph.node:
            node.name = _unique(_named_after_layer(node, wrapper), seen)
        for thing in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
            thing.doc_string = ""
            if hasattr(thing, "metadata_props"):
                del thing.metadata_props[:]


def input_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each input; -1 is any size."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(int(d.dim_value) if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
        for value in model.graph.input
        if value.name not in constants
    }


def without_wrapper(path: str, wrapper: str) -> str:
    """A module's path as its owner knows it."""
    while path and path.split(".", 1)[0] == wrapper:
        path = path.partition(".")[2]
    return path


def layer_of(node_name: str) -> str:
    """The layer a node belongs to, as its name tells: ``layer1.0.conv/Conv`` is of ``layer1.0.conv``."""
    return node_name.rpartition("/")[0].strip("/") or node_name


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, and every graph inside its nodes (branches, loop bodies)."""
    pending = [model.graph]
    while pending:
        graph = pending.pop(0)
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else []
                pending += attribute.graphs


def _named_after_layer(node: Any, wrapper: str) -> str:
    """The exporter of torch notes the modules a node comes from; others put them into the name themselves."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if noted is None:
        return str(node.name) or str(node.op_type)
    scopes = ast.literal_eval(noted)
    scope = without_wrapper(scopes[-2], wrapper) if len(scopes) > 1 else ""
    return f"{scope}/{node.op_type}" if scope else str(node.op_type)


def _unique(name: str, seen: set[str]) -> str:
    free, number = name, 1
    while free in seen:
        number += 1
        free = f"{name}_{number}"
    seen.add(free)
    return free


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
