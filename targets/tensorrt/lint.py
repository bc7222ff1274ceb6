"""What TensorRT refuses, clips or silently gets wrong in a quantized ONNX model, found before it is built.

Pure functions over an `onnx.ModelProto`. `RULES` is the one table: a code, what it demands, and the check that gives
the violations. Rules look at the main graph: a quantized branch or loop body is not something we emit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgewright.contracts.errors import CompileError
from edgewright.targets.tensorrt.onnx_file import layer_of

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_QOPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QGemm", "QLinearConv", "QLinearMatMul"}
)
_CLIPS = frozenset({"Clip", "Max", "Min", "Relu"})
_RESHAPES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_INT16 = frozenset({TensorProto.INT16, TensorProto.UINT16})
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Violation:
    """A rule broken at a node. `layer` is the layer whose inference would be wrong."""

    rule: str
    node: str
    layer: str
    message: str


class Graph:
    """A model's main graph with the look-ups that rules need."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.outputs = {value.name for value in model.graph.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = node.attribute[0].t
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    @cached_property
    def dtypes(self) -> Mapping[str, int]:
        """ONNX's number of each value's dtype, as far as it can be inferred; 0: unknown."""
        try:
            graph = onnx.shape_inference.infer_shapes(self.model).graph
        except onnx.shape_inference.InferenceError:
            graph = self.model.graph  # what is declared still counts, and the rule `untyped` names the rest
        values = (*graph.input, *graph.output, *graph.value_info)
        known = {value.name: int(value.type.tensor_type.elem_type) for value in values}
        return known | {name: int(tensor.data_type) for name, tensor in self.constants.items()}

    def quantization_nodes(self) -> Iterator[Any]:
        """All QuantizeLinear and DequantizeLinear nodes."""
        return (node for node in self.nodes if node.op_type in (_Q, _DQ))

    def array(self, name: str) -> Any:
        """A constant as an array; None: not a constant."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def through_reshapes(self, name: str) -> Any:
        """The node that makes `name`, looking through nodes that only rearrange; None: a constant or an input."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _RESHAPES:
            node = self.producer.get(node.input[0])
        return node

    def layer(self, node: Any) -> str:
        """The layer that computes with what `node` makes."""
        while node.op_type in (_Q, _DQ) or node.op_type in _RESHAPES:
            following = self.consumers.get(node.output[0], [])
            if not following:
                break
            node = following[0]
        return layer_of(node.name)


Found = Iterator[tuple[Any, str]]


@dataclass(frozen=True)
class Rule:
    """`check` yields (node, what is wrong with it)."""

    code: str
    description: str
    check: Callable[[Graph], Found]


def _int32_bias(graph: Graph) -> Found:
    for node in graph.nodes:
        if node.op_type == _DQ and graph.dtypes.get(node.input[0]) == TensorProto.INT32:
            yield node, "dequantizes int32, as some tools store biases"


def _qoperator(graph: Graph) -> Found:
    for node in graph.nodes:
        if node.op_type in _QOPERATORS or (node.domain == "com.microsoft" and node.op_type.startswith("QLinear")):
            yield node, f"is a {node.op_type}"


def _int16(graph: Graph) -> Found:
    for node in graph.nodes:
        if any(graph.dtypes.get(name) in _INT16 for name in (*node.input, *node.output)):
            yield node, "takes or makes 16-bit integers"


def _zero_point(graph: Graph) -> Found:
    for node in graph.quantization_nodes():
        zero_point = graph.array(node.input[2]) if len(node.input) > 2 else None
        if zero_point is not None and np.any(zero_point):
            yield node, f"has the zero point {int(zero_point.flat[np.flatnonzero(zero_point)[0]])}"


def _uint8(graph: Graph) -> Found:
    for node in graph.quantization_nodes():
        # Without a zero point, QuantizeLinear gives uint8 by ONNX's definition.
        quantized = node.output[0] if node.op_type == _Q else node.input[0]
        if graph.dtypes.get(quantized) == TensorProto.UINT8:
            yield node, "quantizes to uint8: TensorRT reads it as int8 and clips half of the range"


def _clip_between(graph: Graph) -> Found:
    for node in graph.nodes:
        if node.op_type == _DQ:
            between = graph.through_reshapes(node.input[0])
            if between is not None and between.op_type in _CLIPS:
                yield between, "clips between QuantizeLinear and DequantizeLinear: the engine's weights become zeros"


def _weight_form(graph: Graph) -> Found:
    for node in graph.nodes:
        if node.op_type not in _WEIGHTED or len(node.input) < 2:
            continue
        activation, weight = (graph.through_reshapes(name) for name in node.input[:2])
        quantized_activation = activation is not None and activation.op_type == _DQ
        if weight is None:
            if quantized_activation and _is_constant(graph, node.input[1]):
                yield node, "has a quantized input and float weights"
        elif weight.op_type == _DQ and not _is_activation(graph, weight):
            problem = _weight_problem(graph, node, weight)
            if problem:
                yield node, problem


