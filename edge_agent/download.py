"""Bring an artifact from the registry into a folder.

Rules: the manifest first, its bytes must have the digest asked for; then each file it lists, whose size is known
before the first byte comes, so that never more than that is written and an endless answer costs one block; a file that
was cut goes on where it stopped, after a restart too; every kind of failure has a bounded number of tries in a row,
with full jitter between them; room on the disk is asked for before it is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import urllib3

from edgewright.contracts.errors import (
    ArtifactError,
    DeviceError,
    EdgewrightError,
    NotFound,
    TransportError,
)
from edgewright.contracts.ids import Digest, digest_of
from edgewright.contracts.manifest import MANIFEST_NAME, FileEntry, Manifest
from edgewright.contracts.wire import decode
from edgewright.edge_agent import log
from edgewright.edge_agent.backoff import Backoff
from edgewright.edge_agent.storage import Disk, disk_errors, replace_file
from edgewright.edge_agent.web import Web
from edgewright.edge_agent.worker import Abort

R = TypeVar("R")

BLOCK_BYTES = 64 << 10
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How long to go on, in failures without progress between them.

    Attributes:
        unreachable: the line or the server is down: worth waiting for (about 100 minutes with the default backoff).
        wrong: bytes came and were not the artifact's.
        refused: the registry has answered, and the answer is no.
        reserve_bytes: what must stay free on the disk beside the artifact.
    """

    unreachable: int = 200
    wrong: int = 3
    refused: int = 3
    reserve_bytes: int = 16 << 20

    def allowed(self, error: EdgewrightError) -> int:
        """How many failures like this one are an answer."""
        match error:
            case TransportError():
                return self.unreachable
            case ArtifactError():
                return self.wrong
            case DeviceError():
                return 1
            case _:
                return self.refused


