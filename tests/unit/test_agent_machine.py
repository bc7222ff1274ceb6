from dataclasses import replace

import pytest
from agent_world import assignment, candidate, digest, report

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.ids import ExecutionId, ReleaseRef
from edgewright.contracts.messages import BenchmarkMessage, ExecutionEvent, Policy
from edgewright.contracts.states import ExecutionState as S
from edgewright.edge_agent import events as e
from edgewright.edge_agent.machine import step
from edgewright.edge_agent.state import Held, ModelState, Run, Slot
from edgewright.edge_agent.table import Do

E1 = ExecutionId("e1")
OLD = Held(
    release=ReleaseRef.parse("m:0"), artifact=digest("old"), profile=candidate().profile, target="t", precision="fp32"
)
EMPTY = ModelState(name="m")
RUNNING_OLD = ModelState(name="m", slots={Slot.A: OLD}, active=Slot.A)


def happen(kind, **fields):
    return kind(execution=E1, at=1.0, **fields)


WAY = (
    happen(e.Assigned, assignment=assignment()),
    happen(e.Chosen, candidate=candidate()),
    happen(e.Downloaded),
    happen(e.Verified),
    happen(e.Placed),
    happen(e.ProbePassed),
    happen(e.BenchmarkDone, report=report()),
    happen(e.Activated),
    happen(e.SoakPassed),
)
TO = {
    S.OFFERED: 1,
    S.DOWNLOADING: 2,
    S.VERIFYING: 3,
    S.STAGED: 4,
    S.PROBING: 5,
    S.BENCHMARKING: 6,
    S.ACTIVATING: 7,
    S.SOAKING: 8,
}


def live(model, *events):
    """The model after `events`, everything said and every effect on the way."""
    said, done = [], []
    for event in events:
        model, messages, effects = step(model, event)
        said += messages
        done += [effect.do for effect in effects]
    return model, said, done


def told(said):
    return [message.state for message in said if isinstance(message, ExecutionEvent)]


def test_a_good_artifact_goes_all_the_way():
    model, said, done = live(EMPTY, *WAY)
    assert told(said) == [
        S.ACCEPTED,
        S.DOWNLOADING,
        S.VERIFYING,
        S.STAGED,
        S.PROBING,
        S.BENCHMARKING,
        S.ACTIVATING,
        S.SOAKING,
        S.SUCCEEDED,
    ]
    assert done == [
        Do.CHOOSE,
        Do.DOWNLOAD,
        Do.VERIFY,
        Do.STAGE,
        Do.PROBE,
        Do.BENCHMARK,
        Do.ACTIVATE,
        Do.SOAK,
    ]
    assert model.active is Slot.A
    assert model.held.artifact == candidate().artifact


def test_messages_are_counted_from_one_and_the_measurement_precedes_the_activation():
    _, said, _ = live(EMPTY, *WAY)
    assert [message.seq for message in said] == list(range(1, len(said) + 1))
    place = next(i for i, message in enumerate(said) if isinstance(message, BenchmarkMessage))
    assert said[place + 1].state is S.ACTIVATING


def test_the_free_slot_is_used_and_the_old_model_kept():
    model, _, _ = live(RUNNING_OLD, *WAY)
    assert model.active is Slot.B
    assert model.slots[Slot.A] == OLD


def test_the_artifact_that_is_active_already_is_not_fetched_again():
    same = candidate("old")
    chosen = happen(e.Chosen, candidate=same)
    model, said, done = live(RUNNING_OLD, happen(e.Assigned, assignment=assignment(candidates=(same,))), chosen)
    assert (told(said), done) == ([S.NOOP], [Do.CHOOSE, Do.REPORT])
    assert said[-1].reason == "already-active"
    assert model.held == replace(OLD, release=ReleaseRef.parse("m:1"))


def test_a_device_that_can_run_none_says_why():
    refusal = happen(e.NothingFits, reason="no-artifact-fits", detail="no AVX2")
    model, said, _ = live(RUNNING_OLD, WAY[0], refusal)
    assert (said[-1].state, said[-1].reason, said[-1].detail) == (S.REJECTED, "no-artifact-fits", "no AVX2")
    assert model.held == OLD


def test_wrong_bytes_are_fetched_once_more_and_then_given_up():
    bad = happen(e.VerifyFailed, reason="artifact-digest-mismatch")
    model, said, done = live(RUNNING_OLD, *WAY[:3], bad)
    assert (told(said)[-1], done[-2:]) == (S.DOWNLOADING, [Do.DISCARD, Do.DOWNLOAD])
    _, said, done = live(model, WAY[2], bad)
    assert (told(said)[-1], done[-1]) == (S.FAILED, Do.DISCARD)


