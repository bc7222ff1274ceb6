"""A traced torch model in INT8 by PT2E: which tensors are quantized, and how, so that TensorRT runs them as INT8.

- Symmetric int8 everywhere: TensorRT knows no zero point. The range is -127…127, so that -128 never overflows.
- Activations per tensor; weights of convolutions and linear layers per output channel; biases stay float.
- Of a residual addition the branch that skips the convolution is quantized too: then the convolution, the addition
  and the activation behind it become one INT8 layer. (NVIDIA's own quantization toolkit does the same.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from edgewright.targets.tensorrt.export import WRAPPER
from edgewright.targets.tensorrt.onnx_file import without_wrapper

ACTIVATION = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_tensor_symmetric,
    observer_or_fake_quant_ctr=HistogramObserver,
)
WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver,
)

_ATEN = torch.ops.aten
# Transposed convolutions are left out: their output channels are not on axis 0, and TensorRT runs few of them in INT8.
WEIGHTED = (_ATEN.conv1d.default, _ATEN.conv2d.default, _ATEN.conv3d.default, _ATEN.linear.default)
_CONVOLUTIONS = WEIGHTED[:3]
_ADDITIONS = (_ATEN.add.Tensor, _ATEN.add_.Tensor)
_BATCH_NORM = _ATEN.batch_norm.default


class TensorRtQuantizer(Quantizer):
    """Annotates a traced graph as the module docstring says."""

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Mark, in place, the inputs to quantize."""
        for node in model.graph.nodes:
            if node.target in WEIGHTED and _is_parameter(node.args[1]):
                _mark(node, {node.args[0]: ACTIVATION, node.args[1]: WEIGHT})
            elif node.target in _ADDITIONS:
                skip = _skip_branch(node)
                if skip is not None:
                    _mark(node, {skip: ACTIVATION})
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        """Nothing to refuse: what is not annotated stays float."""


def quantize_program(
    program: torch.export.ExportedProgram, batches: Iterable[tuple[torch.Tensor, ...]]
) -> torch.fx.GraphModule:
    """`program` as a module with Q/DQ pairs and int8 weights, calibrated on `batches`; the program stays as it is."""
    # Guards would refuse a last batch of one sample; shapes were checked when the data was read.
    prepared = prepare_pt2e(program.module(check_guards=False), TensorRtQuantizer())
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
    converted = convert_pt2e(prepared, fold_quantize=True)
    # An exported graph refuses `.eval()`, and exporting it complains that it is not in that mode.
    converted.training = False
    return converted


def float_layers(model: torch.fx.GraphModule) -> tuple[str, ...]:
    """Layers with weights that a converted model still computes in float, by their path in the user's module."""
    layers = []
    for node in model.graph.nodes:
        weighted = str(node.target).startswith(("aten.conv", "aten.linear"))
        if weighted and not str(getattr(node.args[1], "target", "")).startswith("quantized_decomposed.dequantize"):
            modules = list(node.meta.get("nn_module_stack", {}).values())
            layers.append((without_wrapper(str(modules[-1][0]), WRAPPER) if modules else "") or node.name)
    return tuple(layers)


def _is_parameter(argument: Any) -> bool:
    return isinstance(argument, torch.fx.Node) and argument.op == "get_attr"


def _skip_branch(addition: torch.fx.Node) -> torch.fx.Node | None:
    """The input of a residual addition that does not come straight from the convolution; None: not a residual one."""
    left, right = addition.args[:2]
    if not (isinstance(left, torch.fx.Node) and isinstance(right, torch.fx.Node)):
        return None
    if _is_parameter(left) or _is_parameter(right):
        return None
    if _is_convolution(right):
        return left
    return right if _is_convolution(left) else None


def _is_convolution(node: Any) -> bool:
    return node.target in _CONVOLUTIONS or (node.target == _BATCH_NORM and node.args[0].target in _CONVOLUTIONS)


def _mark(node: torch.fx.Node, inputs: dict[Any, QuantizationSpec]) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
