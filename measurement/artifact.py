"""Artifact folders: read the manifest, check the files.

Nothing is loaded by a runtime before `verify_files` has passed: many single flipped bits change a model's output
without any runtime noticing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgewright.contracts import wire
from edgewright.contracts.errors import ArtifactError
from edgewright.contracts.ids import Digest, digest_of
from edgewright.contracts.manifest import MANIFEST_NAME, FileEntry, Manifest

_BLOCK_BYTES = 1 << 20


def read_manifest(root: Path) -> tuple[Manifest, Digest]:
    """The manifest of the artifact in `root`, and the artifact's digest.

    Raises:
        ArtifactError: `artifact-missing` when there is no manifest.
        UserError: `document-malformed` and others, when it is none.
    """
    path = root / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ArtifactError(
            "artifact-missing",
            f"{root} holds no artifact",
            expected=f"a folder with a {MANIFEST_NAME}",
            next_step="give a profile's folder below the output of `edgewright compile`",
        ) from None
    return wire.decode(Manifest, data, what=str(path)), digest_of(data)


def verify_files(root: Path, manifest: Manifest) -> None:
    """Check that every file the manifest lists is there, with its size and its digest.

    Raises:
        ArtifactError: `artifact-file-missing` or `artifact-digest-mismatch`, naming the first file that is wrong.
    """
    for entry in manifest.files:
        _verify_file(root / entry.path, entry)


def file_digest(path: Path) -> Digest:
    """SHA-256 of a file, read block by block."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            sha.update(block)
    return Digest("sha256:" + sha.hexdigest())


def _verify_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtifactError(
            "artifact-file-missing",
            f"{path} is missing",
            expected=f"{entry.size_bytes} bytes, {entry.digest}",
            next_step="compile or fetch the artifact again",
        )
    size = path.stat().st_size
    found = file_digest(path) if size == entry.size_bytes else f"{size} bytes"
    if found != entry.digest:
        raise ArtifactError(
            "artifact-digest-mismatch",
            f"{path} is not the file its manifest names",
            expected=f"{entry.size_bytes} bytes, {entry.digest}",
            found=found,
            next_step="the file was changed or damaged after it was built; compile or fetch the artifact again",
        )
