"""OpenVINO and TFLite, with their real toolchains: what one promises, the other promises too."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgewright.contracts.errors import CompileError, DeviceError, UserError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import digest_of
from edgewright.contracts.manifest import (
    FileEntry,
    GoldenProbe,
    Manifest,
    Provenance,
    Quality,
    Requirements,
    TensorSpec,
)
from edgewright.contracts.wire import encode
from edgewright.targets.protocol import Lowered, Packaged, Samples, SourceModel
from edgewright.targets.session import Session

TARGETS = ("openvino", "tflite")
PRECISIONS = ("fp32", "int8")
PROFILE = HardwareProfile(
    id="test-profile",
    name="test profile",
    machine="x86_64",
    cores=2,
    memory_bytes=None,
    cpu_flags=("avx2",),
    boards=(),
    gpu=None,
    sm=None,
    targets=TARGETS,
    precisions=PRECISIONS,
    threads=2,
    channel_multiple=8,
    sources={},
)


@dataclass(frozen=True)
class Built:
    source: SourceModel
    root: Path
    manifest: Manifest
    lowered: Lowered
    packaged: Packaged

    def open(self) -> Session:
        return part(self.manifest.target, "run").open_session(self.root, self.manifest)

    @property
    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.packaged.files}


def part(target: str, name: str) -> Any:
    return importlib.import_module(f"edgewright.targets.{target}.{name}")


def unheard(what: str, done: int, total: int) -> None:
    pass


def build(
    folder: Path, target: str, precision: str, source: SourceModel, calibration: Samples, progress: Any = unheard
) -> Built:
    work, root = folder / "work", folder / "artifact"
    work.mkdir(parents=True)
    root.mkdir()
    lowered = part(target, "lower").lower(source, PROFILE, work)
    if precision == "int8":
        lowered = part(target, "quantize").quantize(source, lowered, calibration, PROFILE, work, progress)
    packaged = part(target, "package").package(source, lowered, PROFILE, root)
    manifest = manifest_of(source, target, lowered, packaged)
    (root / "manifest.json").write_bytes(encode(manifest))
    return Built(source, root, manifest, lowered, packaged)


def manifest_of(source: SourceModel, target: str, lowered: Lowered, packaged: Packaged) -> Manifest:
    files = tuple(
        FileEntry(path=file.name, digest=digest_of(file.read_bytes()), size_bytes=file.stat().st_size)
        for file in packaged.files
    )
    nothing = digest_of(b"")
    return Manifest(
        model=source.name,
        profile=PROFILE.id,
        target=target,
        precision=lowered.precision,
        entry=packaged.entry,
        inputs=source.inputs,
        outputs=source.outputs,
        files=files,
        requirements=packaged.requirements,
        options=packaged.options,
        probe=GoldenProbe(path=packaged.entry, samples=1, atol=0.0, rtol=0.0, min_cosine=0.0),
        quality=Quality(metric="accuracy", value=1.0, baseline=1.0, samples=1, how="measured"),
        provenance=Provenance(source=nothing, recipe=nothing, passes=(), seed=0, toolchain=packaged.toolchain),
    )


def expected(source: SourceModel, inputs: Samples) -> list[np.ndarray]:
    assert source.module is not None
    with torch.no_grad():
        outputs = source.module(*(torch.from_numpy(inputs[spec.name]) for spec in source.inputs))
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def source_of(module: torch.nn.Module, inputs: Samples, name: str = "model") -> SourceModel:
    def spec(name: str, array: np.ndarray) -> TensorSpec:
        return TensorSpec(name=name, dtype=str(array.dtype), shape=(-1, *array.shape[1:]))

    bare = SourceModel(
        name=name,
        module=module,
        onnx_path=None,
        inputs=tuple(spec(*item) for item in inputs.items()),
        outputs=(),
        example={name: array[:1] for name, array in inputs.items()},
    )
    try:
        outputs = expected(bare, inputs)
    except RuntimeError:  # some of these models are there to be refused
        outputs = []
    specs = tuple(spec(f"output_{i}", output) for i, output in enumerate(outputs))
    return SourceModel(bare.name, bare.module, None, bare.inputs, specs, bare.example)


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def fp32(
    target: str, tiny_cnn_source: SourceModel, calibration: Samples, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    return build(tmp_path_factory.mktemp(target), target, "fp32", tiny_cnn_source, calibration)


@pytest.fixture(scope="module")
def int8(
    target: str, tiny_cnn_source: SourceModel, calibration: Samples, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    return build(tmp_path_factory.mktemp(target), target, "int8", tiny_cnn_source, calibration)


def test_fp32_gives_what_torch_gives(fp32: Built, calibration: Samples) -> None:
    (want,) = expected(fp32.source, calibration)
    assert np.abs(fp32.open().infer(calibration)["output_0"] - want).max() < 1e-4
    assert fp32.lowered.precision == "fp32"


def test_int8_agrees_with_torch(int8: Built, calibration: Samples) -> None:
    (want,) = expected(int8.source, calibration)
    got = int8.open().infer(calibration)["output_0"]
    assert int8.lowered.precision == "int8"
    assert (got.argmax(1) == want.argmax(1)).mean() >= 0.99
    assert cosines(got, want).min() >= 0.99
    assert not np.allclose(got, want, atol=1e-6), "it was not quantized at all"


def test_int8_mlp_agrees_with_torch(
    target: str, tiny_mlp_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    mlp = build(tmp_path, target, "int8", tiny_mlp_source, calibration)
    (want,) = expected(tiny_mlp_source, calibration)
    assert cosines(mlp.open().infer(calibration)["output_0"], want).min() >= 0.99


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_samples_runs_and_keeps_its_order(int8: Built, calibration: Samples, count: int) -> None:
    session = int8.open()
    together = session.infer({"x": calibration["x"][:count]})["output_0"]
    alone = [session.infer({"x": calibration["x"][i : i + 1]})["output_0"] for i in range(count)]
    assert together.shape == (count, 10)
    assert np.array_equal(together, np.concatenate(alone))


def test_results_stay_when_the_session_runs_again(fp32: Built, calibration: Samples) -> None:
    frame = calibration["x"][:1].copy()
    run = fp32.open().bind({"x": frame})
    (first,) = run()  # type: ignore[misc]
    kept = first.copy()
    frame[:] = calibration["x"][1:2]
    run()
    assert np.array_equal(first, kept)


def test_bound_inference_reads_its_input_anew_each_time(fp32: Built, calibration: Samples) -> None:
    frame = calibration["x"][:1].copy()
    session = fp32.open()
    run = session.bind({"x": frame})
    run()
    frame[:] = calibration["x"][1:2]
    (output,) = run()  # type: ignore[misc]
    assert np.array_equal(output, session.infer({"x": calibration["x"][1:2]})["output_0"])


def test_bound_inference_takes_one_sample(fp32: Built, calibration: Samples) -> None:
    with pytest.raises(UserError, match="one sample") as raised:
        fp32.open().bind({"x": calibration["x"][:2]})
    assert raised.value.code == "input-mismatch"


def test_wrong_input_is_refused_with_what_was_expected(fp32: Built) -> None:
    with pytest.raises(UserError) as raised:
        fp32.open().infer({"x": np.zeros((1, 1, 8, 9), np.float32)})
    assert raised.value.code == "input-mismatch"
    assert raised.value.expected == "(N, 1, 8, 8), N >= 1"
    assert raised.value.found == "(1, 1, 8, 9)"


def test_all_calibration_samples_are_used_and_counted(
    target: str, tiny_cnn_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    build(
        tmp_path,
        target,
        "int8",
        tiny_cnn_source,
        calibration,
        lambda what, done, total: seen.append((done, total)),
    )
    assert sorted(set(seen)) == [(i + 1, 64) for i in range(64)]


def test_the_whole_calibration_range_counts(target: str, calibration: Samples, tmp_path: Path) -> None:
    # One sample in 64 with values ten times larger than the others' must not be cut off.
    torch.manual_seed(0)
    source = source_of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)), calibration)
    wide = {"x": calibration["x"].copy()}
    wide["x"][5] *= 10
    largest = {"x": wide["x"][5:6]}
    got = build(tmp_path, target, "int8", source, wide).open().infer(largest)["output_0"]
    (want,) = expected(source, largest)
    assert np.abs(got - want).max() < 0.03 * np.abs(want).max()


def test_quantizing_leaves_the_float_model_as_it_was(int8: Built, fp32: Built) -> None:
    suffix = fp32.lowered.path.suffix
    beside_int8 = int8.lowered.path.with_name(f"fp32{suffix}")
    assert beside_int8.read_bytes() == fp32.lowered.path.read_bytes()


def test_artifact_asks_for_the_profiles_machine_and_a_runtime(int8: Built) -> None:
    needs = int8.packaged.requirements
    assert needs == Requirements(
        machine=("x86_64",),
        cpu_flags=("avx2",),
        runtimes=needs.runtimes,
        memory_bytes=needs.memory_bytes,
    )
    assert list(needs.runtimes) == [int8.manifest.target]
    assert 40e6 < needs.memory_bytes < 200e6
    assert int8.packaged.options["threads"] == 2


def test_memory_need_grows_with_the_activations(target: str, tmp_path: Path) -> None:
    def needed(side: int) -> int:
        x = {"x": np.zeros((1, 3, side, side), np.float32)}
        source = source_of(torch.nn.Conv2d(3, 8, 3, padding=1), x)
        return build(tmp_path / str(side), target, "fp32", source, x).packaged.requirements.memory_bytes

    assert needed(256) - needed(8) > 8 * 256 * 256 * 4


# The program of a fresh process. It builds from an exported program, which every process can read.
BUILD = """
import json, sys
from pathlib import Path
import numpy as np, torch
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import TensorSpec
from edgewright.contracts.wire import decode
from edgewright.targets.protocol import SourceModel
import importlib
target, program, samples, profile, work, root = sys.argv[1:]
x = np.load(samples)
source = SourceModel("tiny", torch.export.load(program).module(), None, (TensorSpec(name="x", dtype="float32",
    shape=(-1, 1, 8, 8)),), (TensorSpec(name="output_0", dtype="float32", shape=(-1, 10)),), {"x": x[:1]})