def _weight_problem(graph: Graph, node: Any, dequantize: Any) -> str | None:
    stored, scale = graph.array(dequantize.input[0]), graph.array(dequantize.input[1])
    if stored is None or stored.dtype != np.int8:
        return "has weights that are not stored as constant int8"
    axis = next((int(a.i) for a in dequantize.attribute if a.name == "axis"), 1) % max(stored.ndim, 1)
    if scale is None or scale.shape != (stored.shape[axis],):
        return f"has weights with scales of shape {None if scale is None else scale.shape}, not one a channel"
    # Between the weights and the layer a Transpose may stand, so only the untransposed case says which axis is right.
    if graph.producer.get(node.input[1]) is dequantize and axis != _output_axis(node, stored.ndim):
        return f"has one weight scale for each index of axis {axis}, which is not its output channels' axis"
    return None


def _output_axis(node: Any, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else rank - 1


def _is_activation(graph: Graph, dequantize: Any) -> bool:
    """Whether a DequantizeLinear stands behind a QuantizeLinear of something computed."""
    quantize = graph.through_reshapes(dequantize.input[0])
    return quantize is not None and quantize.op_type == _Q and not _is_constant(graph, quantize.input[0])


def _is_constant(graph: Graph, name: str) -> bool:
    while name not in graph.constants:
        node = graph.producer.get(name)
        if node is None or node.op_type not in _RESHAPES:
            return False
        name = node.input[0]
    return True


def _unpaired(graph: Graph) -> Found:
    for node in graph.nodes:
        if node.op_type == _Q:
            following = graph.consumers.get(node.output[0], [])
            if not following or node.output[0] in graph.outputs or any(n.op_type != _DQ for n in following):
                yield node, "is not followed by DequantizeLinear alone"
            elif any(not _same_scale(graph, node, other) for other in following):
                yield node, "is dequantized with another scale than it was quantized with"
        elif node.op_type == _DQ and not _is_constant(graph, node.input[0]):
            before = graph.producer.get(node.input[0])
            if before is None or before.op_type != _Q:
                yield node, "dequantizes what no QuantizeLinear made"


def _same_scale(graph: Graph, one: Any, other: Any) -> bool:
    return one.input[1] == other.input[1] or np.array_equal(graph.array(one.input[1]), graph.array(other.input[1]))


def _bad_scale(graph: Graph) -> Found:
    for node in graph.quantization_nodes():
        scale = graph.array(node.input[1])
        if scale is None:
            yield node, "has a scale that is computed, not constant"
        elif not np.all(np.isfinite(scale)):
            yield node, "has a scale that is not a number, or infinite"
        elif np.any(scale < _SMALLEST_NORMAL):
            yield node, "has a scale that is zero, negative or denormal"


def _untyped(graph: Graph) -> Found:
    for node in graph.nodes:
        unknown = [name for name in node.output if name and not graph.dtypes.get(name)]
        if unknown:
            yield node, f"makes {unknown[0]}, whose dtype is not known before it runs"


RULES: tuple[Rule, ...] = (
    Rule("int32-bias", "no bias is stored as int32 behind DequantizeLinear", _int32_bias),
    Rule("qoperator", "quantization is written as Q/DQ pairs, not as quantized operators", _qoperator),
    Rule("int16", "no 16-bit integers", _int16),
    Rule("zero-point", "every zero point is 0", _zero_point),
    Rule("uint8", "quantized values are int8", _uint8),
    Rule("clip-between", "nothing clips between QuantizeLinear and DequantizeLinear", _clip_between),
    Rule("weight-form", "weights of quantized layers are constant int8, one scale an output channel", _weight_form),
    Rule("unpaired", "every QuantizeLinear is paired with DequantizeLinear of the same scale", _unpaired),
    Rule("bad-scale", "every scale is a constant, normal, positive number", _bad_scale),
    Rule("untyped", "the dtype of every value is known", _untyped),
)


def violations(model: Any) -> tuple[Violation, ...]:
    """What in an `onnx.ModelProto` breaks a rule, in the order of `RULES`."""
    graph = Graph(model)
    return tuple(
        Violation(rule.code, node.name or node.op_type, graph.layer(node), message)
        for rule in RULES
        for node, message in rule.check(graph)
    )


def check(model: Any) -> None:
    """Refuse a model that breaks a rule.

    Raises:
        CompileError: `tensorrt-lint`, naming the rule, the node and the layer of the first violation.
    """
    found = violations(model)
    if not found:
        return
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise CompileError(
        "tensorrt-lint",
        f"TensorRT would not run this model as it is meant: rule {first.rule}, node {first.node} of layer "
        f"{first.layer} {first.message}{more}",
        expected=next(rule.description for rule in RULES if rule.code == first.rule),
        found="; ".join(f"{v.rule}: {v.node}" for v in found[:5]),
        next_step="leave the layer out of quantization, or quantize the float model with edgewright instead of "
        "bringing a quantized one",
    )
