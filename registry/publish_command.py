"""`edgewright publish`: check everything here, upload what the registry lacks, then name it all in one request.

Nothing is published when anything fails: blobs without a release are invisible, and the release is one transaction.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from edgewright.contracts.api import NewRelease
from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import Digest, ReleaseRef
from edgewright.contracts.manifest import MANIFEST_NAME, Manifest
from edgewright.measurement.artifact import read_manifest, verify_files
from edgewright.registry.client import RegistryClient
from edgewright.registry.options import add_common, progress, results, write_json
from edgewright.registry.rules import check_one_model

_PARALLEL = 4


@dataclass(frozen=True)
class LocalArtifact:
    """An artifact folder that was checked."""

    root: Path
    manifest: Manifest
    digest: Digest

    def blobs(self) -> dict[Digest, Path]:
        """Everything that must be in the store for it."""
        files = {entry.digest: self.root / entry.path for entry in self.manifest.files}
        return {**files, self.digest: self.root / MANIFEST_NAME}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of `edgewright compile`")
    parser.add_argument("--release", required=True, metavar="NAME:VERSION", help="the model's name and a new version")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Publish."""
    release = ReleaseRef.parse(args.release)
    artifacts = read_artifacts(args.folder)
    with RegistryClient(args.registry) as client:
        uploaded = _upload(client, artifacts, progress())
        client.publish(NewRelease(release=release, artifacts=tuple(each.digest for each in artifacts)))
        if args.json:
            write_json(_document(client.url, release, artifacts, uploaded))
        else:
            _show(results(), client.url, release, artifacts, uploaded)
    return 0


def read_artifacts(folder: Path) -> tuple[LocalArtifact, ...]:
    """The artifacts below `folder`, every file of them checked.

    Raises:
        UserError: `publish-nothing-found`, `release-models-mixed`, or a manifest's own.
        ArtifactError: `artifact-file-missing`, `artifact-digest-mismatch`, naming the file.
    """
    roots = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}"))
    if not roots:
        one_profile = (folder / MANIFEST_NAME).is_file()
        raise UserError(
            "publish-nothing-found",
            f"{folder} holds no compiled artifacts",
            expected=f"{folder}/<profile>/{MANIFEST_NAME}",
            next_step=f"give the folder above it: {folder.parent}"
            if one_profile
            else f"run `edgewright compile RECIPE.yaml --out {folder}` first",
        )
    artifacts = []
    for root in roots:
        manifest, digest = read_manifest(root)
        verify_files(root, manifest)
        artifacts.append(LocalArtifact(root, manifest, digest))
    check_one_model(artifact.manifest for artifact in artifacts)
    return tuple(artifacts)


def _upload(client: RegistryClient, artifacts: Sequence[LocalArtifact], console: Console) -> dict[Digest, int]:
    """Upload what the registry lacks, and return the sizes of that."""
    blobs = {digest: path for artifact in artifacts for digest, path in artifact.blobs().items()}
    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="upload")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    try:
        there = pool.map(client.has_blob, blobs)
        missing = {digest: path for (digest, path), known in zip(blobs.items(), there, strict=True) if not known}
        sizes = {digest: path.stat().st_size for digest, path in missing.items()}
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("uploading", total=sum(sizes.values()))
            _put_all(pool, client, missing, lambda sent: bar.advance(task, sent))
    finally:
        # After a failure or Ctrl-C: what has not begun never begins.
        pool.shutdown(cancel_futures=True)
    return sizes


def _put_all(
    pool: ThreadPoolExecutor, client: RegistryClient, blobs: Mapping[Digest, Path], on_sent: Callable[[int], None]
) -> None:
    uploads = [pool.submit(client.put_blob, digest, path, on_sent) for digest, path in blobs.items()]
    for upload in uploads:
        upload.result()


def _document(
    url: str, release: ReleaseRef, artifacts: Sequence[LocalArtifact], uploaded: Mapping[Digest, int]
) -> dict[str, object]:
    return {
        "release": str(release),
        "registry": url,
        "uploaded_blobs": len(uploaded),
        "uploaded_bytes": sum(uploaded.values()),
        "artifacts": [
            {
                "profile": each.manifest.profile,
                "target": each.manifest.target,
                "precision": each.manifest.precision,
                "digest": each.digest,
                "size_bytes": each.manifest.size_bytes,
            }
            for each in artifacts
        ],
    }


def _show(
    console: Console, url: str, release: ReleaseRef, artifacts: Sequence[LocalArtifact], uploaded: Mapping[Digest, int]
) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("profile", "target", "precision"):
        table.add_column(name)
    table.add_column("size", justify="right")
    table.add_column("digest")
    for each in artifacts:
        manifest = each.manifest
        size = f"{manifest.size_bytes / 1000:,.1f} kB"
        table.add_row(manifest.profile, manifest.target, manifest.precision, size, each.digest[:19])
    console.print(table)
    sent = f"{len(uploaded)} blobs, {sum(uploaded.values()) / 1000:,.1f} kB uploaded" if uploaded else "all blobs known"
    console.print(f"\n[green]published[/] [bold]{release}[/] at {url}  [dim]({sent})[/]")
    console.print(f"[dim]next: edgewright rollout create {release}[/]")
