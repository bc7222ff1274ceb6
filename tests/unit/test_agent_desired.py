from dataclasses import replace

import pytest
from agent_world import assignment, candidate

from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import ExecutionId
from edgewright.contracts.messages import Desired
from edgewright.contracts.states import ExecutionState as S
from edgewright.edge_agent import desired as device
from edgewright.edge_agent import events as e
from edgewright.edge_agent.state import AgentState


def wanted(gen, *assignments):
    return Desired(gen=gen, assignments=assignments)


def test_a_generation_that_is_not_newer_is_ignored():
    state, _ = device.take_up(AgentState(), wanted(5, assignment()), at=0)
    for gen in (5, 4, -1):
        assert device.take_up(state, wanted(gen, assignment("e9", "m:9")), at=0) == (state, ())


def test_an_execution_that_is_no_longer_named_is_canceled_and_the_model_stays():
    state, _ = device.take_up(AgentState(), wanted(1, assignment()), at=0)
    state, _ = device.take_up(state, wanted(2), at=0)
    assert state.models["m"].run.state is S.CANCELED
    assert "m" in state.models


def test_an_execution_that_a_newer_generation_repeats_goes_on():
    state, _ = device.take_up(AgentState(), wanted(1, assignment()), at=0)
    state, effects = device.take_up(state, wanted(2, assignment(), assignment("x1", "other:1")), at=0)
    assert (state.models["m"].run.state, state.models["other"].run.state) == (S.OFFERED, S.OFFERED)
    assert [effect.model.name for effect in effects] == ["other"]


def test_one_model_assigned_twice_is_refused_as_a_whole():
    with pytest.raises(UserError, match="twice") as caught:
        device.take_up(AgentState(), wanted(1, assignment("e1", "m:1"), assignment("e2", "m:2")), at=0)
    assert caught.value.code == "desired-malformed"


def test_only_what_was_acknowledged_leaves_the_outbox():
    state, _ = device.take_up(AgentState(), wanted(1, assignment()), at=0)
    state, _ = device.advance(state, "m", e.Chosen(execution=ExecutionId("e1"), at=0, candidate=candidate()))
    assert [message.id for message in state.outbox] == [1, 2]
    assert [message.id for message in device.acknowledged(state, {1, 77}).outbox] == [2]


def test_last_words_are_those_that_do_not_wait_in_the_outbox_anyway():
    state, _ = device.take_up(AgentState(), wanted(1, assignment()), at=0)
    state, _ = device.advance(state, "m", e.NothingFits(execution=ExecutionId("e1"), at=0, reason="no-artifact-fits"))
    assert device.last_words(state) == ()
    (said,) = state.outbox
    (last,) = device.last_words(device.acknowledged(state, {said.id}))
    assert last.payload == said.payload


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (wanted(1, replace(assignment(), execution="e/#")), "execution-malformed"),
        (wanted(1, assignment(candidates=(replace(candidate(), artifact="sha256:../../x"),))), "digest-malformed"),
        (wanted(2**64), "desired-malformed"),
    ],
)
def test_names_that_would_leave_their_folder_or_topic_are_refused(bad, code):
    with pytest.raises(UserError) as caught:
        device.take_up(AgentState(), bad, at=0)
    assert caught.value.code == code
