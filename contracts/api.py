"""What the registry's web API takes and gives: served by the registry, read by its client and by the agent."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import DeviceId, Digest, ExecutionId, ReleaseRef, RolloutId
from edgewright.contracts.manifest import Manifest
from edgewright.contracts.messages import ActiveModel, Policy
from edgewright.contracts.states import ExecutionState, RolloutState


@dataclass(frozen=True, kw_only=True)
class NewRelease:
    """A release to publish: its manifests' digests. Every blob they name must be in the store already."""

    release: ReleaseRef
    artifacts: tuple[Digest, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedArtifact:
    """One artifact of a release."""

    digest: Digest
    manifest: Manifest


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published release. It never changes."""

    release: ReleaseRef
    created_at: float
    artifacts: tuple[PublishedArtifact, ...]


@dataclass(frozen=True, kw_only=True)
class NewRollout:
    """A rollout to start, to `devices` or, when that is None, to every device known now."""

    release: ReleaseRef
    policy: Policy
    devices: tuple[DeviceId, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One device's part in a rollout, as far as the cloud has heard."""

    id: ExecutionId
    device: DeviceId
    state: ExecutionState
    reason: str | None
    detail: str | None
    updated_at: float
    benchmark: BenchmarkReport | None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rollout and its executions."""

    id: RolloutId
    release: ReleaseRef
    state: RolloutState
    created_at: float
    executions: tuple[Execution, ...]


@dataclass(frozen=True, kw_only=True)
class RunningModel:
    """One model on one device, with the last latency that device measured for exactly this artifact."""

    model: ActiveModel
    precision: str
    benchmark: BenchmarkReport | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device as the fleet's status shows it. `execution` is its latest one."""

    id: DeviceId
    online: bool
    last_seen: float
    fingerprint: Fingerprint | None
    running: tuple[RunningModel, ...]
    execution: Execution | None


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All devices."""

    devices: tuple[Device, ...]
    schema: int = 1


@dataclass(frozen=True, kw_only=True)
class MqttEndpoint:
    """Where the broker listens."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """What else the registry consists of, so that whoever knows its URL needs nothing more."""

    mqtt: MqttEndpoint
