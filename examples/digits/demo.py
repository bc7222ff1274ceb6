"""The whole loop on this machine: train, compile, publish, roll out, prove on the device, report back.

Everything is done by the commands a user would type; each is shown before it runs. A registry and two agents run as
processes of their own for as long as the demo does. The agents stand for two devices of one kind that differ in what
is installed: one has OpenVINO, the other only LiteRT. First both get the float32 model, then the INT8 one, which each
device measures against the float32 model it is running, in turns.

What the run made stays in `.demo/` (or the folder given as the argument): recipes, artifacts, registry, devices, and
`summary.json` with the figures of the closing table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
DEVICES = {"bench-openvino": "openvino", "bench-tflite": "tflite"}
WAIT_S = 120

console = Console(stderr=True, highlight=False)


def main() -> int:
    """Run the demo; 0 when both devices run the INT8 model."""
    start = time.monotonic()
    work = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo").resolve()
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(HERE, work / "model", ignore=shutil.ignore_patterns("__pycache__", "demo.py"))

    step("Train a small residual network on scikit-learn's digits")
    run([sys.executable, "digits.py"], cwd=work / "model", shown="python digits.py")
    step("Compile it: float32 for two runtimes, INT8 for five hardware profiles")
    edgewright("compile", work / "model/fp32.yaml", "--out", work / "fp32")
    int8 = edgewright("compile", work / "model/int8.yaml", "--out", work / "int8")

    with ExitStack() as stack:
        step("Start a registry with its broker, and two agents")
        endpoints = stack.enter_context(registry(work))
        os.environ["EDGEWRIGHT_REGISTRY"] = endpoints["url"]
        for device, runtime in DEVICES.items():
            stack.enter_context(agent(work, device, runtime, endpoints["url"]))
        wait_for_devices()
        step("Publish both, and roll them out, one device after the other")
        executions: dict[str, dict[str, Any]] = {}
        for version, folder in (("1.0.0", "fp32"), ("1.1.0", "int8")):
            edgewright("publish", work / folder, "--release", f"digits:{version}")
            for device in DEVICES:
                executions[device] = roll_out(f"digits:{version}", device)
        step("What the fleet runs now")
        run([*EDGEWRIGHT, "fleet", "status"], shown="edgewright fleet status")
        check_stable_paths(work)

    rows = summarize(int8, executions)
    seconds = time.monotonic() - start
    (work / "summary.json").write_text(json.dumps({"seconds": seconds, "rows": rows}, indent=2) + "\n")
    show(rows)
    console.print(f"\n{seconds:.0f} s in all. Figures: {work / 'summary.json'}; artifacts: {work / 'int8'}")
    return 0


EDGEWRIGHT = [sys.executable, "-m", "edgewright.cli"]


def step(title: str) -> None:
    """A heading."""
    console.rule(f"[bold]{title}", align="left")


def run(command: list[str], *, shown: str, cwd: Path | None = None) -> None:
    """Run a command whose output goes to the terminal; end the demo when it fails."""
    console.print(f"[dim]$[/] {shown}")
    status = subprocess.run(command, cwd=cwd, check=False).returncode
    if status:
        raise SystemExit(f"demo: `{shown}` ended with {status}")


def edgewright(*arguments: object) -> dict[str, Any]:
    """Run an edgewright command with --json and return its document; end the demo when it fails."""
    words = [str(argument) for argument in arguments]
    shown = " ".join(os.path.relpath(word) if word.startswith("/") else word for word in words)
    console.print(f"[dim]$[/] edgewright {shown}")
    done = subprocess.run([*EDGEWRIGHT, *words, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"demo: `edgewright {shown}` ended with {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs as long as the block does, its stderr in `log`."""
    with log.open("wb") as stderr:
        child = subprocess.Popen(command, stderr=stderr, **options)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(timeout=30)


@contextmanager
def registry(work: Path) -> Iterator[dict[str, Any]]:
    """A registry on free ports; yields where it listens."""
    console.print("[dim]$[/] edgewright registry serve --data .demo/registry")
    command = [*EDGEWRIGHT, "registry", "serve", "--data", str(work / "registry")]
    command += ["--port", "0", "--mqtt-port", "0", "--json"]
    with process(command, work / "registry.log", stdout=subprocess.PIPE) as child:
        line = child.stdout.readline() if child.stdout else b""
        if not line:
            raise SystemExit(f"demo: the registry did not start:\n{(work / 'registry.log').read_text()}")
        yield json.loads(line)