@dataclass(frozen=True)
class Downloader:
    """Downloads from one registry. `free_bytes` tells how much room there is in a folder."""

    web: Web
    disk: Disk
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free

    def fetch(self, digest: Digest, into: Path, abort: Abort) -> None:
        """Let `into` hold the artifact `digest`: its manifest and all its files, each with the right digest.

        What is there already is used. May take long; told to stop, it raises Aborted and leaves what it has.

        Raises:
            TransportError: `registry-unreachable`, `registry-unavailable`, `download-cut`, after many tries.
            UserError: `artifact-not-found` (a NotFound), `registry-refused`, after a few tries.
            ArtifactError: `artifact-digest-mismatch`, `artifact-too-long`, after a few tries.
            DeviceError: `disk-full`, `disk-failed`, at once.
        """
        with disk_errors(into):
            into.mkdir(parents=True, exist_ok=True)
        manifest = self._manifest(digest, into / MANIFEST_NAME, abort)
        self._make_room(manifest, into)
        for entry in manifest.files:
            self._file(entry, into / entry.path, abort)

    def _manifest(self, digest: Digest, path: Path, abort: Abort) -> Manifest:
        with disk_errors(path):
            data = path.read_bytes() if path.is_file() else b""
        if digest_of(data) != digest:
            data = self._persist(digest, lambda: self._small(digest, abort), lambda: 0, abort)
            replace_file(self.disk, path, data)
        return decode(Manifest, data, what=MANIFEST_NAME)

    def _small(self, digest: Digest, abort: Abort) -> bytes:
        data = bytearray()
        with self.web.get(f"/v1/blobs/{digest}") as response:
            while block := response.read1(BLOCK_BYTES):
                abort.check()
                data += block
                if len(data) > MAX_MANIFEST_BYTES:
                    raise _too_long(digest, MAX_MANIFEST_BYTES)
        if digest_of(bytes(data)) != digest:
            raise _mismatch(digest, digest_of(bytes(data)))
        return bytes(data)

    def _make_room(self, manifest: Manifest, into: Path) -> None:
        missing = sum(
            entry.size_bytes - _size(path) - _size(_part(path))
            for entry, path in ((entry, into / entry.path) for entry in manifest.files)
        )
        with disk_errors(into):
            free = self.free_bytes(into)
        if free < missing + self.limits.reserve_bytes:
            raise DeviceError(
                "disk-full",
                f"no room for the artifact of {manifest.model} in {into}",
                expected=f"{missing} bytes free, and {self.limits.reserve_bytes} beside them",
                found=f"{free} bytes",
                next_step="make room on the disk that holds the agent's data folder",
            )

    def _file(self, entry: FileEntry, path: Path, abort: Abort) -> None:
        if _size(path) == entry.size_bytes and path.is_file():
            return  # it got its name after its digest was checked; `verifying` looks at it once more
        part = _part(path)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._persist(entry.digest, lambda: self._try_file(entry, part, abort), lambda: _size(part), abort)
        with disk_errors(path):
            self.disk.rename(part, path)
            self.disk.sync(path.parent)

    def _try_file(self, entry: FileEntry, part: Path, abort: Abort) -> None:
        try:
            self._go_on(entry, part, abort)
            found = _digest_of_file(part)
            if found != entry.digest:
                raise _mismatch(entry.digest, found)
        except ArtifactError:
            with disk_errors(part):
                self.disk.remove(part)
            raise

    def _go_on(self, entry: FileEntry, part: Path, abort: Abort) -> None:
        """Add to `part` what is missing."""
        have = _size(part)
        if have > entry.size_bytes:
            raise _too_long(entry.digest, entry.size_bytes)
        with disk_errors(part), part.open("ab") as file:
            if have < entry.size_bytes:
                with self.web.get(f"/v1/blobs/{entry.digest}", start=have) as response:
                    if not _continues(response, have):
                        file.truncate(0)
                        have = 0
                    while block := response.read1(BLOCK_BYTES):
                        have += len(block)
                        if have > entry.size_bytes:
                            raise _too_long(entry.digest, entry.size_bytes)
                        file.write(block)
                        abort.check()
            file.flush()
            os.fsync(file.fileno())
        if have < entry.size_bytes:
            raise TransportError(
                "download-cut", f"{entry.path} was cut short", expected=f"{entry.size_bytes} bytes", found=str(have)
            )

    def _persist(self, digest: Digest, attempt: Callable[[], R], reached: Callable[[], int], abort: Abort) -> R:
        """The result of `attempt`, tried again while its failures are worth it. `reached` tells how far it has come."""
        failures: Counter[type[EdgewrightError]] = Counter()
        furthest = reached()
        while True:
            abort.check()
            try:
                return attempt()
            except EdgewrightError as error:
                if reached() > furthest:
                    furthest = reached()
                    failures[TransportError] = 0
                failures[type(error)] += 1
                if failures[type(error)] >= self.limits.allowed(error):
                    raise _final(error, digest) from None
                delay_s = self.backoff.delay_s(failures[type(error)] - 1)
                log.failure("download-interrupted", error, digest=digest, retry_in_s=round(delay_s, 2))
            abort.wait(delay_s)


def _continues(response: urllib3.BaseHTTPResponse, have: int) -> bool:
    """Whether the body goes on at byte `have`; a server may ignore the range, or answer another one."""
    if have == 0:
        return True
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size(path: Path) -> int:
    with disk_errors(path):
        return path.stat().st_size if path.is_file() else 0


def _digest_of_file(path: Path) -> Digest:
    with disk_errors(path), path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())


def _mismatch(expected: Digest, found: Digest) -> ArtifactError:
    return ArtifactError(
        "artifact-digest-mismatch",
        "the registry sent other bytes than were asked for",
        expected=expected,
        found=found,
        next_step="publish the artifact again, and check what stands between the device and the registry",
    )


def _too_long(digest: Digest, limit: int) -> ArtifactError:
    return ArtifactError(
        "artifact-too-long", f"the registry sends more than {digest} has", expected=f"at most {limit} bytes"
    )


def _final(error: EdgewrightError, digest: Digest) -> EdgewrightError:
    if isinstance(error, NotFound):
        return NotFound(
            "artifact-not-found",
            f"the registry does not have {digest}",
            found=error.found,
            next_step="publish the release again",
        )
    return error
