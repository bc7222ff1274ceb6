"""States of rollouts, stages and executions, and the moves between them that anyone may make.

The device moves an execution, the cloud records it: both check against `EXECUTION_MOVES`, so that neither can tell a
story the other cannot have lived.
"""

from __future__ import annotations

from enum import StrEnum


class RolloutState(StrEnum):
    """One rollout's life; the names are the design's."""

    DRAFT = "draft"
    AWAITING_APPROVAL = "awaiting_approval"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    CANCELED = "canceled"


class StageState(StrEnum):
    """One stage of a rollout."""

    PENDING = "pending"
    RUNNING = "running"
    SOAKING = "soaking"
    PASSED = "passed"
    FAILED = "failed"


class ExecutionState(StrEnum):
    """One device's part in a rollout."""

    QUEUED = "queued"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    PROBING = "probing"
    BENCHMARKING = "benchmarking"
    ACTIVATING = "activating"
    SOAKING = "soaking"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    GATED = "gated"
    ROLLED_BACK = "rolled_back"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    SUPERSEDED = "superseded"
    NOOP = "noop"


_E = ExecutionState
_STOPPED = frozenset({_E.FAILED, _E.TIMED_OUT, _E.CANCELED, _E.SUPERSEDED})

# From each state, where it may go. A state without a row is an end.
EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    _E.QUEUED:       _STOPPED | {_E.OFFERED},
    _E.OFFERED:      _STOPPED | {_E.ACCEPTED, _E.REJECTED, _E.NOOP},
    _E.ACCEPTED:     _STOPPED | {_E.DOWNLOADING},
    _E.DOWNLOADING:  _STOPPED | {_E.VERIFYING},
    _E.VERIFYING:    _STOPPED | {_E.STAGED, _E.DOWNLOADING},
    _E.STAGED:       _STOPPED | {_E.PROBING},
    _E.PROBING:      _STOPPED | {_E.BENCHMARKING, _E.GATED},
    _E.BENCHMARKING: _STOPPED | {_E.ACTIVATING, _E.GATED},
    _E.ACTIVATING:   _STOPPED | {_E.SOAKING, _E.ROLLED_BACK},
    _E.SOAKING:      _STOPPED | {_E.SUCCEEDED, _E.ROLLED_BACK},
}  # fmt: skip

TERMINAL_EXECUTION_STATES = frozenset(ExecutionState) - frozenset(EXECUTION_MOVES)


def may_move(before: ExecutionState, after: ExecutionState) -> bool:
    """Whether an execution may go from `before` to `after` in one move."""
    return after in EXECUTION_MOVES.get(before, frozenset())


def may_follow(before: ExecutionState, after: ExecutionState) -> bool:
    """Whether `after` can be reached from `before` by one or more moves: messages in between may have been lost."""
    seen: set[ExecutionState] = set()
    frontier = {before}
    while frontier:
        frontier = {move for state in frontier for move in EXECUTION_MOVES.get(state, frozenset())} - seen
        seen |= frontier
    return after in seen
