"""The object store in a folder: `ab/cd…`, named by the digest's hex.

Writes go to `.incoming/`, are flushed to disk and renamed, and the folders they are renamed into are flushed too: a
name in its place means all bytes are on disk, whenever the power goes. What a killed process left in `.incoming/` is
swept when the store is opened; one process owns the folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from edgewright.contracts.errors import ArtifactError, DeviceError
from edgewright.contracts.ids import Digest, parse_digest
from edgewright.registry.store import blob_unknown

_INCOMING = ".incoming"
_BLOCK_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderStore:
    """An ObjectStore in the folder `root`, which is made when it is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        # All of them now, so that no put ever has to make a folder durable before it can return.
        for number in range(256):
            (root / f"{number:02x}").mkdir(exist_ok=True)
        _flush_folder(root)

    def put(self, digest: Digest, chunks: Iterable[bytes]) -> int:
        """See ObjectStore."""
        handle, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                size = _write_checked(digest, chunks, file)
                file.flush()
                os.fsync(file.fileno())
            place = self._path(digest)
            temporary.chmod(0o444)
            temporary.rename(place)
            _flush_folder(place.parent)
        except OSError as error:
            if error.errno in _FULL:
                raise DeviceError(
                    "store-full",
                    f"the object store has no room for {digest}",
                    found=os.strerror(error.errno or 0),
                    next_step=f"free space on the file system of {self._root}, then publish again",
                ) from None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def open(self, digest: Digest, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError:
            raise blob_unknown(digest) from None
        with file:
            file.seek(start)
            left = None if stop is None else stop - start
            while left is None or left > 0:
                block = file.read(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))
                if not block:
                    return
                if left is not None:
                    left -= len(block)
                yield block

    def exists(self, digest: Digest) -> bool:
        """See ObjectStore."""
        return self._path(digest).is_file()

    def size(self, digest: Digest) -> int:
        """See ObjectStore."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise blob_unknown(digest) from None

    def _path(self, digest: Digest) -> Path:
        # Parsed once more here: this text becomes a path.
        hexdigits = parse_digest(digest).removeprefix("sha256:")
        return self._root / hexdigits[:2] / hexdigits[2:]


def _write_checked(digest: Digest, chunks: Iterable[bytes], file: BinaryIO) -> int:
    sha, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha.update(chunk)
        size += len(chunk)
        file.write(chunk)
    found = "sha256:" + sha.hexdigest()
    if found != digest:
        raise ArtifactError(
            "digest-mismatch",
            "the bytes received are not those of the digest they were sent as; nothing was kept",
            expected=digest,
            found=f"{found}, {size} bytes",
            next_step="the file changed while it was sent, or was damaged on the way; send it again",
        )
    return size


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
