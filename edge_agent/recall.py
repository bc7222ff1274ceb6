"""What the agent knows when it starts: the state it saved, or, when that is lost, what the disk still shows.

Rules: a model in use stays in use, whatever has become of the state; only what is whole is taken over, by the digests
of its manifest; a state that cannot be read is kept beside its place for a person to look at.
"""

from __future__ import annotations

from pathlib import Path

from edgewright.contracts.errors import ArtifactError, DeviceError, UserError
from edgewright.contracts.ids import ReleaseRef
from edgewright.edge_agent import log
from edgewright.edge_agent.slots import ModelFolder, model_folders
from edgewright.edge_agent.state import AgentState, Held, ModelState
from edgewright.edge_agent.storage import STATE_NAME, Disk, disk_errors, load_state
from edgewright.measurement.artifact import read_manifest, verify_files

# The disk does not say which release brought a model. The next desired state does, when it names the same artifact.
UNKNOWN_VERSION = "unknown"

_SET_ASIDE = STATE_NAME + ".unreadable"
_UNREADABLE = frozenset({"state-unreadable", "state-impossible", "state-schema-unknown"})


def recall(disk: Disk, data: Path) -> AgentState:
    """The state to go on with.

    Raises:
        DeviceError: `disk-failed` when the disk itself cannot be read or written, `disk-full`.
    """
    path = data / STATE_NAME
    with disk_errors(path):
        known = path.exists()
    if known:
        try:
            return load_state(data)
        except DeviceError as error:
            if error.code not in _UNREADABLE:
                raise
            log.failure("state-lost", error, kept_as=data / _SET_ASIDE)
        with disk_errors(path):
            disk.rename(path, data / _SET_ASIDE)
            disk.sync(data)
    return AgentState(models={folder.root.name: _found(folder) for folder in model_folders(data, disk)})


def _found(folder: ModelFolder) -> ModelState:
    """The model that applications find in `folder`; one that runs nothing when there is none, or it is damaged."""
    name, slot = folder.root.name, folder.pointed()
    if slot is None:
        return ModelState(name=name)
    try:
        with disk_errors(folder.root):
            manifest, digest = read_manifest(folder.slot(slot))
            verify_files(folder.slot(slot), manifest)
    except (ArtifactError, UserError) as error:
        log.failure("model-damaged", error, model=name, slot=slot)
        return ModelState(name=name)
    log.info("model-found", model=name, slot=slot, artifact=digest)
    held = Held(
        release=ReleaseRef(name, UNKNOWN_VERSION),
        artifact=digest,
        profile=manifest.profile,
        target=manifest.target,
        precision=manifest.precision,
    )
    return ModelState(name=name, slots={slot: held}, active=slot)
