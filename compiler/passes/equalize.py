"""Cross-layer equalization: the same function, with channels of like range (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 4.1).

Between two layers that only operations f with f(s·x) = s·f(x), s > 0, lie between, channel c of the first one's output
can be divided by any s_c if the weights of the second one that read it are multiplied by it. The pass chooses
s_c = sqrt(r1_c / r2_c), where r1_c is the largest weight that makes the channel and r2_c the largest that reads it,
which makes both sqrt(r1_c · r2_c), and goes over all pairs until nothing changes. A BatchNorm behind the first layer
takes the scale; a LayerNorm can itself be the first layer.

Left alone: weights that several layers share, channels that anything else reads (residual additions, concatenations),
and activation functions other than ReLU's kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch.utils import _pytree as pytree

from edgewright.compiler.passes.model_pass import ModelPass, PassContext, PassResult, TorchModel
from edgewright.compiler.torch_graph import (
    CONVOLUTIONS,
    Layer,
    TracedModel,
    column_ranges,
    columns,
    is_constant,
    owner,
    trace,
    user_name,
)
from edgewright.compiler.training.state import clone
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.findings import Finding, Severity

_ATEN = torch.ops.aten
_PASSES_SCALE = (
    _ATEN.relu.default, _ATEN.relu_.default, _ATEN.leaky_relu.default, _ATEN.leaky_relu_.default,
    _ATEN.dropout.default, _ATEN.clone.default, _ATEN.contiguous.default, _ATEN.detach.default,
)  # fmt: skip
_POOLS = (
    _ATEN.max_pool1d.default, _ATEN.max_pool2d.default, _ATEN.max_pool3d.default,
    _ATEN.avg_pool1d.default, _ATEN.avg_pool2d.default, _ATEN.avg_pool3d.default,
    _ATEN.adaptive_avg_pool1d.default, _ATEN.adaptive_avg_pool2d.default, _ATEN.adaptive_avg_pool3d.default,
    _ATEN.adaptive_max_pool2d.default,
)  # fmt: skip
_RESHAPES = (_ATEN.flatten.using_ints, _ATEN.view.default, _ATEN.reshape.default)
_LAYER_NORM = _ATEN.layer_norm.default
_SETTLED = 1.001  # a factor that is not worth another round
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Config:
    """Options of the pass. `rounds` is how often it goes over all pairs at most."""

    rounds: int = 20


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels; `repeat` of its inputs belong to each channel, which flattening makes."""

    layer: Layer
    repeat: int


@dataclass(frozen=True)
class Pair:
    """Channels between the layer that makes them and all layers that read them.

    Attributes:
        maker: its path.
        scaled: the user's names of the parameters whose axis 0 counts the channels and that scale with them.
        readers: at least one.
    """

    maker: str
    scaled: tuple[str, ...]
    readers: tuple[Reader, ...]


def find_pairs(traced: TracedModel) -> tuple[Pair, ...]:
    """All pairs that can be equalized, in the order in which they run."""
    layers = {layer.node: layer for layer in traced.layers}
    pairs = []
    for node in traced.graph.graph.nodes:
        maker = _maker(node, layers)
        readers = _readers(node, _made_axis(node), 1, layers) if maker else None
        if maker is None or not readers:
            continue
        weights = [reader.layer.weight for reader in readers]
        if not traced.shared & {*maker.scaled, *weights} and len(set(weights)) == len(weights):
            pairs.append(replace(maker, readers=readers))
    return tuple(pairs)


