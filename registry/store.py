"""What an object store can do: hold bytes under their digest. Folder now, S3 by the same protocol.

Rules every store keeps:
- a digest is there with all its bytes, or not there at all;
- bytes are checked against their digest on the way in; the reader checks them again on the way out;
- putting what is there already changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from edgewright.contracts.errors import NotFound
from edgewright.contracts.ids import Digest


class ObjectStore(Protocol):
    """Bytes by digest. All calls block; all may be made from several threads at once."""

    def put(self, digest: Digest, chunks: Iterable[bytes]) -> int:
        """Store `chunks` as `digest` and return their size in bytes. It is durable when this returns.

        Raises:
            ArtifactError: `digest-mismatch`, and nothing is kept.
            DeviceError: `store-full`, and nothing is kept.
        """
        ...

    def open(self, digest: Digest, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `stop` (None: the end), chunk by chunk.

        Raises:
            NotFound: `blob-unknown`.
        """
        ...

    def exists(self, digest: Digest) -> bool:
        """Whether `digest` is there."""
        ...

    def size(self, digest: Digest) -> int:
        """Size in bytes.

        Raises:
            NotFound: `blob-unknown`.
        """
        ...


def blob_unknown(digest: Digest) -> NotFound:
    """The error of every store for a digest it does not hold."""
    return NotFound(
        "blob-unknown",
        f"the store has no {digest}",
        next_step="upload it first: PUT /v1/blobs/{digest}, or `edgewright publish`",
    )