def test_wrong_outputs_gate_the_release_and_a_crash_fails_it():
    _, said, _ = live(RUNNING_OLD, *WAY[:5], happen(e.ProbeFailed, detail="sample 3"))
    assert (said[-1].state, said[-1].reason, said[-1].detail) == (S.GATED, "probe-mismatch", "sample 3")
    _, said, _ = live(RUNNING_OLD, *WAY[:5], happen(e.EffectFailed, reason="artifact-crashed"))
    assert (said[-1].state, said[-1].reason) == (S.FAILED, "artifact-crashed")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(max_p95_us=1500), "gate-max-p95"),
        (Policy(max_memory_bytes=999_999), "gate-max-memory"),
        (Policy(min_speedup=1.0), "gate-min-speedup"),
    ],
)
def test_a_gated_release_reports_its_measurement_and_changes_nothing(policy, reason):
    measured = happen(e.BenchmarkDone, report=report(speedup_low=0.9))
    model, said, _ = live(RUNNING_OLD, replace(WAY[0], assignment=assignment(policy=policy)), *WAY[1:6], measured)
    assert isinstance(said[-2], BenchmarkMessage)
    assert (said[-1].state, said[-1].reason) == (S.GATED, reason)
    assert (model.active, model.held) == (Slot.A, OLD)


def test_limits_that_are_kept_let_it_through():
    policy = Policy(max_p95_us=2100, max_memory_bytes=1_000_000, min_speedup=0.9)
    measured = happen(e.BenchmarkDone, report=report(speedup_low=0.9))
    way = (replace(WAY[0], assignment=assignment(policy=policy)), *WAY[1:6], measured)
    assert told(live(RUNNING_OLD, *way)[1])[-1] is S.ACTIVATING


def test_a_first_model_is_not_held_by_a_speedup_there_is_nothing_to_compare_with():
    way = (replace(WAY[0], assignment=assignment(policy=Policy(min_speedup=2))), *WAY[1:7])
    assert told(live(EMPTY, *way)[1])[-1] is S.ACTIVATING


@pytest.mark.parametrize("before", [EMPTY, RUNNING_OLD])
@pytest.mark.parametrize("state", [S.ACTIVATING, S.SOAKING])
def test_what_fails_after_the_switch_is_rolled_back(before, state):
    model, said, done = live(before, *WAY[: TO[state]], happen(e.EffectFailed, reason="probe-mismatch"))
    assert (told(said)[-1], done[-1]) == (S.ROLLED_BACK, Do.ROLL_BACK)
    assert model.active is before.active


@pytest.mark.parametrize("state", TO)
def test_a_newer_execution_ends_the_old_one_and_leaves_no_trace_of_it(state):
    newer = e.Assigned(execution=ExecutionId("e2"), at=2.0, assignment=assignment("e2", "m:2"))
    model, said, done = live(RUNNING_OLD, *WAY[: TO[state]], newer)
    assert (said[-1].execution, said[-1].state) == (E1, S.SUPERSEDED)
    cleans_up = Do.ROLL_BACK if state in (S.ACTIVATING, S.SOAKING) else Do.DISCARD
    assert done[-3:] == [Do.ABORT, cleans_up, Do.CHOOSE]
    assert (model.run.execution, model.run.state, model.active) == ("e2", S.OFFERED, Slot.A)


@pytest.mark.parametrize("state", TO)
def test_a_withdrawn_execution_is_canceled_everywhere(state):
    model, said, done = live(RUNNING_OLD, *WAY[: TO[state]], happen(e.Withdrawn, reason="withdrawn"))
    assert (told(said)[-1], model.active) == (S.CANCELED, Slot.A)
    assert Do.ABORT in done


@pytest.mark.parametrize("state", TO)
def test_a_deadline_ends_the_way_to_activation_and_not_the_soak(state):
    model, _, _ = live(RUNNING_OLD, *WAY[: TO[state]], happen(e.DeadlinePassed))
    assert model.run.state is (state if state in (S.ACTIVATING, S.SOAKING) else S.TIMED_OUT)


@pytest.mark.parametrize("state", TO)
def test_after_a_restart_the_state_says_what_to_do_and_nothing_is_said_twice(state):
    model, _, done = live(RUNNING_OLD, *WAY[: TO[state]])
    again, said, redone = live(model, happen(e.Restarted))
    assert (again, said, redone) == (model, [], done[-1:])


def test_what_is_said_of_another_execution_changes_nothing():
    model, _, _ = live(RUNNING_OLD, *WAY[:2])
    other = e.Downloaded(execution=ExecutionId("e0"), at=1.0)
    assert step(model, other) == (model, (), ())


def test_the_same_execution_assigned_again_changes_nothing():
    for count in range(1, len(WAY) + 1):
        model, _, _ = live(RUNNING_OLD, *WAY[:count])
        assert step(model, WAY[0]) == (model, (), ())


def test_a_slot_is_not_counted_on_while_it_is_written():
    twice = live(live(RUNNING_OLD, *WAY)[0], e.Assigned(execution=ExecutionId("e2"), at=2, assignment=assignment("e2")))
    assert Slot.A in twice[0].slots
    way = [replace(event, execution=ExecutionId("e2")) for event in WAY[1:4]]
    way[0] = replace(way[0], candidate=candidate("new"))
    model, _, _ = live(twice[0], *way)
    assert model.run.state is S.STAGED
    assert Slot.A not in model.slots


def test_impossible_states_are_refused():
    with pytest.raises(DeviceError, match="holds nothing"):
        ModelState(name="m", active=Slot.A)
    with pytest.raises(DeviceError, match="exclude"):
        ModelState(name="m", slots={Slot.A: OLD}, active=Slot.A, run=Run(assignment=assignment(), replaces=None))
