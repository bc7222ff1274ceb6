"""A model with any of its layers in INT8, simulated: the graph's convolutions and linear layers can be switched.

A layer in INT8 has its input, its weights and its bias rounded; everything between layers stays float. All evaluations
use the same samples, and their outputs are held against the float model's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from edgewright.compiler.explain.fake_quantize import Range, decibel, int8_activation, int8_weight, int32_bias
from edgewright.compiler.torch_graph import TracedModel
from edgewright.targets.protocol import Samples

BATCH = 64

Compute = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
Watch = Callable[[Compute, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor], None]
"""Called as ``watch(compute, input, weight, bias, output)`` each time a layer has computed its float output."""


class SwitchedLayer(torch.nn.Module):
    """One layer that computes in float, or in INT8 where `limits`, the range of its input, is set."""

    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.operator = operator
        self.limits: Range | None = None
        self.watch: Watch | None = None
        self._int8: tuple[torch.Tensor, torch.Tensor] | None = None  # a weight, and what it is rounded to

    def forward(
        self, values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *options: Any
    ) -> torch.Tensor:
        """The layer's output; `options` are the operator's own, as the graph has them."""

        def compute(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            output: torch.Tensor = self.operator(values, weight, bias, *options)
            return output

        if self.limits is None:
            output = compute(values, weight, bias)
            if self.watch is not None:
                self.watch(compute, values, weight, bias, output)
            return output
        if self._int8 is None or self._int8[0] is not weight:
            self._int8 = (weight, int8_weight(weight))
        rounded = None if bias is None else int32_bias(bias, self.limits, weight)
        return compute(int8_activation(values, self.limits), self._int8[1], rounded)


class Simulation:
    """A traced model on the samples of its evaluations."""

    def __init__(self, traced: TracedModel, samples: Samples) -> None:
        self._graph, self._layers = _switchable(traced)
        self._batch = BATCH if traced.any_batch else 1
        self._samples = samples
        self._reference: tuple[torch.Tensor, ...] | None = None

    def watch(self, watches: Mapping[str, Watch], samples: Samples) -> None:
        """Run the float model once on `samples`, while `watches` (by path) look on."""
        self._switch({})
        for path, watch in watches.items():
            self._layers[path].watch = watch
        try:
            with torch.inference_mode():
                for batch in _batches(samples, self._batch):
                    self._graph(*batch)
        finally:
            for layer in self._layers.values():
                layer.watch = None

    def sqnr_db(self, limits: Mapping[str, Range]) -> float:
        """SQNR of the model's outputs with the layers in `limits` (by path, with the range of their input) in INT8."""
        if self._reference is None:
            self._reference = self._run({})
        noise = [
            float((ours - reference).square().sum() / reference.square().sum().clamp_min(1e-30))
            for ours, reference in zip(self._run(limits), self._reference, strict=True)
        ]
        return decibel(sum(noise) / len(noise))

    def module(self, limits: Mapping[str, Range]) -> torch.nn.Module:
        """A module of its own that computes the layers in `limits` in INT8; its outputs are a tuple."""
        self._switch(limits)
        return copy.deepcopy(self._graph)

    def _run(self, limits: Mapping[str, Range]) -> tuple[torch.Tensor, ...]:
        self._switch(limits)
        with torch.inference_mode():
            parts = [self._graph(*batch) for batch in _batches(self._samples, self._batch)]
        return tuple(torch.cat(column).double() for column in zip(*parts, strict=True) if column[0].is_floating_point())

    def _switch(self, limits: Mapping[str, Range]) -> None:
        for path, layer in self._layers.items():
            layer.limits = limits.get(path)


def choose(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spread over all of them."""
    total = len(next(iter(samples.values())))
    index = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    return {name: array[index] for name, array in samples.items()}


def _switchable(traced: TracedModel) -> tuple[torch.fx.GraphModule, dict[str, SwitchedLayer]]:
    """A copy of the graph, which shares its constants, with every layer as a module of its own."""
    graph = torch.fx.Graph()
    nodes: dict[torch.fx.Node, Any] = {}
    graph.output(graph.graph_copy(traced.graph.graph, nodes))
    module = torch.fx.GraphModule(traced.graph, graph)
    layers = {}
    for number, layer in enumerate(traced.layers):
        layers[layer.path] = SwitchedLayer(layer.node.target)
        module.add_module(f"switched_{number}", layers[layer.path])
        node = nodes[layer.node]
        node.op, node.target = "call_module", f"switched_{number}"
    module.recompile()
    return module, layers


def _batches(samples: Samples, size: int) -> list[tuple[torch.Tensor, ...]]:
    count = len(next(iter(samples.values())))
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in samples.values()]
    return [tuple(tensor[start : start + size] for tensor in tensors) for start in range(0, count, size)]
