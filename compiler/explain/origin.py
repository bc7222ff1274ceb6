"""Where a tensor comes from: the layer that makes a channel of another layer's input."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from edgewright.compiler.torch_graph import Layer, TracedModel, is_constant, owner, user_name
from edgewright.targets.protocol import Samples

_ATEN = torch.ops.aten
_NORMS = {
    _ATEN.layer_norm.default: 2,
    _ATEN.group_norm.default: 2,
    _ATEN.batch_norm.default: 1,
    _ATEN.rms_norm.default: 2,
}
"""Normalizations that scale their channels: the position of the scale among the arguments."""


class Origins:
    """Follows channels backwards through a graph, by the values that each of its nodes had for a few samples."""

    def __init__(self, traced: TracedModel, samples: Samples) -> None:
        self._paths: Mapping[torch.fx.Node, str] = {layer.node: layer.path for layer in traced.layers}
        recorder = _Recorder(traced.graph)
        with torch.inference_mode():
            recorder.run(*(torch.from_numpy(array) for array in samples.values()))
        self._values = recorder.values

    def of(self, layer: Layer, channel: int | None) -> str | None:
        """The path of the layer whose output became `channel` of the input of `layer`.

        None for `channel` follows whatever is largest. Returns None where the model's input is reached.
        """
        node, axis = layer.node.args[0], layer.channel_axis
        while node.op != "placeholder":
            name = self._named(node)
            if name is not None:
                return name
            before = [argument for argument in node.all_input_nodes if argument in self._values]
            if not before:
                return None
            if node.target is _ATEN.cat.default and channel is not None:
                node, channel = self._joined(node, channel, axis)
                continue
            after, node = node, max(before, key=lambda candidate: self._largest(candidate, channel, axis))
            channel = None if channel is None else self._moved(node, after, channel, axis)
        return None

    def _named(self, node: torch.fx.Node) -> str | None:
        if node in self._paths:
            return self._paths[node]
        position = _NORMS.get(node.target)
        if position is None or len(node.args) <= position or not is_constant(node.args[position]):
            return None
        return owner(str(user_name(node.args[position])))

    def _largest(self, node: torch.fx.Node, channel: int | None, axis: int) -> float:
        values = self._values[node]
        if channel is not None and values.ndim > abs(axis) and values.shape[axis] > channel:
            values = values.select(axis, channel)
        return float(values.abs().max()) if values.numel() else 0.0

    def _joined(self, node: torch.fx.Node, channel: int, axis: int) -> tuple[torch.fx.Node, int | None]:
        """Which part of a concatenation holds `channel`, and as which of its own."""
        parts, joined = node.args[0], self._values[node].ndim
        along = (node.args[1] if len(node.args) > 1 else 0) % joined
        if along != axis % joined:
            return max(parts, key=lambda part: self._largest(part, channel, axis)), channel
        for part in parts:
            size = self._values[part].shape[along]
            if channel < size:
                return part, channel
            channel -= size
        return parts[-1], None

    def _moved(self, before: torch.fx.Node, after: torch.fx.Node, channel: int, axis: int) -> int | None:
        """Which channel of `before` became `channel` of `after`; None where that cannot be told."""
        old, new = self._values[before], self._values[after]
        if old.ndim < 2 or new.ndim < 2:
            return None
        if new.ndim == 2 and old.ndim > 2 and new.shape[1] == old[0].numel():  # flattened
            return channel // old[0, 0].numel()
        return channel if old.shape[axis] == new.shape[axis] else None


class _Recorder(torch.fx.Interpreter):
    """Keeps every floating-point tensor that depends on the input."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[torch.fx.Node, torch.Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> object:
        """One operator."""
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and value.is_floating_point() and n.op != "get_attr":
            self.values[n] = value
        return value
