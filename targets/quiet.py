"""Calls into third-party toolchains and runtimes: their chatter is kept off our streams, their errors get one shape.

- File descriptors 1 and 2 are diverted while the call runs, so that native code is caught too: `--json` promises one
  document on stdout. What was written is kept in memory, and its end is shown when the call fails.
- Python warnings raised inside are theirs, and are ignored.
- Whatever they raise comes out as a `ThirdPartyError`: they raise every type there is, errors of the user's own code
  included, so this is the one place where everything is caught. Errors of our own tree pass as they are.
- Descriptors belong to the process: one call at a time.

Standard library only: devices import this.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from edgewright.contracts.errors import EdgewrightError

P = ParamSpec("P")
R = TypeVar("R")

_STREAMS = (1, 2)
_TAIL_LINES = 6
_CAUSE_LINES = 12
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class ThirdPartyError(Exception):
    """A third-party call failed.

    Args:
        cause: what it raised.
        chatter: what it had written on stdout and stderr.
    """

    def __init__(self, cause: Exception, chatter: str) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.chatter = chatter

    @property
    def found(self) -> str:
        """The cause, and the end of what was written before: for `found` of an error of ours."""
        lines = f"{type(self.cause).__name__}: {self.cause}".strip().splitlines()
        if len(lines) > _CAUSE_LINES:
            lines = [*lines[:_CAUSE_LINES], "…"]
        written = [line for line in self.chatter.splitlines() if line.strip()][-_TAIL_LINES:]
        return "\n".join([*lines, *(f"| {line}" for line in written)])


class _Diverted:
    """Descriptors 1 and 2, turned to a file in memory and back as often as needed."""

    def __init__(self) -> None:
        self._sink = os.memfd_create("edgewright-chatter")
        self._saved = [os.dup(stream) for stream in _STREAMS]

    def divert(self) -> None:
        _flush()
        for stream in _STREAMS:
            os.dup2(self._sink, stream)

    def restore(self) -> None:
        _flush()
        for stream, saved in zip(_STREAMS, self._saved, strict=True):
            os.dup2(saved, stream)

    def text(self) -> str:
        os.lseek(self._sink, 0, os.SEEK_SET)
        with open(self._sink, "rb", closefd=False) as sink:
            return _CONTROL.sub("", sink.read().decode(errors="replace"))

    def close(self) -> None:
        for descriptor in (self._sink, *self._saved):
            os.close(descriptor)


class Quiet:
    """A running quiet section."""

    def __init__(self, diverted: _Diverted) -> None:
        self._diverted = diverted

    def aloud(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, with our own streams back while it runs: for callbacks that show progress."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            self._diverted.restore()
            try:
                return function(*args, **kwargs)
            finally:
                self._diverted.divert()

        return call


@contextmanager
def quiet() -> Iterator[Quiet]:
    """Run third-party code without its output.

    Raises:
        ThirdPartyError: whatever it raised, unless that was an error of our own tree.
    """
    diverted = _Diverted()
    failure: Exception | None = None
    try:
        diverted.divert()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield Quiet(diverted)
        except EdgewrightError:
            raise
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            failure = error
        finally:
            diverted.restore()
        if failure is not None:
            raise ThirdPartyError(failure, diverted.text()) from failure
    finally:
        diverted.close()


def require(*packages: str) -> None:
    """Say at import what a module will import inside a quiet section. Raises ModuleNotFoundError, as that would."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def without_telemetry() -> None:
    """Keep OpenVINO's and NNCF's telemetry from being loaded. Call before either is imported.

    `import openvino` alone starts a thread that reports to a web service and leaves files in the home folder. Both
    tools fall back to a stub of their own when the telemetry package cannot be imported, so we make it so for this
    process. (Their opt-out is a file in the home folder, which is not ours to write.)
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    ctypes.CDLL(None).fflush(None)
