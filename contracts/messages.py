"""What is said over MQTT, one dataclass a channel (topics.py says which goes where)."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import Digest, ExecutionId, ProfileId, ReleaseRef, RolloutId
from edgewright.contracts.manifest import Requirements
from edgewright.contracts.states import ExecutionState

MESSAGE_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One artifact of a release, with what a device needs to know to choose. `size_bytes` is what it will download."""

    artifact: Digest
    profile: ProfileId
    target: str
    precision: str
    size_bytes: int
    requirements: Requirements


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Gates the device holds before it activates; None: not gated.

    Attributes:
        max_p95_us: the 95th percentile of latency must not be above this.
        max_memory_bytes: peak memory of the benchmark's process must not be above this.
        min_speedup: against the model that is active now, the lower bound of the ratio must not be below this.
        soak_s: how long the new model must stay usable before the execution succeeds.
    """

    max_p95_us: float | None = None
    max_memory_bytes: int | None = None
    min_speedup: float | None = None
    soak_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One model the device shall run: the execution that brings it, and the artifacts to choose from.

    `deadline` is seconds since 1970 (UTC); None: no deadline.
    """

    execution: ExecutionId
    rollout: RolloutId
    release: ReleaseRef
    candidates: tuple[Candidate, ...]
    policy: Policy = field(default_factory=Policy)
    deadline: float | None = None


@dataclass(frozen=True, kw_only=True)
class Desired:
    """Everything the device shall run, one assignment a model. A device ignores a `gen` it has already passed."""

    gen: int
    assignments: tuple[Assignment, ...]
    schema: int = MESSAGE_SCHEMA


@dataclass(frozen=True, kw_only=True)
class ActiveModel:
    """One model the device runs now."""

    release: ReleaseRef
    artifact: Digest
    profile: ProfileId
    target: str
    slot: str


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What the device is and runs. `gen` is the last desired generation it has taken up; `seq` only grows."""

    gen: int
    seq: int
    active: tuple[ActiveModel, ...]
    fingerprint: Fingerprint
    agent_version: str
    schema: int = MESSAGE_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Whether the device is connected (the will says it is not). `session` names the connection."""

    session: str
    online: bool
    schema: int = MESSAGE_SCHEMA


@dataclass(frozen=True, kw_only=True)
class ExecutionEvent:
    """One move of an execution. `seq` counts the execution's events from 1; (execution, seq) is unique.

    `reason` is an error code or a short kebab-case word for a program; `detail` is for a person.
    """

    execution: ExecutionId
    seq: int
    state: ExecutionState
    at: float
    reason: str | None = None
    detail: str | None = None
    artifact: Digest | None = None
    schema: int = MESSAGE_SCHEMA


@dataclass(frozen=True, kw_only=True)
class BenchmarkMessage:
    """What the device measured for an execution, before it activated or refused the artifact."""

    execution: ExecutionId
    seq: int
    release: ReleaseRef
    profile: ProfileId
    target: str
    precision: str
    report: BenchmarkReport
    schema: int = MESSAGE_SCHEMA
