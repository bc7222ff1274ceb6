"""Try an artifact out in a process of its own: what it loads may crash, hang or fill the memory of nobody else.

Rules: the agent itself imports neither NumPy nor a runtime; a trial has a bounded time, and its whole process group
ends with it, when it is told to stop as well as when its time is over; it ends with the agent, kill -9 included, or it
would run beside the trial that the next start begins, and spoil its figures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.errors import DeviceError
from edgewright.contracts.wire import decode
from edgewright.edge_agent.worker import Abort

T = TypeVar("T")

# How often a running trial looks whether it shall stop.
_TICK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class ProbeVerdict:
    """Whether the golden probe gave what it must; the figures say how far from it. None: not a finite number."""

    passed: bool
    samples: int
    max_abs_error: float | None
    min_cosine: float | None
    detail: str


class Trials(Protocol):
    """What an artifact goes through on the device. Both raise DeviceError when it cannot be run, and Aborted."""

    def probe(self, root: Path, abort: Abort) -> ProbeVerdict:
        """Run the golden probe of the artifact in `root`."""
        ...

    def benchmark(self, root: Path, against: Path | None, abort: Abort) -> BenchmarkReport:
        """Measure the artifact in `root`, in turn with the one in `against`."""
        ...


@dataclass(frozen=True)
class ChildTrials:
    """Trials by `python -m edgewright.measurement`, which prints one JSON document.

    Attributes:
        seconds: how long each artifact is measured.
        timeout_s: what a trial may take beside its measuring: loading a large model on a slow board is minutes.
    """

    seconds: float
    timeout_s: float = 4000.0
    command: Sequence[str] = (sys.executable, "-m", "edgewright.measurement")

    def probe(self, root: Path, abort: Abort) -> ProbeVerdict:
        """See Trials."""
        return self._run(ProbeVerdict, ["probe", str(root)], self.timeout_s, abort)

    def benchmark(self, root: Path, against: Path | None, abort: Abort) -> BenchmarkReport:
        """See Trials."""
        arguments = ["benchmark", str(root), "--seconds", str(self.seconds)]
        if against is not None:
            arguments += ["--against", str(against)]
        return self._run(BenchmarkReport, arguments, self.timeout_s + 10 * self.seconds, abort)

    def _run(self, kind: type[T], arguments: Sequence[str], timeout_s: float, abort: Abort) -> T:
        child = subprocess.Popen(
            [*self.command, *arguments, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = _communicate(child, time.monotonic() + timeout_s, abort)
        except subprocess.TimeoutExpired:
            raise DeviceError(
                "artifact-timeout",
                f"the artifact's {arguments[0]} did not end",
                expected=f"at most {timeout_s:.0f} s",
                next_step="a smaller model, or one for this device's profile, is needed",
            ) from None
        finally:
            _end(child)
        if child.returncode != 0:
            raise _error(output, errors, child.returncode)
        return decode(kind, output, what=f"the answer of {arguments[0]}")


def _communicate(child: subprocess.Popen[bytes], until: float, abort: Abort) -> tuple[bytes, bytes]:
    while True:
        abort.check()
        try:
            return child.communicate(timeout=_TICK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                raise


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole group if it still runs, and take its exit status."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()


@dataclass(frozen=True)
class _Said:
    code: str
    what: str
    expected: str | None = None
    found: str | None = None
    next: str | None = None


@dataclass(frozen=True)
class _Answer:
    error: _Said


def _error(output: bytes, errors: bytes, status: int) -> DeviceError:
    """The error a trial ended with: the one it names, or its death."""
    if output.lstrip().startswith(b"{"):
        said = decode(_Answer, output, what="the answer of a trial").error
        return DeviceError(said.code, said.what, expected=said.expected, found=said.found, next_step=said.next)
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    tail = errors.decode(errors="replace").strip().splitlines()[-1:]
    return DeviceError("artifact-crashed", "the process that tried the artifact died", found=": ".join([how, *tail]))
