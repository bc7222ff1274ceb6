"""What a rollout does to each device, and what events make of it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts.api import PublishedArtifact, Release
from edgewright.contracts.ids import DeviceId, ExecutionId, ReleaseRef, RolloutId
from edgewright.contracts.messages import ExecutionEvent, Policy
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState, RolloutState
from edgewright.measurement.artifact import read_manifest
from edgewright.registry.ledger import replay, rollout_state
from edgewright.registry.planning import NOTHING_DESIRED, DeviceState, plan

S = ExecutionState


@pytest.fixture
def release(make_artifact, tmp_path):
    def make(ref: str) -> Release:
        parsed = ReleaseRef.parse(ref)
        root = make_artifact(tmp_path / ref, model=parsed.name)
        manifest, digest = read_manifest(root)
        return Release(release=parsed, created_at=0.0, artifacts=(PublishedArtifact(digest=digest, manifest=manifest),))

    return make


def planned(release, *states, policy=None):
    numbers = itertools.count(1)
    return plan(
        RolloutId("r-1"), release, policy or Policy(), states, lambda: ExecutionId(f"{release.release}-{next(numbers)}")
    )


def fresh(name):
    return DeviceState(device=DeviceId(name), desired=NOTHING_DESIRED)


def test_every_device_gets_one_execution_and_all_candidates(release):
    plans = planned(release("digits:1"), fresh("a"), fresh("b"), policy=Policy(max_p95_us=5.0))
    assert [each.device for each in plans] == ["a", "b"]
    assert len({each.execution for each in plans}) == 2
    for each in plans:
        (assignment,) = each.desired.assignments
        assert assignment.execution == each.execution
        assert assignment.policy == Policy(max_p95_us=5.0)
        (candidate,) = assignment.candidates
        assert (candidate.profile, candidate.target, candidate.size_bytes) == ("rpi-4", "tflite", 7)


def test_a_device_that_has_passed_later_generations_still_takes_up_the_rollout(release):
    renamed = DeviceState(device=DeviceId("a"), desired=NOTHING_DESIRED, reported_gen=7)
    (done,) = planned(release("digits:1"), renamed)
    assert done.desired.gen == 8
    behind = DeviceState(device=DeviceId("a"), desired=done.desired, reported_gen=3)
    assert planned(release("digits:2"), behind)[0].desired.gen == 9


def test_other_models_stay_desired_and_the_same_model_is_replaced(release):
    desired = NOTHING_DESIRED
    for number, ref in enumerate(("digits:1", "words:1", "digits:2"), start=1):
        (done,) = planned(release(ref), DeviceState(device=DeviceId("a"), desired=desired))
        desired = done.desired
        assert desired.gen == number
    assert sorted(str(each.release) for each in desired.assignments) == ["digits:2", "words:1"]


def test_what_has_not_ended_is_superseded(release):
    state = DeviceState(device=DeviceId("a"), desired=NOTHING_DESIRED, unfinished=(ExecutionId("old"),))
    (done,) = planned(release("digits:1"), state)
    assert done.supersedes == ("old",)


def event(seq, state):
    return ExecutionEvent(execution=ExecutionId("e"), seq=seq, state=state, at=0.0)


def test_lost_messages_do_not_stop_an_execution():
    story = replay([event(2, S.DOWNLOADING), event(9, S.SUCCEEDED)])
    assert story.state is S.SUCCEEDED
    assert story.applied == (2, 9)


def test_what_cannot_follow_moves_nothing():
    story = replay([event(1, S.ACCEPTED), event(2, S.FAILED), event(3, S.SUCCEEDED), event(4, S.QUEUED)])
    assert story.state is S.FAILED
    assert story.applied == (1, 2)


@given(states=st.lists(st.sampled_from(S), max_size=12), random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(states, random):
    events = [event(seq, state) for seq, state in enumerate(states, start=1)]
    shuffled = random.sample(events, len(events))
    assert replay(shuffled) == replay(events)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({S.QUEUED}, RolloutState.RUNNING),
        ({S.FAILED, S.SOAKING}, RolloutState.RUNNING),
        ({S.SUCCEEDED}, RolloutState.SUCCEEDED),
        ({S.SUCCEEDED, S.NOOP}, RolloutState.SUCCEEDED),
        ({S.SUCCEEDED, S.SUPERSEDED}, RolloutState.SUCCEEDED),
        ({S.SUPERSEDED, S.CANCELED}, RolloutState.CANCELED),
        *(({S.SUCCEEDED, bad}, RolloutState.FAILED) for bad in (S.FAILED, S.REJECTED, S.GATED, S.ROLLED_BACK)),
        ({S.TIMED_OUT, S.SUPERSEDED}, RolloutState.FAILED),
    ],
)
def test_a_rollout_is_what_its_executions_are(states, expected):
    assert rollout_state(states) is expected


@given(st.sets(st.sampled_from(S), min_size=1))
def test_a_rollout_runs_exactly_as_long_as_an_execution_has_not_ended(states):
    running = rollout_state(states) is RolloutState.RUNNING
    assert running == bool(states - TERMINAL_EXECUTION_STATES)