def equalize(traced: TracedModel, module: torch.nn.Module, rounds: int) -> tuple[int, float]:
    """Equalize the channels of `module`, in place. `traced` is the graph of a module that is equal to it.

    Returns:
        The number of pairs, and the largest factor by which a channel was scaled, up or down; 1.0 for none.
    """
    pairs = find_pairs(traced)
    weights = {layer.path: traced.tensor(layer.node.args[1]).double() for layer in traced.layers}
    weights |= {pair.maker: _rows_of(pair, traced) for pair in pairs if pair.maker not in weights}
    factors = [torch.ones(len(weights[pair.maker]), dtype=torch.float64) for pair in pairs]
    for _ in range(rounds):
        largest = 1.0
        for number, pair in enumerate(pairs):
            factor = _factor(pair, weights)
            weights[pair.maker] = _divide_rows(weights[pair.maker], factor)
            for reader in pair.readers:
                weights[reader.layer.path] = _multiply_columns(weights[reader.layer.path], factor, reader)
            factors[number] *= factor
            largest = max(largest, _size(factor))
        if largest < _SETTLED:
            break
    with torch.no_grad():
        for pair, factor in zip(pairs, factors, strict=True):
            for name in pair.scaled:
                tensor = module.get_parameter(name)
                tensor.copy_(_divide_rows(tensor.double(), factor))
            for reader in pair.readers:
                weight = module.get_parameter(reader.layer.weight)
                weight.copy_(_multiply_columns(weight.double(), factor, reader))
    return len(pairs), max(map(_size, factors), default=1.0)


def run(model: TorchModel, config: Config, context: PassContext) -> PassResult:
    """`model`, equalized. See the module docstring."""
    context.progress("equalize", 0, 1)
    module = clone(model.module)
    pairs, largest = equalize(trace(model), module, config.rounds)
    context.progress("equalize", 1, 1)
    findings = () if pairs else (_NOTHING,)
    return PassResult(module, findings, {"equalized_pairs": float(pairs), "largest_factor": largest})


_NOTHING = Finding(
    code="nothing-to-equalize",
    message="no two layers of the model have only operations between them that a channel's scale passes through",
    severity=Severity.INFO,
    next_step="leave the pass `equalize` out",
)


def requires(model: TorchModel, config: Config, context: PassContext) -> None:  # noqa: ARG001 - one signature for all
    """Raises UserError `pass-option-range` for a number of rounds that is none."""
    if config.rounds < 1:
        raise UserError(
            "pass-option-range",
            "the pass equalize needs at least one round",
            expected="rounds: 1 or more",
            found=f"rounds: {config.rounds}",
            next_step="leave the option out; 20 is enough for any network seen so far",
        )


def ensures(model: TorchModel, result: PassResult, config: Config, context: PassContext) -> None:  # noqa: ARG001
    """Raises CompileError `equalize-changed-the-model` when the outputs for the example differ."""
    with torch.inference_mode():
        before = pytree.tree_leaves(model.module(*model.example_tensors()))
        after = pytree.tree_leaves(result.module(*model.example_tensors()))
    for old, new in zip(before, after, strict=True):
        if not isinstance(old, torch.Tensor):
            continue
        difference = float((old - new).abs().max()) if old.numel() else 0.0
        if not difference <= _TOLERANCE * (1 + float(old.abs().max())):
            raise CompileError(
                "equalize-changed-the-model",
                "the equalized model does not compute what the model computed",
                expected="the same outputs but for rounding",
                found=f"outputs that differ by {difference:.3g}",
                next_step="leave the pass `equalize` out, and report the model's layers",
            )


EQUALIZE = ModelPass(Config, run, requires, ensures)


def _maker(node: torch.fx.Node, layers: Mapping[torch.fx.Node, Layer]) -> Pair | None:
    """`node` as the first half of a pair; None: its output cannot be scaled."""
    if node in layers:
        layer = layers[node]
        norm = layer.batch_norm
        if norm is not None and norm.weight is None:
            return None
        names = (layer.weight, layer.bias) if norm is None else (norm.weight, norm.bias)
        return Pair(layer.path, tuple(name for name in names if name is not None), ())
    if node.target is not _LAYER_NORM or len(node.args) < 3 or not is_constant(node.args[2]) or len(node.args[1]) != 1:
        return None
    parameters = [str(user_name(part)) for part in node.args[2:4] if is_constant(part)]
    return Pair(owner(parameters[0]), tuple(parameters), ())


def _made_axis(node: torch.fx.Node) -> int:
    return 1 if node.target in CONVOLUTIONS else int(node.meta["val"].ndim) - 1