profile = decode(HardwareProfile, profile, what="profile")
part = lambda name: importlib.import_module(f"edgewright.targets.{target}.{name}")
lowered = part("lower").lower(source, profile, Path(work))
progress = lambda what, done, total: sys.stderr.write(f"{done}/{total}\\n")
lowered = part("quantize").quantize(source, lowered, {"x": x}, profile, Path(work), progress)
part("package").package(source, lowered, profile, Path(root))
"""


@pytest.fixture
def exported(tiny_cnn_source: SourceModel, calibration: Samples, tmp_path: Path) -> SimpleNamespace:
    """The tiny CNN as a .pt2 file with an open batch, and the samples as a file."""
    program, samples = tmp_path / "tiny.pt2", tmp_path / "x.npy"
    batch = {0: torch.export.Dim("batch")}
    x = torch.from_numpy(calibration["x"][:2])
    torch.export.save(torch.export.export(tiny_cnn_source.module, (x,), dynamic_shapes=(batch,)), program)
    np.save(samples, calibration["x"])
    return SimpleNamespace(program=program, samples=samples)


def test_build_is_reproducible_quiet_and_leaves_the_home_folder_alone(
    target: str, exported: SimpleNamespace, calibration: Samples, tmp_path: Path
) -> None:
    home, work, root = tmp_path / "home", tmp_path / "work", tmp_path / "root"
    for folder in (home, work, root):
        folder.mkdir()
    profile = encode(PROFILE).decode()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, target, exported.program, exported.samples, profile, work, root],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1] == "64/64"
    assert set(lines) <= {f"{i + 1}/64" for i in range(64)}, "only our progress may be heard"
    assert list(home.rglob("*")) == []
    source = source_of(torch.export.load(exported.program).module(), calibration, "tiny")
    here = build(tmp_path / "here", target, "int8", source, calibration)
    assert here.files == {file.name: file.read_bytes() for file in root.iterdir()}


def test_same_model_gives_the_same_bytes_again(
    int8: Built, tiny_cnn_source: SourceModel, calibration: Samples, tmp_path: Path
) -> None:
    again = build(tmp_path, int8.manifest.target, "int8", tiny_cnn_source, calibration)
    assert again.files == int8.files


RUN = """
import importlib, json, sys
from pathlib import Path
import numpy as np
from edgewright.contracts.errors import EdgewrightError
from edgewright.contracts.manifest import Manifest
from edgewright.contracts.wire import decode
target, root = sys.argv[1], Path(sys.argv[2])
run = importlib.import_module(f"edgewright.targets.{target}.run")
early = sorted({"openvino", "ai_edge_litert"} & set(sys.modules))
manifest = decode(Manifest, (root / "manifest.json").read_bytes(), what="manifest.json")
try:
    session = run.open_session(root, manifest)
    output = session.infer({"x": np.load(sys.argv[3])})["output_0"].tolist()
    error = None
