"""Each rule of the TensorRT linter catches the fault it is there for, and only that one in an otherwise good model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgewright.contracts.errors import CompileError  # noqa: E402
from edgewright.targets.tensorrt.lint import RULES, check, violations  # noqa: E402


def good_model() -> Any:
    """x → Q → DQ → Conv (int8 weights, float bias) → Relu → y, as edgewright's own quantizer writes it."""
    weights = np.arange(-36, 36, dtype=np.int8).reshape(4, 2, 3, 3)
    constants = {
        "x_scale": np.float32(0.1),
        "zero": np.int8(0),
        "weights": weights,
        "w_scale": np.full(4, 0.01, np.float32),
        "w_zero": np.zeros(4, np.int8),
        "bias": np.zeros(4, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["x_q"], "quantize"),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "zero"], ["x_dq"], "dequantize"),
        helper.make_node("DequantizeLinear", ["weights", "w_scale", "w_zero"], ["w_dq"], "dequantize_w", axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq", "bias"], ["c"], "block.conv/Conv"),
        helper.make_node("Relu", ["c"], ["y"], "block.relu/Relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def set_constant(model: Any, name: str, value: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def add_constant(model: Any, name: str, value: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def node(model: Any, name: str) -> Any:
    return next(n for n in model.graph.node if n.name == name)


def insert(model: Any, position: int, *arguments: Any, **attributes: Any) -> None:
    model.graph.node.insert(position, helper.make_node(*arguments, **attributes))


def int32_bias(model: Any) -> None:
    set_constant(model, "bias", np.zeros(4, np.int32))
    insert(model, 3, "DequantizeLinear", ["bias", "w_scale"], ["b_dq"], "dequantize_b", axis=0)
    node(model, "block.conv/Conv").input[2] = "b_dq"


def qoperator(model: Any) -> None:
    insert(model, 5, "ConvInteger", ["x_q", "weights"], ["unused"], "integer/ConvInteger")


def int16(model: Any) -> None:
    insert(model, 5, "Cast", ["x"], ["unused"], "cast/Cast", to=TensorProto.INT16)


def zero_point(model: Any) -> None:
    set_constant(model, "zero", np.int8(3))


def uint8(model: Any) -> None:
    set_constant(model, "zero", np.uint8(0))


def uint8_by_default(model: Any) -> None:
    for name in ("quantize", "dequantize"):
        del node(model, name).input[2]


def clip_between(model: Any) -> None:
    add_constant(model, "low", np.int8(-127))
    insert(model, 1, "Clip", ["x_q", "low"], ["x_clipped"], "clip")
    node(model, "dequantize").input[0] = "x_clipped"


def clipped_weights(model: Any) -> None:
    set_constant(model, "weights", np.zeros((4, 2, 3, 3), np.float32))
    add_constant(model, "low", np.int8(-127))
    insert(model, 2, "QuantizeLinear", ["weights", "w_scale", "w_zero"], ["w_q"], "quantize_w", axis=0)
    insert(model, 3, "Clip", ["w_q", "low"], ["w_clipped"], "clip_w")
    node(model, "dequantize_w").input[0] = "w_clipped"


def float_weights(model: Any) -> None:
    set_constant(model, "weights", np.zeros((4, 2, 3, 3), np.float32))
    node(model, "block.conv/Conv").input[1] = "weights"
    model.graph.node.remove(node(model, "dequantize_w"))


def weights_quantized_at_run_time(model: Any) -> None:
    set_constant(model, "weights", np.zeros((4, 2, 3, 3), np.float32))
    insert(model, 2, "QuantizeLinear", ["weights", "w_scale", "w_zero"], ["w_q"], "quantize_w", axis=0)
    node(model, "dequantize_w").input[0] = "w_q"


def weights_per_tensor(model: Any) -> None:
    set_constant(model, "w_scale", np.float32(0.01))
    set_constant(model, "w_zero", np.int8(0))


def weights_along_the_wrong_axis(model: Any) -> None:
    set_constant(model, "w_scale", np.full(2, 0.01, np.float32))
    set_constant(model, "w_zero", np.zeros(2, np.int8))
    node(model, "dequantize_w").attribute[0].i = 1


def quantize_without_dequantize(model: Any) -> None:
    node(model, "dequantize").input[0] = "stored"
    add_constant(model, "stored", np.zeros((1, 2, 8, 8), np.int8))


def dequantize_without_quantize(model: Any) -> None:
    insert(model, 1, "Cast", ["x"], ["x_cast"], "cast/Cast", to=TensorProto.INT8)
    node(model, "dequantize").input[0] = "x_cast"
    model.graph.node.remove(node(model, "quantize"))


def another_scale(model: Any) -> None:
    add_constant(model, "other_scale", np.float32(0.2))
    node(model, "dequantize").input[1] = "other_scale"


def scale_of(value: float) -> Callable[[Any], None]:
    return lambda model: set_constant(model, "x_scale", np.float32(value))


def computed_scale(model: Any) -> None:
    insert(model, 0, "ReduceMax", ["x"], ["x_max"], "max/ReduceMax", keepdims=0)
    for name in ("quantize", "dequantize"):
        node(model, name).input[1] = "x_max"


def untyped(model: Any) -> None:
    insert(model, 5, "Mystery", ["x"], ["unused"], "mystery/Mystery", domain="example.org")


FAULTS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "int32-bias": (int32_bias,),
    "qoperator": (qoperator,),
    "int16": (int16,),
    "zero-point": (zero_point,),
    "uint8": (uint8, uint8_by_default),
    "clip-between": (clip_between, clipped_weights),
    "weight-form": (
        float_weights,
        weights_quantized_at_run_time,
        weights_per_tensor,
        weights_along_the_wrong_axis,
    ),
    "unpaired": (quantize_without_dequantize, dequantize_without_quantize, another_scale),
    "bad-scale": (
        scale_of(float("nan")),
        scale_of(float("inf")),
        scale_of(0.0),
        scale_of(-0.1),
        scale_of(1e-40),
        computed_scale,
    ),
    "untyped": (untyped,),
}


def test_a_model_as_our_quantizer_writes_it_breaks_no_rule() -> None:
    assert violations(good_model()) == ()


@pytest.mark.parametrize("rule", [rule.code for rule in RULES])
def test_each_rule_catches_its_faults(rule: str) -> None:
    assert FAULTS[rule], "a rule without a seeded fault is not known to catch anything"
    for seed in FAULTS[rule]:
        model = good_model()
        seed(model)
        assert rule in {violation.rule for violation in violations(model)}, seed


def test_every_seeded_fault_belongs_to_a_rule() -> None:
    assert set(FAULTS) == {rule.code for rule in RULES}


def test_a_violation_names_rule_node_and_layer() -> None:
    model = good_model()
    zero_point(model)
    with pytest.raises(CompileError) as caught:
        check(model)
    assert caught.value.code == "tensorrt-lint"
    assert all(word in caught.value.what for word in ("zero-point", "node quantize", "layer block.conv"))
    assert caught.value.expected == "every zero point is 0"
    assert caught.value.next_step


def test_rearranging_nodes_between_a_layer_and_its_weights_are_looked_through() -> None:
    model = good_model()
    insert(model, 3, "Transpose", ["w_dq"], ["w_t"], "transpose", perm=[0, 1, 3, 2])
    node(model, "block.conv/Conv").input[1] = "w_t"
    assert violations(model) == ()


def test_a_float_model_breaks_no_rule() -> None:
    model = good_model()
    float_weights(model)
    node(model, "block.conv/Conv").input[0] = "x"
    for name in ("dequantize", "quantize"):
        model.graph.node.remove(node(model, name))
    assert violations(model) == ()
