"""The house stands: links, wheel, imports."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINKS = ROOT / "src" / "edgewright"
FOLDERS = {
    "contracts", "hardware_profiles", "kernels", "measurement", "targets", "compiler", "registry", "edge_agent",
}  # fmt: skip


def tracked(*folders: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_every_folder_has_its_link_and_every_link_its_folder():
    links = {path.name: path.readlink().as_posix() for path in LINKS.iterdir() if path.is_symlink()}
    assert links == {name: f"../../{name}" for name in FOLDERS}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy of what git tracks: a build leaves folders behind, and must not see untracked files.
    source = folder / "source"
    for name in sorted(tracked(".")):
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy, follow_symlinks=False)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
    )
    (wheel,) = folder.glob("edgewright-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_what_git_tracks_and_nothing_else(wheel_names):
    wanted = {f"edgewright/{name}" for name in tracked(*FOLDERS)}
    wanted |= {name.removeprefix("src/") for name in tracked("src") if name.endswith((".py", "py.typed"))}
    assert {name for name in wheel_names if ".dist-info/" not in name} == wanted


def test_agent_loads_nothing_heavy():
    loaded = modules_after("import edgewright.edge_agent.main")
    assert loaded & {"torch", "onnx", "fastapi", "boto3", "sqlalchemy", "numpy", "nncf", "openvino", "yaml"} == set()
    assert "paho" in loaded


@pytest.mark.parametrize("target", ["openvino", "tflite", "tensorrt"])
def test_what_runs_an_artifact_loads_no_toolchain_and_no_runtime_before_it_is_needed(target):
    loaded = modules_after(f"import edgewright.targets.{target}.run")
    heavy = {
        "torch",
        "onnx",
        "onnxruntime",
        "openvino",
        "nncf",
        "ai_edge_litert",
        "litert_torch",
        "tensorrt",
        "tensorrt_rtx",
    }
    assert loaded & heavy == set()


def test_help_loads_nothing_but_the_standard_library():
    code = "from edgewright.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert loaded & {"numpy", "msgspec", "rich", "torch", "httpx", "yaml", "packaging"} == set()


def test_agent_extra_pulls_nothing_heavy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name for line in [*project["dependencies"], *project["optional-dependencies"]["agent"]]}
    assert wanted == {"msgspec", "packaging", "rich", "numpy", "paho-mqtt", "urllib3"}


def test_every_pin_is_exact():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    direct = {canonicalize_name(Requirement(line).name) for lines in extras.values() for line in lines}
    assert direct - {"edgewright"} - pinned == set()
