"""The real `edgewright compile` in a process of its own: what it writes, what it says, what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgewright.contracts.errors import ArtifactError
from edgewright.contracts.manifest import Manifest
from edgewright.measurement.artifact import read_manifest, verify_files
from edgewright.measurement.probe import compare, read_probe
from edgewright.measurement.process import ArtifactProcess

CODE = """\
import numpy as np
import torch
from torch import nn


def net():
    print("the user's own code prints this")
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 32), nn.ReLU(), nn.Linear(32, 10),
    )


class Poisoned(nn.Module):
    def forward(self, x):
        return torch.log(-x.flatten(1).abs() - 1)


class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, 10))

    def forward(self, x):
        return self.layers(x)


def failing():
    return {}["missing"]


def evaluation():
    with np.load("evaluation.npz") as file:
        return {"x": file["x"], "target": file["y"]}


def wrong_shape():
    return {"x": np.zeros((16, 3, 8, 8), np.float32), "target": np.zeros(16, np.int64)}


def empty():
    return []
"""

RECIPE = {
    "model": "net:net",
    "weights": "net.safetensors",
    "data": {
        "calibrate": {"npz": "cal.npz", "inputs": ["x"], "target": "y"},
        "evaluate": {"callable": "net:evaluation"},
    },
    "metric": "accuracy",
    "goals": {"accuracy": {"max-degradation": 0.02}},
    "passes": [{"ptq": {"precision": "int8"}}],
    "profiles": ["x86-64-avx512-vnni", "raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano"],
}


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy copies of one pattern a class."""
    patterns = np.random.default_rng(0).normal(size=(10, 1, 8, 8))
    random = np.random.default_rng(seed)
    classes = random.integers(10, size=count)
    return (patterns[classes] + 0.5 * random.normal(size=(count, 1, 8, 8))).astype(np.float32), classes


def trained(seed: int) -> nn.Module:
    scope: dict[str, object] = {}
    exec(CODE, scope)  # noqa: S102 - the code stands above
    torch.manual_seed(seed)
    net: nn.Module = scope["net"]()
    x, y = map(torch.from_numpy, samples(256, 1))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a trained network, its data and its recipe."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(CODE)
    save_file(trained(seed=0).state_dict(), folder / "net.safetensors")
    for name, seed in (("cal", 2), ("evaluation", 3)):
        x, y = samples(128, seed)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    return folder


