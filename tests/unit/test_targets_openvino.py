"""What only OpenVINO does."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright.contracts.errors import CompileError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.openvino.lower import lower
from edgewright.targets.openvino.quantize import has_attention, quantize
from edgewright.targets.protocol import Samples, SourceModel
from edgewright.targets.quiet import quiet, without_telemetry

VNNI = HardwareProfile(
    id="test-profile",
    name="test profile",
    machine="x86_64",
    cores=2,
    memory_bytes=None,
    cpu_flags=("avx2", "avx512_vnni"),
    boards=(),
    gpu=None,
    sm=None,
    targets=("openvino",),
    precisions=("int8",),
    threads=1,
    channel_multiple=16,
    sources={},
)
AVX2 = replace(VNNI, cpu_flags=("avx2",))


def onnx_source(folder: Path, operator: str, batch: str | int, domain: str = "") -> SourceModel:
    """A convolution and one more operator."""
    weights = numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights"], ["features"]),
            helper.make_node(operator, ["features"], ["result"], domain=domain),
        ],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("our.domain", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return SourceModel(
        name="from-onnx",
        module=None,
        onnx_path=path,
        inputs=(TensorSpec(name="image", dtype="float32", shape=(-1, 1, 8, 8)),),
        outputs=(TensorSpec(name="result", dtype="float32", shape=(-1, 4, 6, 6)),),
        example={"image": np.zeros((1, 1, 8, 8), np.float32)},
    )


def layers_of(path: Path) -> list[ET.Element]:
    return list(ET.parse(path).iter("layer"))  # noqa: S314 - written by this test


def tensors(path: Path, kind: str) -> list[tuple[str | None, list[str | None]]]:
    """Names and shapes of the graph's inputs (`Parameter`) or of what goes into its outputs (`Result`)."""
    layers = [layer for layer in layers_of(path) if layer.get("type") == kind]
    if kind == "Parameter":
        return [(port.get("names"), [d.text for d in port]) for layer in layers for port in layer.iter("port")]
    return [
        (layer.get("output_names"), [d.text for d in port]) for layer in layers for port in layer.iterfind("input/port")
    ]


def test_ir_leaves_the_batch_open_and_carries_the_sources_names(tiny_cnn_source: SourceModel, tmp_path: Path) -> None:
    lowered = lower(tiny_cnn_source, VNNI, tmp_path)
    assert lowered.findings == ()
    assert tensors(lowered.path, "Parameter") == [("x", ["-1", "1", "8", "8"])]
    assert tensors(lowered.path, "Result") == [("output_0", ["-1", "10"])]


def test_ir_says_nothing_of_the_machine_that_made_it(tiny_cnn_source: SourceModel, tmp_path: Path) -> None:
    text = lower(tiny_cnn_source, VNNI, tmp_path).path.read_text()
    assert "rt_info>\n" not in text.replace(" ", "")
    assert str(tmp_path) not in text
    assert "Runtime" not in text


def test_weights_stay_in_full_precision(tiny_cnn_source: SourceModel, tmp_path: Path) -> None:
    text = lower(tiny_cnn_source, VNNI, tmp_path).path.read_text()
    assert 'element_type="f32"' in text
    assert 'element_type="f16"' not in text


@pytest.mark.parametrize("batch", ["N", 1])
def test_onnx_is_taken_with_its_own_names(tmp_path: Path, batch: str | int) -> None:
    lowered = lower(onnx_source(tmp_path, "Relu", batch), VNNI, tmp_path)
    assert tensors(lowered.path, "Parameter") == [("image", ["-1", "1", "8", "8"])]
    assert tensors(lowered.path, "Result") == [("result", ["-1", "4", "6", "6"])]


def test_unknown_onnx_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as raised:
        lower(onnx_source(tmp_path, "Frobnicate", "N", "our.domain"), VNNI, tmp_path)
    assert raised.value.code == "unsupported-op"
    assert raised.value.found == "our.domain.Frobnicate"


def test_damaged_onnx_is_a_coded_error(tmp_path: Path) -> None:
    source = onnx_source(tmp_path, "Relu", "N")
    assert source.onnx_path is not None
    source.onnx_path.write_bytes(source.onnx_path.read_bytes()[:50])
    with pytest.raises(CompileError) as raised:
        lower(source, VNNI, tmp_path)
    assert raised.value.code == "lower-failed"


class OneAtATime(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, 64)


def test_model_with_a_fixed_batch_is_taken_and_says_so(calibration: Samples, tmp_path: Path) -> None:
    source = SourceModel(
        name="fixed",
        module=OneAtATime(),
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 1, 8, 8)),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1, 64)),),
        example={"x": calibration["x"][:1]},
    )
    lowered = lower(source, VNNI, tmp_path)
    assert tensors(lowered.path, "Result") == [("output_0", ["1", "64"])]
    (finding,) = lowered.findings
    assert finding.code == "batch-fixed"
    assert "return x.view(1, 64)" in (finding.where or "")


class ByHand(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


class Fused(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(x), -1)


@pytest.mark.parametrize(("module", "is_attention"), [(ByHand, True), (Fused, True), (Classifier, False)])
def test_attention_is_seen_in_the_graph(module: type[torch.nn.Module], is_attention: bool) -> None:
    without_telemetry()
    with quiet():
        import openvino as ov

        model = ov.convert_model(torch.export.export(module().eval(), (torch.zeros(2, 4, 8),)))
    assert has_attention(model) is is_attention


def largest_weight(path: Path) -> int:
    """Largest absolute INT8 weight in an IR."""
    data = [layer.find("data") for layer in layers_of(path) if layer.get("type") == "Const"]
    binary = path.with_suffix(".bin").read_bytes()
    found = [0]
    for entry in data:
        if entry is not None and entry.get("element_type") == "i8":
            start, size = int(entry.get("offset", 0)), int(entry.get("size", 0))
            found.append(int(np.abs(np.frombuffer(binary[start : start + size], np.int8).astype(int)).max()))
    return max(found)


def test_weights_use_half_their_range_where_accumulators_saturate(
    tiny_mlp_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    lowered = lower(tiny_mlp_source, VNNI, tmp_path)
    largest = {}
    for profile in (VNNI, AVX2, replace(AVX2, machine="aarch64", cpu_flags=("asimd",))):
        work = tmp_path / f"{profile.machine}-{len(profile.cpu_flags)}"
        work.mkdir()
        int8 = quantize(tiny_mlp_source, lowered, calibration, profile, work, lambda *_: None)
        largest[profile.machine, profile.cpu_flags] = largest_weight(int8.path)
    assert list(largest.values()) == [127, 64, 127]
