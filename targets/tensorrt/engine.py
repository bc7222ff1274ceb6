"""Runs the build program with a time limit, and moves a finished engine to where it is wanted, whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgewright.contracts.errors import UserError
from edgewright.contracts.wire import decode
from edgewright.targets.tensorrt.build import BuildReport, BuildStatus

BUILD_TIMEOUT_S = 1800.0
"""An Orin Nano takes minutes for a large network; a builder that takes longer than this hangs."""


@dataclass(frozen=True)
class Build:
    """A report and the builder's verbose log."""

    report: BuildReport
    log: str


def build_engine(
    runtime: str,
    onnx: Path,
    spec: Path,
    out: Path,
    *,
    for_sm: int | None = None,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> Build:
    """Build the engine for `onnx` that the file `spec` describes, in a child process, to `out`.

    Args:
        runtime: ``tensorrt`` or ``tensorrt_rtx``.
        onnx: the model.
        spec: its build spec.
        out: where the engine goes; written only when the build ended well.
        for_sm: GPU generation to build for; None: the GPU of this machine.
        timeout_s: after this the child is killed.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as scratch:
        engine, log = Path(scratch, "engine"), Path(scratch, "log")
        program = (sys.executable, "-m", "edgewright.targets.tensorrt.build")
        command = [*program, runtime, str(onnx), str(spec), str(engine)]
        if for_sm is not None:
            command += ["--for-sm", str(for_sm)]
        with log.open("wb") as stderr:
            try:
                child = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    timeout=timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                report = BuildReport(status=BuildStatus.TIMED_OUT, detail=f"no engine after {timeout_s:g} s")
            else:
                report = _report(child, log)
        text = log.read_text(errors="replace")
        if report.status is BuildStatus.BUILT:
            engine.replace(out)
        return Build(report, text)


def _report(child: subprocess.CompletedProcess[bytes], log: Path) -> BuildReport:
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return BuildReport(status=BuildStatus.FAILED, detail=f"the builder was killed by {name}")
    try:
        return decode(BuildReport, child.stdout, what="the builder's report")
    except UserError:
        lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return BuildReport(
            status=BuildStatus.FAILED, detail=f"the builder ended with status {child.returncode}: {lines[-1][:300]}"
        )
