"""The output folder: either it is there, whole, or nothing is.

All work happens in a hidden folder beside it, which becomes the output by one rename. Whatever ends the work early,
an error, Ctrl-C, SIGTERM or a full disk, removes that folder and any parent that was made for it. The files that a
caller asks for beside the output are checked before the work and written whole after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from edgewright.contracts.errors import CompileError, UserError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Below this a failed write by a library that hides the cause is blamed on the disk.
_NO_SPACE_BYTES = 1 << 20


def check_free(out: Path) -> None:
    """Raises UserError `out-not-empty` or `out-not-writable` unless `out` is missing or an empty folder."""
    if not os.path.lexists(out):
        return
    if out.is_symlink():
        found = "a symbolic link"
    elif not out.is_dir():
        found = "something that is not a folder"
    else:
        try:
            names = sorted(entry.name for entry in out.iterdir())
        except OSError as error:
            raise _not_writable(out, str(error.strerror)) from None
        if not names:
            _check_replaceable(out)
            return
        found = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    raise UserError(
        "out-not-empty",
        f"the output folder {out} is not empty",
        expected="a folder that does not exist yet, or an empty one",
        found=found,
        next_step="choose another folder with --out, or remove this one",
    )


def _check_replaceable(out: Path) -> None:
    # A rename cannot take the place of either, which would be seen only when all the work is done.
    if os.path.ismount(out):
        raise _not_writable(out, "a mount point", f"choose a folder in it: --out {out / 'build'}")
    if out.resolve() == Path.cwd():
        raise _not_writable(out, "the current folder", "choose a folder in it, such as --out build")


@contextlib.contextmanager
def staged(out: Path) -> Iterator[tuple[Path, Path]]:
    """Make `out` from what the block writes.

    Yields:
        A folder that becomes `out` when the block ends well, and one for files that are only needed meanwhile.

    Raises:
        UserError: `out-not-empty`, `out-not-writable`.
        CompileError: `disk-full`.
    """
    check_free(out)
    made = _make_parents(out)
    try:
        try:
            hidden = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.absolute().parent))
        except OSError as error:
            raise _not_writable(out, str(error.strerror)) from error
        try:
            result, work = hidden / "out", hidden / "work"
            result.mkdir()
            work.mkdir()
            yield result, work
            _publish(result, out)
        except Exception as error:
            if _is_disk_full(error, hidden):
                raise _disk_full(out) from error
            raise
        finally:
            _remove(hidden)
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another process may use it by now
                folder.rmdir()
        raise


def check_file(path: Path, option: str, out: Path) -> None:
    """Before the work: that the one file which `option` asks for can be written beside `out`.

    Raises:
        UserError: `file-not-writable`, `file-in-out`.
    """
    if path.absolute().is_relative_to(out.absolute()):
        raise UserError(
            "file-in-out",
            f"{option} {path} lies in the output folder {out}, which is left alone when the compile fails",
            expected="a file that can be written also then",
            next_step=f"put it beside the folder, such as {out.parent / path.name}",
        )
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        found = "a folder" if path.is_dir() else f"{parent}, in which nothing can be made"
        raise _file_not_writable(path, found)


def write_file(path: Path, data: bytes) -> None:
    """Write `path` whole, or not at all.

    Raises:
        UserError: `file-not-writable`.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            hidden.write_bytes(data)
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        raise _file_not_writable(path, error.strerror or str(error)) from None


def _make_parents(out: Path) -> list[Path]:
    made: list[Path] = []
    missing = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
    except OSError as error:
        for folder in reversed(made):
            folder.rmdir()
        raise _not_writable(out, str(error.strerror)) from None
    return made


def _publish(result: Path, out: Path) -> None:
    for path in [*result.rglob("*"), result]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    try:
        result.replace(out)
    except OSError as error:
        if error.errno in _FULL:
            raise
        check_free(out)  # somebody put something there meanwhile
        raise _not_writable(out, str(error.strerror)) from None


def _remove(folder: Path) -> None:
    if threading.current_thread() is not threading.main_thread():
        shutil.rmtree(folder)
        return
    # A second signal must not leave half of it.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        shutil.rmtree(folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether `error` comes of a full disk. Toolchains may hide the system's own error, so the disk is looked at."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return not isinstance(error, UserError) and shutil.disk_usage(folder).free < _NO_SPACE_BYTES


def _disk_full(out: Path) -> CompileError:
    return CompileError(
        "disk-full",
        f"the disk that is to hold {out} is full",
        expected="room for the artifacts, and for intermediate files of several times their size",
        found="no space left on the device",
        next_step="free some space, or choose a folder on another disk with --out",
    )


def _file_not_writable(path: Path, found: str) -> UserError:
    return UserError(
        "file-not-writable",
        f"the file {path} cannot be written",
        expected="a path in a folder that this user may write",
        found=found,
        next_step="choose another path",
    )


def _not_writable(out: Path, found: str, next_step: str = "choose another folder with --out") -> UserError:
    return UserError(
        "out-not-writable",
        f"the output folder {out} cannot be made",
        expected="a folder that this user may write",
        found=found,
        next_step=next_step,
    )
