"""Disks on which something happens at the n-th step."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

from edgewright.edge_agent.storage import Disk


class SteppedDisk(Disk):
    """Does `what` at its n-th step, in the middle of it where it has a middle; counts from 1, never for `at=0`."""

    def __init__(self, at: int, what: Callable[[], None]) -> None:
        self.steps = 0
        self._at = at
        self._what = what

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._at:
            self._what()

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        self._step()
        super().write(path, data)

    def symlink(self, path: Path, leads_to: str) -> None:
        self._step()
        super().symlink(path, leads_to)

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)

    def sync(self, folder: Path) -> None:
        self._step()
        super().sync(folder)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


def failing_disk(at: int, number: int = errno.ENOSPC) -> SteppedDisk:
    """Fails with an OSError."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return SteppedDisk(at, fail)


def killing_disk(at: int) -> SteppedDisk:
    """Kills its process without a word."""
    return SteppedDisk(at, lambda: os.kill(os.getpid(), signal.SIGKILL))
