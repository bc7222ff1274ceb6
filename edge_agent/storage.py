"""The agent's state on disk.

Rules: whatever is replaced is written beside its place, synced, renamed, and the folder synced, so that after a power
cut the old or the new one is there and nothing between; one agent a data folder, held by a lock that ends with its
process; what the disk refuses becomes a DeviceError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewright.contracts.errors import DeviceError, EdgewrightError
from edgewright.contracts.wire import decode, encode
from edgewright.edge_agent.state import AgentState

STATE_NAME = "state.json"
LOCK_NAME = "lock"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a DeviceError: `disk-full` or `disk-failed`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DeviceError(
                "disk-full",
                f"no room left to write {path}",
                found=error.strerror,
                next_step="make room on the disk that holds the agent's data folder",
            ) from error
        raise DeviceError(
            "disk-failed",
            f"{path} cannot be read or written",
            found=str(error),
            next_step="check that the disk is healthy and that the agent's user owns the data folder",
        ) from error


class Disk:
    """The few things the agent asks of a file system, each a point where power may fail. Tests put in a failing one."""

    def write(self, path: Path, data: bytes) -> None:
        """Write and sync a file."""
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def symlink(self, path: Path, leads_to: Path) -> None:
        """Make a new link."""
        path.symlink_to(leads_to)

    def rename(self, path: Path, to: Path) -> None:
        """Move a file, link or folder over its new name."""
        path.replace(to)

    def sync(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole folder; nothing there is as good."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Let `path` hold `data`, whole or not at all. Raises DeviceError `disk-full` or `disk-failed`."""
    beside = path.with_name(path.name + ".new")
    with disk_errors(path):
        disk.write(beside, data)
        disk.rename(beside, path)
        disk.sync(path.parent)


def save_state(disk: Disk, data: Path, state: AgentState) -> None:
    """Make `state` what the agent finds after a restart. Raises DeviceError `disk-full` or `disk-failed`."""
    replace_file(disk, data / STATE_NAME, encode(state))


def load_state(data: Path) -> AgentState:
    """The state as it was saved last; a fresh one where none ever was.

    Raises:
        DeviceError: `state-unreadable`, `state-impossible` or `state-schema-unknown`; recall.py says what then.
    """
    path = data / STATE_NAME
    with disk_errors(path):
        if not path.exists():
            return AgentState()
        text = path.read_bytes()
    try:
        return decode(AgentState, text, what=str(path))
    except DeviceError:
        raise
    except EdgewrightError as error:
        raise DeviceError(
            "state-unreadable",
            f"{path} cannot be read",
            found=error.found,
            next_step="nothing: the models in use are found again on the disk; check that it is healthy",
        ) from None


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder; made when it is missing.

    Raises:
        DeviceError: `data-in-use` when another agent holds it; `disk-failed` when it cannot be made or written.
    """
    path = data / LOCK_NAME
    with disk_errors(data):
        data.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeviceError(
                "data-in-use",
                f"another agent runs on {data}",
                next_step="stop it first, or give this one another data folder",
            ) from None
        yield
    finally:
        os.close(number)
