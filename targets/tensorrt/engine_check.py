"""Whether a built engine is what was asked for, as far as that shows without a GPU.

- Each quantized layer must run in INT8. The verbose build log lists the engine's layers with the dtypes of what they
  read, and the ONNX nodes each one came from.
- Each INT8 weight must stand in the engine byte for byte. Builders have been seen to make engines of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgewright.targets.tensorrt.lint import Graph
from edgewright.targets.tensorrt.onnx_file import layer_of

_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_FROM_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_DTYPES = re.compile(r"Datatype: (\w+)")
# Channels are padded to what the kernels read at once.
_CHANNEL_MULTIPLES = (1, 2, 4, 8, 16, 32)


def quantized_layers(model: Any) -> Mapping[str, Any]:
    """The int8 weights of an `onnx.ModelProto`, by the name of the node that computes with them."""
    graph = Graph(model)
    layers = {}
    for node in graph.nodes:
        source = graph.through_reshapes(node.input[1]) if node.op_type in _WEIGHTED and len(node.input) > 1 else None
        stored = graph.array(source.input[0]) if source is not None and source.op_type == "DequantizeLinear" else None
        if stored is not None and stored.dtype == np.int8:
            layers[node.name] = stored
    return layers


def layers_not_int8(log: str, layers: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `layers` for which the log shows no engine layer that reads INT8 data and INT8 weights."""
    running = {name for line in _engine_layers(log) if _reads_int8(line) for name in _FROM_ONNX.findall(line)}
    return tuple(layer_of(name) for name in layers if name not in running)


def layers_without_weights(engine: bytes, layers: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `layers` whose weights are in `engine` in none of the orders that TensorRT stores them in."""
    return tuple(
        layer_of(name)
        for name, stored in layers.items()
        if not any(candidate in engine for candidate in _orders(stored))
    )


def _engine_layers(log: str) -> Iterator[str]:
    return (line for line in log.splitlines() if line.startswith("Name: ") and "LayerType: " in line)


def _reads_int8(line: str) -> bool:
    inputs, _, rest = line.partition("Constants: [")
    constants = rest.partition("Outputs: [")[0]
    return "Int8" in _DTYPES.findall(inputs) and "Int8" in _DTYPES.findall(constants)


def _orders(stored: Any) -> Iterator[bytes]:
    """Bytes of the weights as they may stand in an engine: K, spatial dimensions, then channels, padded or not.

    Args:
        stored: convolution weights ``(K, C, …)``, or a matrix of either orientation.
    """
    matrices = [np.moveaxis(stored, 1, -1)] if stored.ndim > 2 else [stored, stored.T]
    for matrix in matrices:
        for multiple in _CHANNEL_MULTIPLES:
            padding = [(0, 0)] * (matrix.ndim - 1) + [(0, -matrix.shape[-1] % multiple)]
            yield np.pad(matrix, padding).tobytes()