except EdgewrightError as caught:
    output, error = None, caught.to_dict()
heavy = sorted({"torch", "nncf", "litert_torch", "ai_edge_quantizer", "onnx"} & set(sys.modules))
print(json.dumps({"output": output, "error": error, "early": early, "heavy": heavy}))
"""


def run_fresh(built: Built, inputs: Path, **env: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", RUN, built.manifest.target, built.root, inputs],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_artifact_runs_in_a_fresh_process_without_any_toolchain(
    int8: Built, calibration: Samples, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", calibration["x"])
    home = tmp_path / "home"
    home.mkdir()
    said = run_fresh(int8, tmp_path / "x.npy", HOME=str(home))
    assert said["early"] == []
    assert said["heavy"] == []
    assert np.array_equal(said["output"], int8.open().infer(calibration)["output_0"].astype(np.float64))
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize("keep", [0, 0.5, 0.98])
def test_truncated_file_is_a_coded_error(int8: Built, tmp_path: Path, keep: float) -> None:
    for number, file in enumerate(int8.packaged.files):
        root = tmp_path / str(number)
        root.mkdir()
        for name, content in int8.files.items():
            (root / name).write_bytes(content[: int(len(content) * keep)] if name == file.name else content)
        (root / "manifest.json").write_bytes(encode(int8.manifest))
        np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
        broken = Built(int8.source, root, int8.manifest, int8.lowered, int8.packaged)
        error = run_fresh(broken, tmp_path / "x.npy")["error"]
        assert error is not None
        assert error["code"] == "artifact-load-failed"


def test_manifest_that_is_not_the_files_is_refused(int8: Built) -> None:
    other = TensorSpec(name="output_0", dtype="float32", shape=(-1, 11))
    manifest = manifest_of(
        SourceModel(int8.source.name, None, None, int8.source.inputs, (other,), {}),
        int8.manifest.target,
        int8.lowered,
        int8.packaged,
    )
    with pytest.raises(DeviceError) as raised:
        part(int8.manifest.target, "run").open_session(int8.root, manifest)
    assert raised.value.code == "artifact-load-failed"
    assert "(1, 11)" in (raised.value.found or "")


def test_missing_runtime_names_the_package_to_install(fp32: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    module, package = {
        "openvino": ("openvino", "openvino>=2026.0,<2027"),
        "tflite": ("ai_edge_litert", "ai-edge-litert>=2.1,<3"),
    }[fp32.manifest.target]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DeviceError) as raised:
        fp32.open()
    assert raised.value.code == "runtime-missing"
    assert raised.value.next_step == f"pip install '{package}'"


class TwoInputs(torch.nn.Module):
    def forward(self, b: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a - 2 * b, b


class Tokens(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 8)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.embedding(tokens).mean(1), tokens


RANDOM = np.random.default_rng(0)
SHAPES_OF_MODELS: dict[str, tuple[Callable[[], torch.nn.Module], Samples]] = {
    "inputs not in alphabetic order, one of them passed through": (
        TwoInputs,
        {name: RANDOM.normal(size=(3, 4)).astype(np.float32) for name in ("b", "a")},
    ),
    "an input whose name is no identifier": (
        lambda: torch.nn.Linear(4, 2),
        {"pixel values.1": RANDOM.normal(size=(3, 4)).astype(np.float32)},
    ),
    "64-bit integers in and out": (Tokens, {"tokens": RANDOM.integers(0, 50, (3, 6))}),
}


@pytest.mark.parametrize("case", SHAPES_OF_MODELS)
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-5), ("int8", 0.1)])
def test_names_order_and_types_are_the_manifests(
    target: str, case: str, precision: str, atol: float, tmp_path: Path
) -> None:
    make, inputs = SHAPES_OF_MODELS[case]
    torch.manual_seed(0)
    source = source_of(make(), inputs)
    got = build(tmp_path, target, precision, source, inputs).open().infer(inputs)
    for spec, want in zip(source.outputs, expected(source, inputs), strict=True):
        assert got[spec.name].dtype == want.dtype
        np.testing.assert_allclose(got[spec.name], want, atol=atol)


class Singular(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class ThroughNumpy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(x))


def test_unsupported_operator_is_named_with_its_layer_and_line(
    target: str, calibration: Samples, tmp_path: Path
) -> None:
    source = source_of(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(Singular())), calibration)
    with pytest.raises(CompileError) as raised:
        part(target, "lower").lower(source, PROFILE, tmp_path)
    assert raised.value.code == "unsupported-op"
    assert "svd" in raised.value.what
    assert "layer '1.0'" in raised.value.what
    assert "return torch.linalg.svd(x)[1]" in raised.value.what


@pytest.mark.parametrize(
    ("module", "line"),
    [(Branching, "return x if x.sum() > 0 else -x"), (ThroughNumpy, "return torch.from_numpy(np.asarray(x))")],
)
def test_model_that_cannot_be_traced_is_refused_with_its_line(
    target: str, module: type[torch.nn.Module], line: str, calibration: Samples, tmp_path: Path
) -> None:
    with pytest.raises(CompileError) as raised:
        part(target, "lower").lower(source_of(module(), calibration), PROFILE, tmp_path)
    assert raised.value.code == "export-refused"
    assert raised.value.what.endswith(line)
    assert Path(__file__).name in raised.value.what


def test_quantizer_that_fails_is_a_coded_error(target: str, fp32: Built, calibration: Samples, tmp_path: Path) -> None:
    broken = tmp_path / fp32.lowered.path.name
    broken.write_bytes(b"nothing")
    with pytest.raises(CompileError) as raised:
        part(target, "quantize").quantize(fp32.source, Lowered(broken, "fp32"), calibration, PROFILE, tmp_path, unheard)
    assert raised.value.code == "quantize-failed"
    assert raised.value.found
