"""What only TFLite does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.protocol import Samples, SourceModel
from edgewright.targets.quiet import quiet
from edgewright.targets.tflite import graph
from edgewright.targets.tflite.lower import lower
from edgewright.targets.tflite.package import package
from edgewright.targets.tflite.quantize import quantize

PROFILE = HardwareProfile(
    id="test-profile",
    name="test profile",
    machine="aarch64",
    cores=4,
    memory_bytes=None,
    cpu_flags=("asimd",),
    boards=(),
    gpu=None,
    sm=None,
    targets=("tflite",),
    precisions=("int8",),
    threads=4,
    channel_multiple=16,
    sources={},
)


def source_of(module: torch.nn.Module, x: np.ndarray) -> SourceModel:
    return SourceModel(
        name="model",
        module=module.eval(),
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype=str(x.dtype), shape=(-1, *x.shape[1:])),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1,)),),
        example={"x": x[:1]},
    )


def findings(source: SourceModel, folder: Path) -> Mapping[str, Finding]:
    lowered = lower(source, PROFILE, folder)
    dest = folder / "artifact"
    dest.mkdir()
    return {finding.code: finding for finding in package(source, lowered, PROFILE, dest).findings}


def test_onnx_is_refused_with_the_way_out(tmp_path: Path) -> None:
    source = SourceModel("model", None, tmp_path / "model.onnx", (), (), {})
    with pytest.raises(CompileError) as raised:
        lower(source, PROFILE, tmp_path)
    assert raised.value.code == "unsupported-source"
    assert "module:callable" in (raised.value.expected or "")


def test_network_of_convolutions_leaves_nothing_to_complain(tiny_cnn_source: SourceModel, tmp_path: Path) -> None:
    assert findings(tiny_cnn_source, tmp_path) == {}


def test_transposes_left_are_counted(tmp_path: Path) -> None:
    source = source_of(torch.nn.Conv2d(3, 8, 3), np.zeros((1, 3, 8, 8), np.float32))
    found = findings(source, tmp_path)["tflite-transposes-left"]
    assert ": 2 " in found.message


class RunningSum(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(torch.cumsum(self.before(x), 1))


def test_operators_left_to_slower_kernels_are_named(tmp_path: Path) -> None:
    found = findings(source_of(RunningSum(), np.zeros((1, 8), np.float32)), tmp_path)["tflite-not-delegated"]
    assert "1 CUMSUM:" in found.message


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def kinds(path: Path) -> set[str]:
    """Types of the tensors that operators hand to one another, and of the weights."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_path=str(path))
        return {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}


def test_attention_gets_dynamic_int8_and_needs_no_calibration(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 16)).astype(np.float32)
    torch.manual_seed(0)
    source = source_of(Encoder(), x)
    heard: list[int] = []
    int8 = quantize(
        source, lower(source, PROFILE, tmp_path), {"x": x}, PROFILE, tmp_path, lambda _, done, __: heard.append(done)
    )
    assert heard == []
    assert "int8" in kinds(int8.path)
    assert graph.operators(int8.path)["QUANTIZE"] == 0


def test_network_of_convolutions_gets_static_int8_with_float_edges(
    tiny_cnn_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    lowered = lower(tiny_cnn_source, PROFILE, tmp_path)
    int8 = quantize(tiny_cnn_source, lowered, calibration, PROFILE, tmp_path, lambda *_: None)
    operators = graph.operators(int8.path)
    assert (operators["QUANTIZE"], operators["DEQUANTIZE"]) == (1, 1)
