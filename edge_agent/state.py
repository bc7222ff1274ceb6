"""What the agent remembers across restarts. Plain data: storage.py saves it, machine.py and desired.py change it.

Rules: a slot is listed only while it holds a complete artifact; the active slot is always a listed one; an execution
that has not reached activation, or has ended without success, leaves `active` as it found it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.ids import Digest, ExecutionId, ProfileId, ReleaseRef
from edgewright.contracts.messages import Assignment, Candidate, ExecutionEvent
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState
from edgewright.contracts.topics import Channel

STATE_SCHEMA = 1

# In these the stable path shall lead to the execution's own slot; in all others to the one it found.
SWITCHED = frozenset({ExecutionState.ACTIVATING, ExecutionState.SOAKING, ExecutionState.SUCCEEDED})


class Slot(StrEnum):
    """One of a model's two places on disk."""

    A = "a"
    B = "b"

    @property
    def other(self) -> Slot:
        """The slot beside this one."""
        return Slot.B if self is Slot.A else Slot.A


@dataclass(frozen=True, kw_only=True)
class Held:
    """The complete artifact a slot holds, and the release that brought it."""

    release: ReleaseRef
    artifact: Digest
    profile: ProfileId
    target: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution on this device, alive or ended.

    Attributes:
        replaces: the slot that was active when it began, and to which a rollback returns; None: there was none.
        chosen: the candidate that fits this device, once it is known.
        downloads: how often the download has been started over because its bytes were wrong.
        seq: of the last message about this execution.
        last_event: what was last said about it; said again after each reconnect, as a broker may lose what it took.
    """

    assignment: Assignment
    replaces: Slot | None
    state: ExecutionState = ExecutionState.OFFERED
    chosen: Candidate | None = None
    downloads: int = 0
    seq: int = 0
    last_event: ExecutionEvent | None = None

    @property
    def execution(self) -> ExecutionId:
        """Its id."""
        return self.assignment.execution

    @property
    def slot(self) -> Slot:
        """Where its artifact goes: the slot nobody uses."""
        return self.replaces.other if self.replaces else Slot.A

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state not in TERMINAL_EXECUTION_STATES

    @property
    def candidate(self) -> Candidate:
        """The chosen candidate. Raises DeviceError `state-impossible` before there is one."""
        if self.chosen is None:
            raise DeviceError("state-impossible", f"execution {self.execution} is {self.state} and nothing was chosen")
        return self.chosen


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """One model: what its slots hold, which one the stable path leads to, and its latest execution."""

    name: str
    slots: dict[Slot, Held] = field(default_factory=dict)
    active: Slot | None = None
    run: Run | None = None

    def __post_init__(self) -> None:
        if self.active is not None and self.active not in self.slots:
            raise DeviceError("state-impossible", f"model {self.name}: active slot {self.active} holds nothing")
        if self.run is not None and self.active != (self.run.slot if self.run.state in SWITCHED else self.run.replaces):
            raise DeviceError(
                "state-impossible", f"model {self.name}: {self.run.state} and active slot {self.active} exclude another"
            )

    @property
    def held(self) -> Held | None:
        """What the active slot holds."""
        return self.slots[self.active] if self.active is not None else None


@dataclass(frozen=True, kw_only=True)
class OutMessage:
    """A message the broker has not acknowledged. Its topic is made when it is sent: the device's name may change."""

    id: int
    channel: Channel
    execution: ExecutionId
    payload: str


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """Everything the agent remembers.

    Attributes:
        gen: the last desired generation taken up.
        reported_seq: of the last reported message.
        next_message: id of the next message put into the outbox.
    """

    gen: int = 0
    reported_seq: int = 0
    next_message: int = 1
    models: dict[str, ModelState] = field(default_factory=dict)
    outbox: tuple[OutMessage, ...] = ()
    schema: int = STATE_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != STATE_SCHEMA:
            raise DeviceError(
                "state-schema-unknown",
                "the agent's state is of a schema this version does not read",
                expected=str(STATE_SCHEMA),
                found=str(self.schema),
                next_step="nothing: the models in use are found again on the disk",
            )
