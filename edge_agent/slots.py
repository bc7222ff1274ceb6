"""Where models lie on disk.

    <data>/models/<name>/incoming/<digest>/    a download that is not complete, or not staged
    <data>/models/<name>/slots/{a,b}/          an artifact's folder: manifest.json and its files
    <data>/models/<name>/current               a link to slots/a or slots/b: the stable path for applications

Rules: `current` changes by one rename, so that an application finds the one or the other model whole; the slot that
`current` leads to is never written; every function may be repeated after it was cut off anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgewright.contracts.errors import DeviceError, UserError
from edgewright.contracts.ids import Digest, ReleaseRef, digest_of
from edgewright.contracts.manifest import MANIFEST_NAME
from edgewright.edge_agent.state import Slot
from edgewright.edge_agent.storage import Disk, disk_errors

STABLE_NAME = "current"
_MODELS = "models"


@dataclass(frozen=True)
class ModelFolder:
    """One model's folder."""

    root: Path
    disk: Disk

    @classmethod
    def of(cls, data: Path, name: str, disk: Disk) -> ModelFolder:
        """The folder of model `name` below the agent's data folder."""
        return cls(data / _MODELS / name, disk)

    @property
    def stable(self) -> Path:
        """The path applications open."""
        return self.root / STABLE_NAME

    def slot(self, slot: Slot) -> Path:
        """The folder of a slot; it may be missing."""
        return self.root / "slots" / slot

    def incoming(self, digest: Digest) -> Path:
        """The folder in which the artifact `digest` is put together; it may be missing."""
        return self.root / "incoming" / digest.removeprefix("sha256:")

    def held(self, slot: Slot) -> Digest | None:
        """The digest of the artifact in `slot`, by its manifest; None when there is none."""
        path = self.slot(slot) / MANIFEST_NAME
        with disk_errors(path):
            return digest_of(path.read_bytes()) if path.is_file() else None

    def stage(self, digest: Digest, slot: Slot) -> None:
        """Move what is complete in `incoming` into `slot`, in place of what was there.

        Raises:
            DeviceError: `slot-in-use` when the stable path leads to `slot`; `artifact-missing` when the artifact is
                neither incoming nor in the slot already; `disk-full`, `disk-failed`.
        """
        if self.pointed() is slot:
            raise DeviceError("slot-in-use", f"slot {slot} of {self.root.name} is what applications use now")
        incoming, place = self.incoming(digest), self.slot(slot)
        with disk_errors(place):
            if incoming.is_dir():
                place.parent.mkdir(parents=True, exist_ok=True)
                self.disk.remove(place)
                self.disk.rename(incoming, place)
                self.disk.sync(place.parent)
        if self.held(slot) != digest:
            raise DeviceError("artifact-missing", f"{digest} is neither downloaded nor in slot {slot}")
        self.discard()

    def discard(self) -> None:
        """Remove every download."""
        incoming = self.root / "incoming"
        with disk_errors(incoming):
            self.disk.remove(incoming)

    def pointed(self) -> Slot | None:
        """The slot the stable path leads to, as the disk says."""
        with disk_errors(self.stable):
            leads_to = self.stable.readlink().name if self.stable.is_symlink() else None
        return next((slot for slot in Slot if slot == leads_to), None)

    def point(self, slot: Slot | None) -> None:
        """Let the stable path lead to `slot`, or let there be none. Raises DeviceError `disk-full`, `disk-failed`."""
        if self.pointed() is slot:
            return
        with disk_errors(self.stable):
            if slot is None:
                self.disk.remove(self.stable)
            else:
                beside = self.root / f".{STABLE_NAME}.new"
                self.disk.remove(beside)
                self.disk.symlink(beside, Path("slots") / slot)
                self.disk.rename(beside, self.stable)
            self.disk.sync(self.root)


def model_folders(data: Path, disk: Disk) -> tuple[ModelFolder, ...]:
    """The folders of all models that were ever put below the agent's data folder, by name."""
    models = data / _MODELS
    with disk_errors(models):
        names = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
    return tuple(ModelFolder.of(data, name, disk) for name in names if _is_model(name))


def _is_model(name: str) -> bool:
    try:
        ReleaseRef(name, "any")
    except UserError:
        return False
    return True
