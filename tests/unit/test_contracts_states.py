import itertools

import pytest

from edgewright.contracts.states import (
    EXECUTION_MOVES,
    TERMINAL_EXECUTION_STATES,
    ExecutionState,
    may_follow,
    may_move,
)

HAPPY = "queued offered accepted downloading verifying staged probing benchmarking activating soaking succeeded".split()


def test_the_whole_way_to_success_is_open():
    path = [ExecutionState(name) for name in HAPPY]
    assert all(may_move(a, b) for a, b in itertools.pairwise(path))


def test_the_ends_are_the_designs():
    ends = "succeeded failed rejected gated rolled_back timed_out canceled superseded noop"
    assert {str(state) for state in TERMINAL_EXECUTION_STATES} == set(ends.split())


@pytest.mark.parametrize("state", EXECUTION_MOVES)
def test_from_every_state_an_end_can_be_reached_and_any_may_be_canceled(state):
    assert may_move(state, ExecutionState.CANCELED)
    assert any(may_follow(state, end) for end in TERMINAL_EXECUTION_STATES)


@pytest.mark.parametrize("end", sorted(TERMINAL_EXECUTION_STATES))
def test_nothing_follows_an_end(end):
    assert not any(may_follow(end, state) for state in ExecutionState)


def test_lost_messages_leave_a_gap_that_is_allowed_and_time_does_not_run_backwards():
    assert may_follow(ExecutionState.ACCEPTED, ExecutionState.SUCCEEDED)
    assert not may_follow(ExecutionState.PROBING, ExecutionState.ACCEPTED)
    assert not may_follow(ExecutionState.QUEUED, ExecutionState.QUEUED)


def test_an_artifact_that_was_not_activated_cannot_be_rolled_back():
    assert not may_move(ExecutionState.BENCHMARKING, ExecutionState.ROLLED_BACK)
