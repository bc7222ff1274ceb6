"""A float torch model as a graph of the layers that INT8 is about: what runtimes see, told in the user's names.

- The graph is torch.export's, so it holds for any module that can be compiled, and for .pt2 files.
- BatchNorm behind a convolution or a linear layer is folded into it, as every target does before it quantizes.
- The user's module and its parameters are never changed: what is folded is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from edgewright.compiler.passes.model_pass import TorchModel
from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.protocol import SourceModel
from edgewright.targets.torch_export import export_any_batch

_ATEN = torch.ops.aten
CONVOLUTIONS = (_ATEN.conv1d.default, _ATEN.conv2d.default, _ATEN.conv3d.default)
WEIGHTED = (*CONVOLUTIONS, _ATEN.linear.default)
_BATCH_NORM = _ATEN.batch_norm.default
_WRAPPER = "source."
_GROUPS = 6  # the position of `groups` among a convolution's arguments


@dataclass(frozen=True)
class BatchNorm:
    """The user's names for the scale and the shift of a BatchNorm that was folded; None: it has none."""

    weight: str | None
    bias: str | None


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer with weights of its own.

    Attributes:
        path: in the user's module, e.g. ``blocks.2.conv1``.
        node: its node in the graph; its second and third argument are the folded weight and bias.
        weight: the user's name for its weight.
        bias: the user's name for its bias; None: it has none.
        batch_norm: what was folded into it.
        channel_axis: which axis of its input counts channels: 1 or -1.
        groups: of a convolution; 1 for a linear layer.
    """

    path: str
    node: torch.fx.Node
    weight: str
    bias: str | None
    batch_norm: BatchNorm | None
    channel_axis: int
    groups: int


@dataclass(frozen=True)
class TracedModel:
    """A module as a graph.

    Attributes:
        layers: in the order in which they run.
        shared: the user's names of parameters that are used more than once.
        any_batch: whether it takes any number of samples, or one at a time.
    """

    graph: torch.fx.GraphModule
    layers: tuple[Layer, ...]
    shared: frozenset[str]
    any_batch: bool

    def tensor(self, argument: Any) -> torch.Tensor:
        """The constant that an argument of a layer stands for, e.g. ``layer.node.args[1]`` for its weight."""
        return fetch(self.graph, argument)


def trace(model: TorchModel) -> TracedModel:
    """`model` as a graph.

    Raises:
        CompileError: `export-refused`.
    """
    inputs = tuple(
        TensorSpec(name=name, dtype=array.dtype.name, shape=(-1, *array.shape[1:]))
        for name, array in model.example.items()
    )
    source = SourceModel(
        name=type(model.module).__name__,
        module=model.module,
        onnx_path=None,
        inputs=inputs,
        outputs=(),
        example=model.example,
    )
    exported = export_any_batch(source)
    # Guards would refuse batches of other sizes; that samples fit was checked when the data was read.
    module = exported.program.module(check_guards=False)
    shared = _shared(module)
    layers: list[Layer] = []
    for node in list(module.graph.nodes):
        if node.target in WEIGHTED and all(is_constant(part) for part in node.args[1:3] if part is not None):
            layers.append(_layer(module, node, {layer.path for layer in layers}))
    module.graph.eliminate_dead_code()
    module.recompile()
    return TracedModel(module, tuple(layers), shared, any_batch=not exported.findings)


def user_name(node: Any) -> str | None:
    """The user's name of the parameter or buffer that `node` gets; None where there is none."""
    return str(node.target).removeprefix(_WRAPPER) if isinstance(node, torch.fx.Node) else None


def is_constant(argument: Any) -> bool:
    """Whether an argument is a parameter or a buffer."""
    return isinstance(argument, torch.fx.Node) and argument.op == "get_attr"


def owner(parameter: str) -> str:
    """The path of the layer that has `parameter`; the parameter's name where that says more, as ``in_proj_weight``."""
    path, _, name = parameter.rpartition(".")
    return path if name == "weight" and path else parameter


def fetch(module: torch.fx.GraphModule, node: Any) -> torch.Tensor:
    """The tensor that a ``get_attr`` node gets."""
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach()


def column_ranges(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """The largest absolute weight that reads each input channel, (inputs,), of `weight` (outputs, inputs/groups, …)."""
    return columns(weight, groups).abs().amax((1, 3)).flatten()


def columns(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """`weight` (outputs, inputs / groups, …) as (groups, outputs / groups, inputs / groups, positions)."""
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _shared(module: torch.fx.GraphModule) -> frozenset[str]:
    # Parameters that are tied under several names have one node as well.
    gets = [node for node in module.graph.nodes if node.op == "get_attr"]
    return frozenset(str(user_name(node)) for node in gets if len(node.users) > 1)


def _layer(module: torch.fx.GraphModule, node: torch.fx.Node, taken: set[str]) -> Layer:
    weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
    path = owner(str(user_name(weight)))
    uses = 2
    unique = path
    while unique in taken:  # one module called several times
        unique, uses = f"{path} (call {uses})", uses + 1
    is_convolution = node.target in CONVOLUTIONS
    groups = node.args[_GROUPS] if is_convolution and len(node.args) > _GROUPS else 1
    return Layer(
        path=unique,
        node=node,
        weight=str(user_name(weight)),
        bias=user_name(bias),
        batch_norm=_fold_batch_norm(module, node),
        channel_axis=1 if is_convolution else -1,
        groups=int(groups),
    )


def _fold_batch_norm(module: torch.fx.GraphModule, node: torch.fx.Node) -> BatchNorm | None:
    """Fold the BatchNorm that alone uses `node` into new constants of the graph; None: there is none."""
    norm = next(iter(node.users), None)
    if norm is None or len(node.users) > 1 or norm.target is not _BATCH_NORM or norm.args[5]:
        return None
    if node.target not in CONVOLUTIONS and norm.meta["val"].ndim != 2:
        return None  # a linear layer whose BatchNorm counts another axis
    gamma, beta, mean, variance = norm.args[1:5]
    weight = fetch(module, node.args[1])
    spread = torch.rsqrt(fetch(module, variance) + float(norm.args[7]))
    scale = spread if gamma is None else fetch(module, gamma) * spread
    before = fetch(module, node.args[2]) if len(node.args) > 2 and node.args[2] is not None else 0.0
    shift = (before - fetch(module, mean)) * scale + (0.0 if beta is None else fetch(module, beta))
    constants = {
        f"{node.name}_folded_weight": weight * scale.reshape(-1, *([1] * (weight.ndim - 1))),
        f"{node.name}_folded_bias": shift,
    }
    with module.graph.inserting_before(node):
        for name, value in constants.items():
            module.register_buffer(name, value)
        folded = [module.graph.get_attr(name) for name in constants]
    node.args = (node.args[0], *folded, *node.args[3:])
    norm.replace_all_uses_with(node)
    module.graph.erase_node(norm)
    return BatchNorm(user_name(gamma), user_name(beta))
