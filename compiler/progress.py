"""What a compile says while it works, on stderr: one bar with the time left at a terminal, a line a step elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgewright.targets.protocol import Progress as OnProgress


class Steps(Protocol):
    """The steps of a compile, one after the other."""

    def step(self, title: str, weight: float) -> contextlib.AbstractContextManager[OnProgress]:
        """One step, done when the block ends. `weight` is its share of the work, in the unit that `total` has.

        The block gets a function ``progress(what, done, total)`` for work that can tell how far it is.
        """
        ...


class _Bar:
    def __init__(self, bar: Progress, total: float) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=total)
        self._done = 0.0

    @contextlib.contextmanager
    def step(self, title: str, weight: float) -> Iterator[OnProgress]:
        start = self._done
        self._bar.update(self._task, description=title)

        def advance(what: str, done: int, total: int) -> None:
            part = min(1.0, done / total) if total else 0.0
            self._bar.update(self._task, description=f"{title}: {what}", completed=start + weight * part)

        yield advance
        self._done = start + weight
        self._bar.update(self._task, completed=self._done)


class _Lines:
    def __init__(self, stream: TextIO, total: float) -> None:
        self._stream = stream
        self._total = total
        self._done = 0.0
        self._start = time.monotonic()

    @contextlib.contextmanager
    def step(self, title: str, weight: float) -> Iterator[OnProgress]:
        part = min(1.0, self._done / self._total)
        elapsed = time.monotonic() - self._start
        left = f", about {elapsed / part - elapsed:.0f} s left" if part > 0.05 else ""
        self._stream.write(f"[{part:4.0%}] {title}{left}\n")
        self._stream.flush()
        yield _silent
        self._done += weight


def _silent(what: str, done: int, total: int) -> None:
    """Lines show whole steps only."""


@contextlib.contextmanager
def showing(stream: TextIO, total: float) -> Iterator[Steps]:
    """Show steps on `stream` whose weights add up to `total`."""
    if not stream.isatty():
        yield _Lines(stream, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=stream), transient=True) as bar:
        yield _Bar(bar, total)
