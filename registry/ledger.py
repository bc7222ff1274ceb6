"""What a set of events makes of an execution, and what the executions make of their rollout: pure.

An execution's state depends on which events have been received, never on the order they came in or on how often: all
of them are replayed by `seq` each time. An event that `EXECUTION_MOVES` makes impossible is kept and moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState, RolloutState, may_follow

_DONE = frozenset({ExecutionState.SUCCEEDED, ExecutionState.NOOP})
_WITHDRAWN = frozenset({ExecutionState.CANCELED, ExecutionState.SUPERSEDED})


class Event(Protocol):
    """What is needed of an event here."""

    @property
    def seq(self) -> int:
        """Its place among the execution's events."""
        ...

    @property
    def state(self) -> ExecutionState:
        """The state it says the execution has come to."""
        ...


@dataclass(frozen=True)
class Replay:
    """`applied`: the `seq` of each event that moved the execution, in order; the last one gives its state."""

    state: ExecutionState
    applied: tuple[int, ...]


def replay(events: Iterable[Event]) -> Replay:
    """Play a device's events, each `seq` at most once, from the moment the execution was offered."""
    state = ExecutionState.OFFERED
    applied = []
    for event in sorted(events, key=lambda event: event.seq):
        if may_follow(state, event.state):
            state = event.state
            applied.append(event.seq)
    return Replay(state, tuple(applied))


def rollout_state(executions: Iterable[ExecutionState]) -> RolloutState:
    """The state of a rollout with these executions.

    It runs until all have ended. Executions that were withdrawn for something newer count for neither side; a rollout
    that lost all of its executions so is canceled.
    """
    states = set(executions)
    if states - TERMINAL_EXECUTION_STATES:
        return RolloutState.RUNNING
    counted = states - _WITHDRAWN
    if not counted:
        return RolloutState.CANCELED
    return RolloutState.SUCCEEDED if counted <= _DONE else RolloutState.FAILED
