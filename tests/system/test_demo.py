"""The whole loop, as `make demo` runs it: real training, real converters, real broker, real agents."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from edgewright.measurement.artifact import read_manifest, verify_files

ROOT = Path(__file__).resolve().parents[2]
PROFILES = {
    "x86-64-avx512-vnni": "openvino",
    "x86-64-avx2": "tflite",
    "raspberry-pi-4": "tflite",
    "jetson-orin-nano": "tensorrt",
    "rtx-4060": "tensorrt",
}

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()),
        reason="needs mosquitto: apt-get install mosquitto",
    ),
    pytest.mark.skipif(
        "avx512_vnni" not in Path("/proc/cpuinfo").read_text(),
        reason="the demo's OpenVINO device needs a CPU with AVX512-VNNI",
    ),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of one finished demo, and what it printed."""
    work = tmp_path_factory.mktemp("demo") / "work"
    done = subprocess.run(
        [sys.executable, ROOT / "examples/digits/demo.py", work],
        env=os.environ | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    logs = "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in work.glob("*.log"))
    assert done.returncode == 0, f"{done.stderr[-6000:]}\n{logs}"
    return work, done


def test_every_profile_is_smaller_and_as_accurate(demo):
    work, done = demo
    rows = json.loads((work / "summary.json").read_text())["rows"]
    assert {row["profile"]: row["target"] for row in rows} == PROFILES
    for row in rows:
        assert row["size_bytes"] < row["fp32_size_bytes"]
        assert row["accuracy"] >= row["fp32_accuracy"] - 0.01
        assert row["profile"] in done.stdout
    measured = {row["profile"] for row in rows if row["speedup"]}
    assert measured == {"x86-64-avx512-vnni", "x86-64-avx2"}


@pytest.mark.parametrize(("device", "target"), [("bench-openvino", "openvino"), ("bench-tflite", "tflite")])
def test_application_finds_the_intact_int8_model_at_the_stable_path(demo, device, target):
    current = demo[0] / device / "models/digits/current"
    manifest, digest = read_manifest(current)
    verify_files(current, manifest)
    assert (manifest.target, manifest.precision) == (target, "int8")
    published = json.loads((demo[0] / "int8/report.json").read_text())["artifacts"]
    assert digest in {artifact["digest"] for artifact in published}


def test_registry_holds_every_file_of_every_artifact_under_its_digest(demo):
    work, _ = demo
    stored = {path.name for path in (work / "registry").rglob("*") if path.is_file()}
    for path in work.glob("int8/*/manifest.json"):
        manifest, digest = read_manifest(path.parent)
        names = {digest, *(entry.digest for entry in manifest.files)}
        assert {name.removeprefix("sha256:")[2:] for name in names} <= {name[-62:] for name in stored}


def test_demo_leaves_no_process_behind(demo):
    work, _ = demo
    alive = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(work) in word for word in process.info["cmdline"] or ()):
            alive.append(process)
    assert alive == []
