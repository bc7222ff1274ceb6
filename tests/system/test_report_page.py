"""The report's page in a real browser: nothing overlaps, nothing sticks out, at the width of a phone and of a desk."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_samples import SAMPLES

from edgewright.compiler.report_page import render

WIDTHS = (360, 1280, 1600)
# In frames, because a browser without a head has no window as narrow as a phone. What is looked at is visible text.
SCRIPT = """
const overlap = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
const found = {};
onload = () => {
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, problems = [];
    if (page.documentElement.scrollWidth > frame.clientWidth)
      problems.push(`the page is ${page.documentElement.scrollWidth} wide`);
    let charts = 0;
    for (const chart of page.querySelectorAll("svg.chart")) {
      if (!chart.getClientRects().length) continue;
      charts++;
      const around = chart.getBoundingClientRect();
      const texts = [...chart.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
      texts.forEach(([name, box], index) => {
        if (box.left < around.left - 1 || box.right > around.right + 1 || box.bottom > around.bottom + 1)
          problems.push(`${name} leaves its chart`);
        if (box.height < 10) problems.push(`${name} is too small to read`);
        for (const [other, its] of texts.slice(index + 1))
          if (overlap(box, its)) problems.push(`${name} lies over ${other}`);
      });
    }
    for (const big of page.querySelectorAll("dd.big")) {
      const next = big.parentElement.nextElementSibling;
      if (next && big.scrollWidth > big.clientWidth + 8) problems.push(`${big.textContent} runs into its neighbour`);
    }
    const style = page.defaultView.getComputedStyle(page.body);
    found[frame.id] = {problems, charts, ink: style.color, ground: style.backgroundColor};
  }
  document.getElementById("result").textContent = JSON.stringify(found);
};
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    return path


def browse(chromium: str, folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={folder / 'browser'}", *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def look(chromium: str, folder: Path, *options: str) -> dict:
    """What the script finds in each sample at each width, by ``sample@width``."""
    frames = "".join(
        f'<iframe id="{name}@{width}" style="border:0;width:{width}px;height:900px"'
        f' srcdoc="{html.escape(render(make()))}"></iframe>'
        for name, make in SAMPLES.items()
        for width in WIDTHS
    )
    page = folder / "frames.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><script>{SCRIPT}</script>{frames}<pre id="result"></pre>')
    shown = browse(chromium, folder, *options, "--dump-dom", page.as_uri()).stdout
    return json.loads(html.unescape(shown.rpartition('<pre id="result">')[2].partition("</pre>")[0]))


@pytest.fixture(scope="module")
def light(chromium, tmp_path_factory) -> dict:
    return look(chromium, tmp_path_factory.mktemp("light"), "--blink-settings=preferredColorScheme=1")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_overlaps_or_sticks_out(light, name, width):
    assert light[f"{name}@{width}"]["problems"] == []


def test_one_of_the_two_drawings_is_shown(light):
    assert {light[f"thirty variants@{width}"]["charts"] for width in WIDTHS} == {1}


def test_dark_pages_are_dark_and_light_ones_light(light, chromium, tmp_path):
    dark = look(chromium, tmp_path, "--blink-settings=preferredColorScheme=0")["everything@1280"]

    def brightness(colour: str) -> int:
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    day = light["everything@1280"]
    assert brightness(day["ground"]) > 600 > 200 > brightness(day["ink"])
    assert brightness(dark["ink"]) > 600 > 200 > brightness(dark["ground"])


def test_the_page_can_be_pictured_and_printed_from_a_file(chromium, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render(SAMPLES["everything"]()), encoding="utf-8")
    picture, paper = tmp_path / "report.png", tmp_path / "report.pdf"
    browse(chromium, tmp_path, f"--screenshot={picture}", "--window-size=1280,2000", page.as_uri())
    browse(chromium, tmp_path, f"--print-to-pdf={paper}", page.as_uri())
    assert picture.stat().st_size > 50_000  # an empty page has some 10 KB
    assert paper.read_bytes().startswith(b"%PDF")


CODE = """\
import numpy as np
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

def data():
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(64, 64)).astype(np.float32), "target": random.integers(10, size=64)}
"""
RECIPE = """\
model: net:net
data: {calibrate: "net:data", evaluate: "net:data"}
metric: accuracy
goals: {accuracy: {max-degradation: 0.1}}
passes: []
profiles: [raspberry-pi-4]
"""


def test_a_real_compile_is_gated_by_an_old_report_and_shown(tmp_path):
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    baseline = {"metric": "accuracy", "value": 0.1, "size_bytes": 9640}
    before = {
        "profile": "raspberry-pi-4", "target": "tflite", "precision": "int8", "path": "raspberry-pi-4",
        "digest": "sha256:" + "0" * 64, "size_bytes": 3000, "metric": "accuracy", "value": 0.0, "latency_us": None,
        "goals_met": True, "findings": [],
    }  # fmt: skip
    old = {"schema": 1, "model": "net", "baseline": baseline, "artifacts": [before]}
    (tmp_path / "old.json").write_text(json.dumps(old))
    command = [sys.executable, "-m", "edgewright.cli", "compile", "recipe.yaml", "--json", "--out", "build"]
    done = subprocess.run(
        [*command, "--check", "old.json", "--junit", "junit.xml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert [regression["code"] for regression in document.pop("regressions")] == ["size-growth"]
    assert document == json.loads((tmp_path / "build" / "report.json").read_text())
    page = (tmp_path / "build" / "report.html").read_text()
    manifest = json.loads((tmp_path / "build" / "raspberry-pi-4" / "manifest.json").read_text())
    for shown in ("Raspberry Pi 4 Model B", "max-degradation 0.1", manifest["provenance"]["source"]):
        assert shown in page
    assert '<failure type="size-growth"' in (tmp_path / "junit.xml").read_text()
