"""What a rollout does to each device: pure, no clock, no database.

Rules:
- a device gets one execution a rollout;
- its desired state keeps the latest assignment of every model, and its generation only grows, beyond what the device
  says it has passed: the registry may have been restored or replaced, the device renamed;
- an execution of the same model that has not ended is superseded: two would fight over one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgewright.contracts.api import PublishedArtifact, Release
from edgewright.contracts.ids import DeviceId, ExecutionId, RolloutId
from edgewright.contracts.messages import Assignment, Candidate, Desired, Policy


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """A device before the rollout.

    Attributes:
        reported_gen: the generation it says it has taken up; it ignores all up to that one.
        unfinished: its executions of this model that have not ended.
    """

    device: DeviceId
    desired: Desired
    reported_gen: int = 0
    unfinished: tuple[ExecutionId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """What the rollout does to one device."""

    device: DeviceId
    execution: ExecutionId
    desired: Desired
    supersedes: tuple[ExecutionId, ...]


NOTHING_DESIRED = Desired(gen=0, assignments=())


def plan(
    rollout: RolloutId,
    release: Release,
    policy: Policy,
    devices: Iterable[DeviceState],
    new_id: Callable[[], ExecutionId],
) -> tuple[DevicePlan, ...]:
    """One DevicePlan a device, in the order of `devices`."""
    candidates = tuple(map(_candidate, release.artifacts))
    plans = []
    for state in devices:
        assignment = Assignment(
            execution=new_id(), rollout=rollout, release=release.release, candidates=candidates, policy=policy
        )
        plans.append(
            DevicePlan(
                device=state.device,
                execution=assignment.execution,
                desired=_with(state, assignment),
                supersedes=state.unfinished,
            )
        )
    return tuple(plans)


def _with(state: DeviceState, assignment: Assignment) -> Desired:
    others = (known for known in state.desired.assignments if known.release.name != assignment.release.name)
    return Desired(gen=max(state.desired.gen, state.reported_gen) + 1, assignments=(*others, assignment))


def _candidate(artifact: PublishedArtifact) -> Candidate:
    manifest = artifact.manifest
    return Candidate(
        artifact=artifact.digest,
        profile=manifest.profile,
        target=manifest.target,
        precision=manifest.precision,
        size_bytes=manifest.size_bytes,
        requirements=manifest.requirements,
    )
