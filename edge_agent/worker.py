"""Long work beside the event loop: one thread a model, its jobs in order, each of which can be told to stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


class Aborted(Exception):
    """Raised inside a job that was told to stop. Nobody is told: whoever aborted it knows."""


class Abort:
    """Tells a job to stop."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Tell it."""
        self._event.set()

    def check(self) -> None:
        """Raises Aborted once told."""
        if self._event.is_set():
            raise Aborted

    def wait(self, seconds: float) -> None:
        """Sleep; raises Aborted at once when told."""
        self._event.wait(seconds)
        self.check()


Job = Callable[[Abort], None]


@dataclass
class _Entry:
    owner: str
    job: Job
    abort: Abort = field(default_factory=Abort)


class Worker:
    """Runs jobs in order on a daemon thread: a process that ends does not wait for them."""

    def __init__(self, name: str) -> None:
        self._entries: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, owner: str, job: Job) -> None:
        """Run `job` after those before it. `owner` is whose job it is, for `abort`."""
        with self._changed:
            self._entries.append(_Entry(owner, job))
            self._changed.notify()

    def abort(self, owner: str) -> None:
        """Tell every job of `owner` to stop, the running one and those that wait."""
        with self._changed:
            for entry in self._entries:
                if entry.owner == owner:
                    entry.abort.set()

    def close(self, timeout_s: float) -> None:
        """Tell every job to stop, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            for entry in self._entries:
                entry.abort.set()
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._entries) or self._closed)
                if self._closed:
                    return
                entry = self._entries[0]  # it stays in the queue while it runs, for `abort` to find it
            try:
                entry.abort.check()
                entry.job(entry.abort)
            except Aborted:
                pass
            with self._changed:
                self._entries.popleft()
