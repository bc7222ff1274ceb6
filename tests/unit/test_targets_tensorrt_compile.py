"""From a model to a TensorRT artifact, with the real toolchain; the artifact runs on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from edgewright.contracts.errors import CompileError, UserError  # noqa: E402
from edgewright.contracts.findings import Severity  # noqa: E402
from edgewright.contracts.hardware import HardwareProfile  # noqa: E402
from edgewright.contracts.ids import ProfileId, digest_of  # noqa: E402
from edgewright.contracts.manifest import (  # noqa: E402
    FileEntry,
    GoldenProbe,
    Manifest,
    Provenance,
    Quality,
    TensorSpec,
)
from edgewright.contracts.wire import decode  # noqa: E402
from edgewright.targets.protocol import Lowered, Packaged, Samples, SourceModel  # noqa: E402
from edgewright.targets.tensorrt import package as package_module  # noqa: E402
from edgewright.targets.tensorrt.build import BuildReport, BuildStatus  # noqa: E402
from edgewright.targets.tensorrt.build_spec import BuildSpec  # noqa: E402
from edgewright.targets.tensorrt.engine import Build, build_engine  # noqa: E402
from edgewright.targets.tensorrt.engine_check import (  # noqa: E402
    layers_not_int8,
    layers_without_weights,
    quantized_layers,
)
from edgewright.targets.tensorrt.lint import violations  # noqa: E402
from edgewright.targets.tensorrt.lower import lower  # noqa: E402
from edgewright.targets.tensorrt.package import package  # noqa: E402
from edgewright.targets.tensorrt.quantize import quantize  # noqa: E402
from edgewright.targets.tensorrt.run import open_simulation  # noqa: E402


def profile(sm: int | None) -> HardwareProfile:
    return HardwareProfile(
        id=ProfileId(f"sm-{sm}"),
        name="a machine with a GPU",
        machine="x86_64",
        cores=2,
        memory_bytes=8 << 30,
        cpu_flags=(),
        boards=(),
        gpu="GPU",
        sm=sm,
        targets=("tensorrt",),
        precisions=("int8", "fp32"),
        threads=1,
        channel_multiple=16,
        sources={},
    )


def source_of(module: nn.Module, shape: tuple[int, ...], outputs: int = 1) -> SourceModel:
    return SourceModel(
        name="model",
        module=module.eval(),
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, *shape)),),
        outputs=tuple(TensorSpec(name=f"output_{i}", dtype="float32", shape=(-1, -1)) for i in range(outputs)),
        example={"x": np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)},
    )


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


def simulate(root: Path, source: SourceModel, packaged: Packaged) -> Any:
    nothing = digest_of(b"")
    manifest = Manifest(
        model=source.name,
        profile=ProfileId("profile"),
        target="tensorrt",
        precision="any",
        entry=packaged.entry,
        inputs=source.inputs,
        outputs=source.outputs,
        files=tuple(FileEntry(path=name, digest=nothing, size_bytes=0) for name in (packaged.entry, "probe.npz")),
        requirements=packaged.requirements,
        probe=GoldenProbe(path="probe.npz", samples=1, atol=0, rtol=0, min_cosine=0),
        quality=Quality(metric="accuracy", value=1, baseline=1, samples=1, how="simulated"),
        provenance=Provenance(source=nothing, recipe=nothing, passes=(), seed=0, toolchain={}),
        options=packaged.options,
    )
    return open_simulation(root, manifest)


def reference(source: SourceModel, inputs: Samples) -> Any:
    assert source.module is not None
    with torch.no_grad():
        return source.module(*(torch.from_numpy(inputs[spec.name]) for spec in source.inputs)).numpy()


def min_cosine(one: Any, other: Any) -> float:
    dots = (one * other).sum(axis=1)
    return float((dots / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def lowered(tiny_cnn_source: SourceModel, work: Path) -> Lowered:
    return lower(tiny_cnn_source, profile(87), work)


@pytest.fixture(scope="module")
def quantized(tiny_cnn_source: SourceModel, lowered: Lowered, calibration: Samples, work: Path) -> Lowered:
    return quantize(tiny_cnn_source, lowered, calibration, profile(87), work, silent)


@pytest.fixture
def without_builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    missing = Build(BuildReport(status=BuildStatus.RUNTIME_MISSING, detail="no module"), "")
    monkeypatch.setattr(package_module, "build_engine", lambda *_args, **_kwargs: missing)
    return


# The float model


def test_the_float_artifact_computes_what_torch_computes(
    tiny_cnn_source: SourceModel, lowered: Lowered, calibration: Samples, tmp_path: Path, without_builder: None
) -> None:
    packaged = package(tiny_cnn_source, lowered, profile(89), tmp_path)
    session = simulate(tmp_path, tiny_cnn_source, packaged)
    outputs = session.infer(calibration)["output_0"]
    np.testing.assert_allclose(outputs, reference(tiny_cnn_source, calibration), atol=1e-4)
    assert (session.runtime, session.how) == ("onnxruntime", "simulated")


@pytest.mark.parametrize("samples", [1, 2, 33])
def test_any_number_of_samples_is_taken_and_the_number_changes_nothing(
    tiny_cnn_source: SourceModel,
    lowered: Lowered,
    calibration: Samples,
    tmp_path: Path,
    without_builder: None,
    samples: int,
) -> None:
    session = simulate(tmp_path, tiny_cnn_source, package(tiny_cnn_source, lowered, profile(89), tmp_path))
    some = {"x": calibration["x"][:samples]}
    together = session.infer(some)["output_0"]
    one_by_one = np.concatenate([session.infer({"x": row[None]})["output_0"] for row in some["x"]])
    assert together.shape == (samples, 10)
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_two_compilations_of_one_model_write_the_same_bytes(
    tiny_cnn_source: SourceModel, lowered: Lowered, quantized: Lowered, calibration: Samples, tmp_path: Path
) -> None:
    again = lower(tiny_cnn_source, profile(87), tmp_path)
    assert again.path.read_bytes() == lowered.path.read_bytes()
    again = quantize(tiny_cnn_source, again, calibration, profile(87), tmp_path, silent)
    assert again.path.read_bytes() == quantized.path.read_bytes()


def test_no_path_of_the_machine_that_compiled_is_in_the_model(lowered: Lowered, quantized: Lowered) -> None:
    for path in (lowered.path, quantized.path):
        data = path.read_bytes()
        assert str(Path(__file__).parent).encode() not in data
        assert b"site-packages" not in data


def test_nodes_are_named_after_the_layers_they_come_from(lowered: Lowered, quantized: Lowered) -> None:
    for path in (lowered.path, quantized.path):
        names = {node.name for node in onnx.load(path).graph.node}
        assert {"depthwise/Conv", "pointwise/Conv", "head/Gemm"} <= names


def test_an_operator_without_an_onnx_form_is_named_with_its_layer(tmp_path: Path) -> None:
    class Triangle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(x.flatten(1))[1]

    with pytest.raises(CompileError) as caught:
        lower(source_of(nn.Sequential(nn.ReLU(), Triangle()), (1, 8, 8)), profile(87), tmp_path)
    assert caught.value.code == "unsupported-op"
    assert "aten.linalg_qr.default" in caught.value.what
    assert "layer '1'" in caught.value.what
    assert "torch.linalg.qr(x.flatten(1))" in caught.value.what
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_traced_is_refused_with_the_line(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CompileError) as caught:
        lower(source_of(Branch(), (4,)), profile(87), tmp_path)
    assert caught.value.code == "export-refused"
    assert "return x if x.sum() > 0 else -x" in caught.value.what


def test_a_model_that_fixes_its_batch_still_takes_any_number_of_samples(tmp_path: Path, without_builder: None) -> None:
    class OneByOne(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.reshape(1, 4))

    torch.manual_seed(0)
    source = source_of(OneByOne(), (4,))
    samples = {"x": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)}
    first = lower(source, profile(87), tmp_path)
    assert [finding.code for finding in first.findings] == ["batch-fixed"]
    for model in (first, quantize(source, first, samples, profile(87), tmp_path, silent)):
        root = tmp_path / model.precision
        root.mkdir()
        packaged = package(source, model, profile(87), root)
        assert decode(BuildSpec, (root / "build_spec.json").read_bytes(), what="spec").profiles == ()
        outputs = simulate(root, source, packaged).infer(samples)["output_0"]
        expected = np.concatenate([reference(source, {"x": row[None]}) for row in samples["x"]])
        np.testing.assert_allclose(outputs, expected, atol=0.05)


# The INT8 model


def test_the_int8_artifact_points_where_the_float_model_points(
    tiny_cnn_source: SourceModel, quantized: Lowered, calibration: Samples, tmp_path: Path, without_builder: None
) -> None:
    session = simulate(tmp_path, tiny_cnn_source, package(tiny_cnn_source, quantized, profile(89), tmp_path))
    outputs, expected = session.infer(calibration)["output_0"], reference(tiny_cnn_source, calibration)
    assert min_cosine(outputs, expected) >= 0.99
    assert not np.allclose(outputs, expected, atol=1e-6), "nothing was quantized"


def test_every_layer_with_weights_has_int8_weights(quantized: Lowered) -> None:
    layers = quantized_layers(onnx.load(quantized.path))
    assert len(layers) == 4
    assert all(weights.dtype == np.int8 and np.abs(weights.astype(int)).max() == 127 for weights in layers.values())


def test_the_skipping_branch_of_a_residual_addition_is_quantized_and_the_other_is_not(
    calibration: Samples, tmp_path: Path
) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.one(x))
            return torch.relu(x + self.norm(self.two(x))).mean((2, 3))

    source = source_of(Residual(), (1, 8, 8))
    model = onnx.load(
        quantize(source, lower(source, profile(87), tmp_path), calibration, profile(87), tmp_path, silent).path
    )
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    addition = next(node for node in model.graph.node if node.op_type == "Add")
    assert sorted(makers[name] for name in addition.input) == ["Conv", "DequantizeLinear"]


def test_all_samples_are_used_and_progress_counts_them(
    tiny_cnn_source: SourceModel, lowered: Lowered, calibration: Samples, tmp_path: Path
) -> None:
    odd = {"x": calibration["x"][:33]}
    seen: list[tuple[int, int]] = []
    quantize(
        tiny_cnn_source, lowered, odd, profile(87), tmp_path, lambda _what, done, total: seen.append((done, total))
    )
    assert seen[-1] == (33, 33)
    assert seen == sorted(seen)


def test_the_last_sample_counts_as_much_as_the_first(
    tiny_mlp_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    loud = calibration["x"].copy()
    loud[-1] *= 100
    first = lower(tiny_mlp_source, profile(87), tmp_path)
    as_onnx = replace(tiny_mlp_source, module=None, onnx_path=first.path)
    for source in (tiny_mlp_source, as_onnx):
        scales = []
        for samples in (calibration["x"], loud):
            model = onnx.load(quantize(source, first, {"x": samples}, profile(87), tmp_path, silent).path)
            constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
            entry = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
            scales.append(float(constants[entry.input[1]]))
        assert scales[1] > 10 * scales[0]


def test_quantizing_leaves_the_users_module_as_it_was(calibration: Samples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module[1].running_mean += 0.5
    source = source_of(module, (1, 8, 8))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    quantize(source, lower(source, profile(87), tmp_path), calibration, profile(87), tmp_path, silent)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_layer_left_in_float_is_reported(calibration: Samples, tmp_path: Path) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(torch.relu(self.down(x))).mean((2, 3))

    source = source_of(Up(), (1, 8, 8))
    result = quantize(source, lower(source, profile(87), tmp_path), calibration, profile(87), tmp_path, silent)
    assert [(finding.code, finding.where) for finding in result.findings] == [("tensorrt-layer-float", "up")]


def test_a_model_without_weights_cannot_be_quantized(calibration: Samples, tmp_path: Path) -> None:
    source = source_of(nn.Flatten(), (1, 8, 8))
    first = lower(source, profile(87), tmp_path)
    with pytest.raises(CompileError) as caught:
        quantize(source, first, calibration, profile(87), tmp_path, silent)
    assert caught.value.code == "quantize-failed"
    assert list(tmp_path.iterdir()) == [first.path]


# A model that comes as ONNX


@pytest.fixture
def onnx_source(tiny_cnn_source: SourceModel, lowered: Lowered) -> SourceModel:
    return replace(tiny_cnn_source, module=None, onnx_path=lowered.path)


def changed(path: Path, tmp_path: Path, change: Any) -> Path:
    model = onnx.load(path)
    change(model)
    out = tmp_path / "changed.onnx"
    out.write_bytes(model.SerializeToString())
    return out


def test_an_onnx_file_is_quantized_to_the_same_form(
    onnx_source: SourceModel, tiny_cnn_source: SourceModel, calibration: Samples, tmp_path: Path, without_builder: None
) -> None:
    first = lower(onnx_source, profile(87), tmp_path)
    result = quantize(onnx_source, first, calibration, profile(87), tmp_path, silent)
    model = onnx.load(result.path)
    assert violations(model) == ()
    assert len(quantized_layers(model)) == 4
    root = tmp_path / "artifact"
    root.mkdir()
    session = simulate(root, onnx_source, package(onnx_source, result, profile(89), root))
    outputs = session.infer(calibration)["output_0"]
    assert min_cosine(outputs, reference(tiny_cnn_source, calibration)) >= 0.99


def test_a_quantized_onnx_file_is_not_quantized_again(
    onnx_source: SourceModel, quantized: Lowered, calibration: Samples, tmp_path: Path
) -> None:
    with pytest.raises(CompileError) as caught:
        quantize(onnx_source, quantized, calibration, profile(87), tmp_path, silent)
    assert "quantized already" in caught.value.what


def test_an_old_opset_is_refused(onnx_source: SourceModel, lowered: Lowered, tmp_path: Path) -> None:
    def age(model: Any) -> None:
        model.opset_import[0].version = 13

    with pytest.raises(CompileError) as caught:
        lower(replace(onnx_source, onnx_path=changed(lowered.path, tmp_path, age)), profile(87), tmp_path)
    assert (caught.value.code, caught.value.found) == ("unsupported-op", "opset 13")


def test_an_operator_of_another_runtime_is_refused(onnx_source: SourceModel, lowered: Lowered, tmp_path: Path) -> None:
    def estrange(model: Any) -> None:
        model.graph.node[0].domain = "com.microsoft"

    with pytest.raises(CompileError) as caught:
        lower(replace(onnx_source, onnx_path=changed(lowered.path, tmp_path, estrange)), profile(87), tmp_path)
    assert caught.value.code == "unsupported-op"
    assert "com.microsoft" in caught.value.what


def test_an_invalid_onnx_model_is_refused(onnx_source: SourceModel, lowered: Lowered, tmp_path: Path) -> None:
    def disconnect(model: Any) -> None:
        model.graph.node[0].input[0] = "nowhere"

    with pytest.raises(CompileError) as caught:
        lower(replace(onnx_source, onnx_path=changed(lowered.path, tmp_path, disconnect)), profile(87), tmp_path)
    assert caught.value.code == "lower-failed"
    assert "nowhere" in str(caught.value.found)


def test_a_file_that_is_no_onnx_is_the_users_mistake(onnx_source: SourceModel, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xfe not a model")
    with pytest.raises(UserError) as caught:
        lower(replace(onnx_source, onnx_path=tmp_path / "model.onnx"), profile(87), tmp_path)
    assert caught.value.code == "onnx-unreadable"


# The package and its engine


def test_the_package_says_what_a_device_needs(
    tiny_cnn_source: SourceModel, quantized: Lowered, tmp_path: Path, without_builder: None
) -> None:
    packaged = package(tiny_cnn_source, quantized, profile(87), tmp_path)
    assert sorted(path.name for path in packaged.files) == ["build_spec.json", "model.onnx"]
    assert packaged.requirements.sm == 87
    assert packaged.requirements.machine == ("x86_64",)
    assert packaged.requirements.runtimes == {"tensorrt": ">=10.3,<12"}
    spec = decode(BuildSpec, (tmp_path / "build_spec.json").read_bytes(), what="spec")
    assert spec.onnx_digest == digest_of((tmp_path / packaged.entry).read_bytes())
    assert (spec.precision, spec.sm, spec.strongly_typed) == ("int8", 87, True)


def test_a_profile_without_a_gpu_is_refused(tiny_cnn_source: SourceModel, lowered: Lowered, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        package(tiny_cnn_source, lowered, profile(None), tmp_path)
    assert caught.value.code == "package-failed"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_builder_names_the_extra(
    tiny_cnn_source: SourceModel, lowered: Lowered, tmp_path: Path, without_builder: None
) -> None:
    (finding,) = package(tiny_cnn_source, lowered, profile(89), tmp_path).findings
    assert (finding.code, finding.severity) == ("tensorrt-rtx-missing", Severity.INFO)
    assert "edgewright[tensorrt-rtx]" in str(finding.next_step)


def test_an_engine_is_built_without_a_gpu_and_holds_the_weights(
    tiny_cnn_source: SourceModel, quantized: Lowered, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed", exc_type=ImportError)
    packaged = package(tiny_cnn_source, quantized, profile(89), tmp_path)
    (finding,) = packaged.findings
    assert finding.code == "tensorrt-engine-prebuilt"
    assert "4 of 4 quantized layers run in INT8" in finding.message
    engine = tmp_path / str(packaged.options["engine"])
    assert engine in packaged.files
    assert packaged.options["engine_sm"] == 89
    assert engine.name == f"engine-sm89-rtx{packaged.options['engine_version']}.plan"
    assert packaged.toolchain["tensorrt-rtx"] == packaged.options["engine_version"]
    # What vouches for the engine is worth something only if it would notice.
    layers = quantized_layers(onnx.load(quantized.path))
    data = engine.read_bytes()
    assert layers_without_weights(data, layers) == ()
    assert layers_without_weights(bytes(len(data)), layers) == ("stem.0", "depthwise", "pointwise", "head")


def test_a_gpu_that_no_engine_can_be_built_for_is_left_to_the_device(
    tiny_cnn_source: SourceModel, quantized: Lowered, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed", exc_type=ImportError)
    packaged = package(tiny_cnn_source, quantized, profile(87), tmp_path)
    assert [finding.code for finding in packaged.findings] == ["tensorrt-engine-on-device"]
    assert "engine" not in packaged.options


def test_what_tensorrts_parser_refuses_is_refused_here_whatever_the_gpu(
    tiny_cnn_source: SourceModel, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed", exc_type=ImportError)
    tensor = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Det", ["x"], ["y"], "block.det/Det")
    graph = onnx.helper.make_graph([node], "g", [tensor("x", 1, ["batch", 2, 2])], [tensor("y", 1, ["batch"])])
    path = tmp_path / "det.onnx"
    path.write_bytes(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]).SerializeToString()
    )
    root = tmp_path / "artifact"
    root.mkdir()
    with pytest.raises(CompileError) as caught:
        package(tiny_cnn_source, Lowered(path=path, precision="fp32"), profile(87), root)
    assert caught.value.code == "unsupported-op"
    assert "Det (block.det/Det)" in caught.value.what


def test_an_engine_without_the_weights_is_never_shipped(
    tiny_cnn_source: SourceModel, quantized: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(_runtime: str, _onnx: Path, _spec: Path, out: Path, **_kwargs: object) -> Build:
        out.write_bytes(bytes(1 << 20))
        return Build(BuildReport(status=BuildStatus.BUILT, runtime_version="1.7"), "")

    monkeypatch.setattr(package_module, "build_engine", zeros)
    packaged = package(tiny_cnn_source, quantized, profile(89), tmp_path)
    (finding,) = packaged.findings
    assert (finding.code, finding.severity) == ("tensorrt-engine-weights", Severity.WARNING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build_spec.json", "model.onnx"]


def test_layers_that_do_not_run_in_int8_are_named() -> None:
    def line(name: str, data: str, weights: str) -> str:
        return (
            f"Name: {name}_myl0_2, LayerType: correlation, Inputs: [ {{ Name: i, Datatype: {data}, Format: f }}], "
            f"Constants: [ {{ Name: c, Datatype: {weights}, Format: f }}], Outputs: [ {{ Name: o, Datatype: Float }}], "
            f"Metadata: [ONNX Layer: {name}][ONNX Layer: DequantizeLinear]"
        )

    log = "\n".join([line("a/Conv", "Int8", "Int8"), line("b/Conv", "Half", "Half"), line("c/Conv", "Float", "Int8")])
    layers = dict.fromkeys(("a/Conv", "b/Conv", "c/Conv", "d/Conv"))
    assert layers_not_int8(log, layers) == ("b", "c", "d")


# The build program


def test_a_builder_that_hangs_is_stopped_and_leaves_nothing(lowered: Lowered, tmp_path: Path) -> None:
    build = build_engine("tensorrt_rtx", lowered.path, tmp_path / "spec", tmp_path / "engine", timeout_s=0.01)
    assert build.report.status is BuildStatus.TIMED_OUT
    assert list(tmp_path.iterdir()) == []


def test_a_builder_that_dies_is_a_failed_build_with_its_last_words(lowered: Lowered, tmp_path: Path) -> None:
    build = build_engine("tensorrt_rtx", lowered.path, tmp_path / "no-such-spec", tmp_path / "engine")
    assert build.report.status is BuildStatus.FAILED
    assert "no-such-spec" in build.report.detail
    assert list(tmp_path.iterdir()) == []
