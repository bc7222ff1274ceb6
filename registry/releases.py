"""Releases: a name and a version for a set of artifacts, given once and never changed.

A release is only written when everything it names is in the store, so that what is listed can be downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewright.contracts import wire
from edgewright.contracts.api import NewRelease, PublishedArtifact, Release
from edgewright.contracts.errors import ArtifactError, Conflict, NotFound, UserError, did_you_mean
from edgewright.contracts.ids import Digest, ReleaseRef, digest_of, parse_digest
from edgewright.contracts.manifest import Manifest
from edgewright.registry.database import Database
from edgewright.registry.rules import check_one_model
from edgewright.registry.store import ObjectStore
from edgewright.registry.tables import ArtifactRow, ReleaseRow

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_ARTIFACTS = 1024


def publish(database: Database, store: ObjectStore, new: NewRelease, now: float) -> tuple[Release, bool]:
    """Publish `new`, and say whether it was new: publishing the same once more changes nothing.

    Raises:
        UserError: `release-empty`, `release-too-large`, `release-duplicate-artifact`, `release-models-mixed`, or
            a manifest's own.
        ArtifactError: `release-blob-missing`, `digest-mismatch`, `release-size-mismatch`.
        Conflict: `release-exists`, when other artifacts are published under this version.
    """
    manifests = _checked_manifests(store, new)
    with database.write() as session:
        published = _find(session, new.release)
        if published is not None:
            if {artifact.digest for artifact in published.artifacts} == set(new.artifacts):
                return published, False
            raise Conflict(
                "release-exists",
                f"{new.release} is published with other artifacts; a published version never changes",
                next_step="publish under a new version",
            )
        name, version = new.release.name, new.release.version
        session.add(ReleaseRow(name=name, version=version, created_at=now))
        session.flush()
        session.add_all(
            ArtifactRow(release_name=name, release_version=version, digest=digest, manifest=data)
            for digest, data in manifests.items()
        )
        return release(session, new.release), True


def releases(session: Session) -> tuple[Release, ...]:
    """All releases, the newest first."""
    rows = session.scalars(select(ReleaseRow).order_by(ReleaseRow.created_at.desc(), ReleaseRow.name))
    return tuple(_release(session, row) for row in rows)


def release(session: Session, ref: ReleaseRef) -> Release:
    """One release. Raises NotFound `release-unknown`, naming the nearest one."""
    found = _find(session, ref)
    if found is None:
        known = [f"{row.name}:{row.version}" for row in session.scalars(select(ReleaseRow))]
        raise NotFound(
            "release-unknown",
            f"no release {ref} is published",
            next_step=did_you_mean(str(ref), known, "see GET /v1/releases, or publish it: `edgewright publish`"),
        )
    return found


def precisions(session: Session, digests: Iterable[Digest]) -> dict[Digest, str]:
    """The precision of each of these artifacts that is published."""
    rows = session.execute(select(ArtifactRow.digest, ArtifactRow.manifest).where(ArtifactRow.digest.in_(set(digests))))
    return {Digest(digest): _decode(Digest(digest), data).precision for digest, data in rows}


def _find(session: Session, ref: ReleaseRef) -> Release | None:
    row = session.get(ReleaseRow, (ref.name, ref.version))
    return None if row is None else _release(session, row)


def _release(session: Session, row: ReleaseRow) -> Release:
    rows = session.scalars(
        select(ArtifactRow).where(ArtifactRow.release_name == row.name, ArtifactRow.release_version == row.version)
    )
    artifacts = (
        PublishedArtifact(digest=Digest(each.digest), manifest=_decode(Digest(each.digest), each.manifest))
        for each in rows
    )
    return Release(
        release=ReleaseRef(row.name, row.version),
        created_at=row.created_at,
        artifacts=tuple(sorted(artifacts, key=lambda each: (each.manifest.profile, each.manifest.target, each.digest))),
    )


def _checked_manifests(store: ObjectStore, new: NewRelease) -> dict[Digest, bytes]:
    if not new.artifacts:
        raise UserError("release-empty", f"{new.release} names no artifact", next_step="publish at least one")
    if len(new.artifacts) > _MAX_ARTIFACTS:
        raise UserError(
            "release-too-large",
            f"{new.release} names too many artifacts",
            expected=f"<= {_MAX_ARTIFACTS}",
            found=str(len(new.artifacts)),
        )
    if len(set(new.artifacts)) != len(new.artifacts):
        raise UserError("release-duplicate-artifact", f"{new.release} names an artifact twice")
    manifests = {digest: _checked_manifest(store, parse_digest(digest)) for digest in new.artifacts}
    check_one_model(_decode(digest, data) for digest, data in manifests.items())
    return manifests


def _checked_manifest(store: ObjectStore, digest: Digest) -> bytes:
    size = _stored_size(store, digest, f"the manifest {digest}")
    if size > _MAX_MANIFEST_BYTES:
        raise UserError(
            "manifest-too-large", f"{digest} is too large for a manifest", expected=f"<= {_MAX_MANIFEST_BYTES} bytes"
        )
    data = b"".join(store.open(digest))
    if digest_of(data) != digest:
        raise ArtifactError(
            "digest-mismatch",
            f"the store's own copy of {digest} is damaged",
            found=digest_of(data),
            next_step="upload it again, and check the disk of the registry",
        )
    manifest = _decode(digest, data)
    for entry in manifest.files:
        stored = _stored_size(store, entry.digest, f"{entry.path} of the artifact for {manifest.profile}")
        if stored != entry.size_bytes:
            raise ArtifactError(
                "release-size-mismatch",
                f"{entry.path} of the artifact for {manifest.profile} has another size than its manifest says",
                expected=f"{entry.size_bytes} bytes",
                found=f"{stored} bytes",
                next_step="compile the model again: this manifest was not made for this file",
            )
    return data


def _stored_size(store: ObjectStore, digest: Digest, what: str) -> int:
    try:
        return store.size(digest)
    except NotFound:
        raise ArtifactError(
            "release-blob-missing",
            f"{what} is not in the object store",
            expected=digest,
            next_step="upload it first (PUT /v1/blobs/{digest}); `edgewright publish` does all of it",
        ) from None


def _decode(digest: Digest, data: bytes) -> Manifest:
    return wire.decode(Manifest, data, what=f"manifest {digest}")