@contextmanager
def agent(work: Path, device: str, runtime: str, url: str) -> Iterator[None]:
    """An agent with one runtime."""
    config = work / f"{device}.toml"
    config.write_text(f'device = "{device}"\nregistry = "{url}"\ndata = "{work / device}"\nruntimes = ["{runtime}"]\n')
    console.print(f"[dim]$[/] edgewright-agent run --config .demo/{config.name}")
    command = [sys.executable, "-c", "import sys; from edgewright.cli import agent_main; sys.exit(agent_main())"]
    with process([*command, "run", "--config", str(config)], work / f"{device}.log"):
        yield


def wait_for_devices() -> None:
    """Wait until every agent has introduced itself."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        done = subprocess.run([*EDGEWRIGHT, "fleet", "status", "--json"], stdout=subprocess.PIPE, check=True)
        known = {device["id"] for device in json.loads(done.stdout)["devices"] if device["fingerprint"]}
        if known >= set(DEVICES):
            return
        time.sleep(0.2)
    raise SystemExit("demo: the agents did not report to the registry; see .demo/*.log")


def roll_out(release: str, device: str) -> dict[str, Any]:
    """Roll a release out to one device and wait for its end; returns the device's execution."""
    rollout = edgewright("rollout", "create", release, "--device", device, "--wait", "--timeout", WAIT_S)
    execution: dict[str, Any] = rollout["executions"][0]
    if execution["state"] != "succeeded":
        raise SystemExit(f"demo: {device} ended {execution['state']}: {execution['reason']} {execution['detail']}")
    return execution


def check_stable_paths(work: Path) -> None:
    """What an application beside the agent would open."""
    for device in DEVICES:
        current = work / device / "models/digits/current"
        manifest = json.loads((current / "manifest.json").read_text())
        console.print(f"{os.path.relpath(current)} is {manifest['target']} {manifest['precision']}")


def summarize(int8: dict[str, Any], executions: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a profile, from the files and reports that this run made."""
    measured = {execution["benchmark"]["artifact"]: execution["benchmark"] for execution in executions.values()}
    rows = []
    for artifact in int8["artifacts"]:
        benchmark = measured.get(artifact["digest"])
        rows.append(
            {
                "profile": artifact["profile"],
                "target": artifact["target"],
                "size_bytes": artifact["size_bytes"],
                "fp32_size_bytes": int8["baseline"]["size_bytes"],
                "accuracy": artifact["value"],
                "fp32_accuracy": int8["baseline"]["value"],
                "p50_us": benchmark and benchmark["latency_us"]["p50"],
                "fp32_p50_us": benchmark and benchmark["speedup"]["against_p50_us"],
                "speedup": benchmark and [benchmark["speedup"][key] for key in ("low", "ratio", "high")],
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The closing table, 80 columns wide."""
    table = Table(title="INT8 against float32", title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1)
    table.add_column("profile", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for name in ("size", "accuracy", "latency", "faster"):
        table.add_column(name, justify="right", no_wrap=True)
    intervals = []
    for row in rows:
        change = (row["accuracy"] - row["fp32_accuracy"]) * 100
        latency, faster = "not here", ""
        if row["speedup"]:
            low, ratio, high = row["speedup"]
            latency, faster = f"{row['p50_us']:.0f}/{row['fp32_p50_us']:.0f} us", f"{ratio:.1f}x"
            intervals.append(f"{row['target']} {low:.2f} to {high:.2f}")
        table.add_row(
            row["profile"],
            row["target"],
            f"{row['size_bytes'] / 2**20:.1f} MiB {row['fp32_size_bytes'] / row['size_bytes']:.1f}x",
            f"{row['accuracy']:.1%} {change:+.1f}",
            latency,
            faster,
        )
    table.caption = (
        "Size and accuracy: and how they changed. Latency: median of INT8/float32, both\n"
        f"measured in turns by the agent. 95 %: {'; '.join(intervals)}.\n"
        "Not here: no such board. An RTX artifact carries its ONNX model and an engine."
    )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
