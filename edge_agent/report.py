"""What the device runs, as the disk says it."""

from __future__ import annotations

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.messages import ActiveModel
from edgewright.edge_agent import log
from edgewright.edge_agent.effects import Outside
from edgewright.edge_agent.slots import ModelFolder
from edgewright.edge_agent.state import AgentState, ModelState


def active_models(outside: Outside, state: AgentState) -> tuple[ActiveModel, ...]:
    """The models that applications find at their stable paths, by name.

    A model is left out, and the log says so, when its folder says something else than the agent remembers.
    """
    found = (_active(outside.folder(model), model) for _name, model in sorted(state.models.items()))
    return tuple(active for active in found if active is not None)


def _active(folder: ModelFolder, model: ModelState) -> ActiveModel | None:
    held = model.held
    if model.active is None or held is None:
        return None
    try:
        if folder.pointed() is not model.active or folder.held(model.active) != held.artifact:
            log.warning("stable-path-wrong", model=model.name, expected=held.artifact, slot=model.active)
            return None
    except DeviceError as error:
        log.failure("stable-path-wrong", error, model=model.name)
        return None
    return ActiveModel(
        release=held.release, artifact=held.artifact, profile=held.profile, target=held.target, slot=model.active
    )