def compile_(
    folder: Path, *arguments: str, recipe: Path | str = "recipe.yaml", **changes
) -> subprocess.CompletedProcess:
    """Run `edgewright compile` in `folder`, with `changes` to the recipe."""
    if changes:
        recipe = folder / "changed.yaml"
        recipe.write_text(json.dumps({key: value for key, value in (RECIPE | changes).items() if value is not None}))
    command = [sys.executable, "-m", "edgewright.cli", "compile", str(recipe), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def compiled(project) -> subprocess.CompletedProcess:
    """One good run with `--json`, into the folder `out`."""
    done = compile_(project, "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def report(compiled) -> dict:
    return json.loads(compiled.stdout)


def manifest(folder: Path) -> Manifest:
    return read_manifest(folder)[0]


def test_json_is_one_document_and_the_same_as_the_report(compiled, project):
    assert json.loads(compiled.stdout) == json.loads((project / "out" / "report.json").read_text())
    assert "the user's own code prints this" in compiled.stderr


def test_the_report_has_the_documented_fields(report):
    assert report["schema"] == 1
    assert report["model"] == "net"
    assert report["baseline"].keys() == {"metric", "value", "size_bytes"}
    assert report["baseline"]["size_bytes"] == 4 * ((9 * 16 + 16) * 2 + 1024 * 32 + 32 + 32 * 10 + 10)
    assert [artifact["profile"] for artifact in report["artifacts"]] == RECIPE["profiles"]
    for artifact in report["artifacts"]:
        assert artifact.keys() == {
            *("profile", "target", "precision", "path", "digest", "size_bytes", "metric", "value"),
            *("latency_us", "goals_met", "findings"),
        }
        assert artifact["precision"] == "int8"
        assert artifact["goals_met"] is True


def test_each_artifact_is_whole_and_small(report, project):
    for artifact in report["artifacts"]:
        folder = project / "out" / artifact["path"]
        document, digest = read_manifest(folder)
        verify_files(folder, document)
        assert digest == artifact["digest"]
        assert {path.name for path in folder.iterdir()} == {"manifest.json", *(entry.path for entry in document.files)}
        assert artifact["size_bytes"] == document.size_bytes - (folder / "probe.npz").stat().st_size
        assert document.quality.value == artifact["value"]
        assert document.quality.baseline == report["baseline"]["value"]
    tflite = [artifact for artifact in report["artifacts"] if artifact["target"] == "tflite"]
    assert tflite
    assert all(artifact["size_bytes"] < report["baseline"]["size_bytes"] / 3 for artifact in tflite)


def test_the_hosts_latency_is_not_shown_for_a_board(report):
    for artifact in report["artifacts"][1:]:
        assert artifact["latency_us"] is None
        assert "latency-not-measured" in [finding["code"] for finding in artifact["findings"]]


def test_latency_is_measured_where_the_host_is_such_a_machine_and_explained_elsewhere(report):
    artifact = report["artifacts"][0]
    if artifact["latency_us"] is None:
        assert "latency-not-measured" in [finding["code"] for finding in artifact["findings"]]
    else:
        assert artifact["latency_us"]["where"] == "this host"
        assert artifact["latency_us"]["how"] == "measured"
        assert 0 < artifact["latency_us"]["p50"] <= artifact["latency_us"]["p99"]


def test_boards_of_one_kind_share_the_model_and_not_the_manifest(report, project):
    pi4, pi5 = (project / "out" / profile for profile in ("raspberry-pi-4", "raspberry-pi-5"))
    assert (pi4 / "model.tflite").read_bytes() == (pi5 / "model.tflite").read_bytes()
    assert (manifest(pi4).profile, manifest(pi5).profile) == ("raspberry-pi-4", "raspberry-pi-5")


def test_provenance_names_what_the_artifact_comes_from(report, project):
    provenance = manifest(project / "out" / "raspberry-pi-4").provenance
    assert provenance.passes == ("ptq(precision=int8)",)
    assert {"edgewright", "torch", "litert-torch", "ai-edge-quantizer"} <= provenance.toolchain.keys()


def test_an_artifact_with_other_weights_fails_the_probe(report, project):
    """Another training run of the same network: as accurate, and not the model that was released."""
    original = project / "out" / "x86-64-avx512-vnni"
    inputs, expected = read_probe(original / "probe.npz")
    outputs = trained(seed=1)(torch.from_numpy(inputs["x"])).detach().numpy()
    assert (outputs.argmax(1) == expected["output_0"].argmax(1)).all()
    assert not compare(manifest(original).probe, expected, {"output_0": outputs}).passed


def test_the_written_artifact_passes_its_probe_and_a_flipped_bit_is_found(report, project, tmp_path):
    copy = shutil.copytree(project / "out" / "raspberry-pi-4", tmp_path / "copy")
    with ArtifactProcess(copy) as process:
        assert process.probe().passed
    content = bytearray((copy / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.tflite").write_bytes(content)
    with pytest.raises(ArtifactError) as caught, ArtifactProcess(copy):
        pass
    assert caught.value.code == "artifact-digest-mismatch"


def test_the_same_inputs_give_the_same_bytes_in_any_order(report, project, tmp_path):
    """A manifest holds each file's digest, so equal manifests mean equal artifacts."""
    profiles = ("jetson-orin-nano", "raspberry-pi-4", "x86-64-avx512-vnni")
    again = tmp_path / "again"
    done = compile_(project, "--out", str(again), *(f"--profile={profile}" for profile in profiles))
    assert done.returncode == 0, done.stderr
    for profile in profiles:
        first, second = ((out / profile / "manifest.json").read_bytes() for out in (project / "out", again))
        assert first == second
    assert all(profile in done.stdout for profile in profiles)


def test_what_another_runtime_scored_is_called_simulated(report, project):
    assert manifest(project / "out" / "jetson-orin-nano").quality.how == "simulated"
    codes = {artifact["profile"]: [item["code"] for item in artifact["findings"]] for artifact in report["artifacts"]}
    assert "quality-simulated" in codes["jetson-orin-nano"]
    assert "quality-simulated" not in codes["raspberry-pi-4"]


def test_a_missed_goal_is_written_reported_and_exits_3(project):
    goals = {"accuracy": {"threshold": 0.5, "min-improvement": 0.5}}
    done = compile_(
        project, "--out", "missed", "--json", "--profile", "x86-64-avx512-vnni", goals=goals, passes=[], weights=None
    )
    assert done.returncode == 3, done.stderr
    (artifact,) = json.loads(done.stdout)["artifacts"]
    assert artifact["goals_met"] is False
    missed = [finding["message"] for finding in artifact["findings"] if finding["code"] == "goal-missed"]
    assert len(missed) == 2
    assert "min-improvement 0.5" in missed[1]
    assert "error[goals-not-met]" in done.stderr
    verify_files(project / "missed" / artifact["path"], manifest(project / "missed" / artifact["path"]))
    shutil.rmtree(project / "missed")


def entries(folder: Path) -> list[str]:
    """Everything in `folder` but Python's cache, of hidden files too."""
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


def with_data(**changes) -> dict:
    return {"data": RECIPE["data"] | changes}


BAD_INPUTS = {
    "unknown key": ({"metrik": "accuracy"}, 2, "recipe-unknown-key", "did you mean 'metric'?"),
    "missing module": ({"model": "nett:net"}, 2, "model-module-missing", "did you mean 'net'?"),
    "missing callable": ({"model": "net:nets"}, 2, "model-callable-missing", "did you mean 'net'?"),
    "failing callable": ({"model": "net:failing"}, 4, "user-code-failed", "net.py:29"),
    "no module": ({"model": "net:evaluation"}, 2, "model-not-a-module", "dict"),
    "weights that do not fit": ({"model": "net:Large"}, 2, "weights-do-not-fit", "4 missing from the file"),
    "missing weights": ({"weights": "nets.safetensors"}, 2, "recipe-file-missing", "did you mean 'net.safetensors'?"),
    "unknown profile": ({"profiles": ["raspbery-pi-4"]}, 2, "profile-unknown", "raspberry-pi-4"),
    "empty calibration set": (with_data(calibrate="net:empty"), 2, "data-empty", "data.calibrate"),
    "wrong shape": (with_data(calibrate="net:wrong_shape"), 2, "data-shape", "(samples, 3, 8, 8)"),
    "wrong shape for the model": (
        with_data(calibrate="net:wrong_shape", evaluate="net:wrong_shape"),
        2,
        "data-shape",
        "(1, 3, 8, 8)",
    ),
    "NaN in the output": ({"model": "net:Poisoned", "weights": None}, 4, "model-output-nan", "sample 0"),
    "unknown option": ({"passes": [{"ptq": {"bits": 8}}]}, 2, "pass-option-unknown", "'bits'"),
}


@pytest.mark.parametrize("name", sorted(BAD_INPUTS))
def test_bad_input_is_told_and_leaves_nothing(project, name):
    changes, status, code, hint = BAD_INPUTS[name]
    (project / "changed.yaml").touch()
    before = entries(project)
    done = compile_(project, "--out", "bad/out", "--json", **changes)
    assert done.returncode == status, done.stderr
    assert f"error[{code}]" in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == code
    assert entries(project) == before


def test_a_recipe_that_is_not_there_is_told(project):
    done = compile_(project, recipe="none.yaml")
    assert done.returncode == 2
    assert "error[recipe-missing]" in done.stderr


def test_an_output_folder_that_is_not_empty_is_left_as_it_is(project, tmp_path):
    (tmp_path / "mine").write_text("precious")
    done = compile_(project, "--out", str(tmp_path))
    assert done.returncode == 2
    assert "error[out-not-empty]" in done.stderr
    assert entries(tmp_path) == ["mine"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 KB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("profile", ["x86-64-avx512-vnni", "raspberry-pi-4"])
def test_a_full_disk_is_told_and_left_empty(project, small_disk, profile):
    done = compile_(
        project, "--out", str(small_disk / "out"), "--profile", profile, model="net:Large", weights=None, goals=None
    )
    assert done.returncode == 4, done.stderr
    assert "error[disk-full]" in done.stderr
    assert "Traceback" not in done.stderr
    assert entries(small_disk) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_the_middle_leaves_nothing(project, tmp_path, number, status):
    command = [sys.executable, "-m", "edgewright.cli", "compile", "recipe.yaml", "--out", str(tmp_path / "a" / "out")]
    child = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if "ptq" in line:
            break
    assert (tmp_path / "a").is_dir(), said
    os.killpg(child.pid, number)
    said += child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == status
    assert "Traceback" not in "".join(said)
    assert entries(tmp_path) == []