def _readers(
    node: torch.fx.Node, axis: int, repeat: int, layers: Mapping[torch.fx.Node, Layer]
) -> tuple[Reader, ...] | None:
    """All layers that read `node`, whose channels lie on `axis`; None: something else reads them too."""
    found: list[Reader] = []
    for user in node.users:
        if user in layers:
            if layers[user].channel_axis % node.meta["val"].ndim != axis or user.args[0] is not node:
                return None
            found.append(Reader(layers[user], repeat))
            continue
        behind = _behind(user, node, axis)
        further = _readers(user, behind[0], repeat * behind[1], layers) if behind else None
        if further is None:
            return None
        found += further
    return tuple(found)


def _behind(user: torch.fx.Node, node: torch.fx.Node, axis: int) -> tuple[int, int] | None:
    """Where the channels on `axis` of `node` are behind `user`: their axis, and how many now belong to each of them.

    None: a channel's scale does not pass through `user`.
    """
    if not isinstance(user.meta.get("val"), torch.Tensor):
        return None
    old, new = node.meta["val"].shape, user.meta["val"].shape
    if user.target in _PASSES_SCALE or (user.target in _POOLS and axis == 1) or _pads_with_zeros(user):
        return (axis, 1) if old[axis] == new[axis] else None
    if user.target in _RESHAPES:
        if axis == 1 and len(new) == 2 and new[1] == math.prod(old[1:]):
            return 1, math.prod(old[2:])
        return (len(new) - 1, 1) if axis == len(old) - 1 and new[-1] == old[-1] else None
    if user.target is _ATEN.mean.dim:
        dims = {dim % len(old) for dim in user.args[1]}
        keeps = len(user.args) > 2 and bool(user.args[2])
        return None if axis in dims else (axis if keeps else axis - sum(dim < axis for dim in dims), 1)
    if user.target is _ATEN.transpose.int:
        swapped = [dim % len(old) for dim in user.args[1:3]]
        return (swapped[1 - swapped.index(axis)] if axis in swapped else axis), 1
    return None


def _pads_with_zeros(node: torch.fx.Node) -> bool:
    if node.target is _ATEN.constant_pad_nd.default:
        return len(node.args) < 3 or node.args[2] == 0
    mode_and_value = tuple(node.args[2:])
    return node.target is _ATEN.pad.default and mode_and_value in (
        (),
        ("constant",),
        ("constant", None),
        ("constant", 0),
    )


def _rows_of(pair: Pair, traced: TracedModel) -> torch.Tensor:
    """The scale of a LayerNorm, which is what its channels' ranges go by."""
    gets = {user_name(node): node for node in traced.graph.graph.nodes if node.op == "get_attr"}
    return traced.tensor(gets[pair.scaled[0]]).double()


def _factor(pair: Pair, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """By what each channel is divided: sqrt(r1 / r2); 1 for a channel that nothing makes or nothing reads."""
    made = weights[pair.maker].abs().flatten(1).amax(1) if weights[pair.maker].ndim > 1 else weights[pair.maker].abs()
    reads = [
        column_ranges(weights[reader.layer.path], reader.layer.groups).reshape(-1, reader.repeat).amax(1)
        for reader in pair.readers
    ]
    read = torch.stack(reads).amax(0)
    alive = (made > 0) & (read > 0)
    return torch.where(alive, (made / torch.where(alive, read, 1.0)).sqrt(), 1.0)


def _divide_rows(tensor: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return tensor / factor.reshape(-1, *([1] * (tensor.ndim - 1)))


def _multiply_columns(weight: torch.Tensor, factor: torch.Tensor, reader: Reader) -> torch.Tensor:
    groups = reader.layer.groups
    inputs = factor.repeat_interleave(reader.repeat).reshape(groups, 1, -1, 1)
    return (columns(weight, groups) * inputs).reshape(weight.shape)


def _size(factor: torch.Tensor) -> float:
    return float(torch.maximum(factor, 1 / factor).max())
