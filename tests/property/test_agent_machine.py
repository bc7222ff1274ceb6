"""Whatever is told to a device, in whatever order and however often, it stays a device with one usable model."""

import itertools

from agent_world import assignment, candidate, report
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.contracts.ids import ExecutionId
from edgewright.contracts.messages import Desired, ExecutionEvent
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState, may_move
from edgewright.contracts.topics import Channel
from edgewright.contracts.wire import decode, encode
from edgewright.edge_agent import desired as device
from edgewright.edge_agent import events as e
from edgewright.edge_agent.state import SWITCHED, AgentState
from edgewright.edge_agent.table import Do

EXECUTIONS = ("e1", "e2", "e3")
CANDIDATES = tuple(candidate(text) for text in ("one", "two"))
PLAIN = (
    e.NothingFits,
    e.Downloaded,
    e.Verified,
    e.VerifyFailed,
    e.Placed,
    e.ProbePassed,
    e.ProbeFailed,
    e.Activated,
    e.SoakPassed,
    e.EffectFailed,
    e.Withdrawn,
    e.DeadlinePassed,
    e.Restarted,
)
# What follows when all goes well, so that generated lives also come far.
NEXT = {
    ExecutionState.OFFERED: lambda x: e.Chosen(execution=x, at=0, candidate=CANDIDATES[0]),
    ExecutionState.DOWNLOADING: lambda x: e.Downloaded(execution=x, at=0),
    ExecutionState.VERIFYING: lambda x: e.Verified(execution=x, at=0),
    ExecutionState.STAGED: lambda x: e.Placed(execution=x, at=0),
    ExecutionState.PROBING: lambda x: e.ProbePassed(execution=x, at=0),
    ExecutionState.BENCHMARKING: lambda x: e.BenchmarkDone(execution=x, at=0, report=report()),
    ExecutionState.ACTIVATING: lambda x: e.Activated(execution=x, at=0),
    ExecutionState.SOAKING: lambda x: e.SoakPassed(execution=x, at=0),
}

executions = st.sampled_from(EXECUTIONS).map(ExecutionId)
events = st.one_of(
    st.builds(lambda kind, x: kind(execution=x, at=0), st.sampled_from(PLAIN), executions),
    st.builds(lambda x, c: e.Chosen(execution=x, at=0, candidate=c), executions, st.sampled_from(CANDIDATES)),
    st.builds(lambda x: e.BenchmarkDone(execution=x, at=0, report=report()), executions),
)
wanted = st.builds(
    lambda gen, x: Desired(gen=gen, assignments=tuple(assignment(one, f"m:{one}") for one in x)),
    st.integers(1, 9),
    st.lists(st.sampled_from(EXECUTIONS), max_size=1),
)
GO_ON = "go on"
# Some steps the good way, then something else, and so on.
good_way = st.integers(1, 9).map(lambda count: [GO_ON] * count)
lives = st.lists(
    st.one_of(good_way, events.map(lambda event: [event]), wanted.map(lambda one: [one])), max_size=20
).map(lambda parts: [item for part in parts for item in part])


def apply(state, item):
    if isinstance(item, Desired):
        return device.take_up(state, item, at=0)
    if item == GO_ON:
        run = state.models["m"].run if "m" in state.models else None
        if run is None or not run.live:
            return state, ()
        item = NEXT[run.state](run.execution)
    return device.advance(state, "m", item)


def proven(model):
    """The slot whose artifact has soaked."""
    unproven = model.run and model.run.state in (ExecutionState.ACTIVATING, ExecutionState.SOAKING)
    return model.run.replaces if unproven else model.active


def told(state):
    """What was said of each execution, in order: (seq, state)."""
    said = {}
    for message in state.outbox:
        if message.channel is Channel.EXECUTION:
            event = decode(ExecutionEvent, message.payload, what="event")
            said.setdefault((event.execution, message.id), []).append((event.seq, event.state))
    by_execution = {}
    for (execution, _), rows in said.items():
        by_execution.setdefault(execution, []).extend(rows)
    return by_execution


@settings(max_examples=400, deadline=None)
@given(lives)
def test_no_sequence_leads_to_an_illegal_move_or_an_unusable_device(life):
    state = AgentState()
    for item in life:
        before = state
        state, effects = apply(state, item)
        assert state.gen >= before.gen
        model, old = state.models.get("m"), before.models.get("m")
        if model is None:
            continue
        # Built at all, the state has one active slot, which holds an artifact: it refuses to be anything else.
        if old and old.run and not old.run.live and model.run.execution == old.run.execution:
            assert model == old  # an end is an end
        if old and proven(old) is not None:
            assert proven(old) in model.slots  # it can be gone back to, or is in use
            assert model.active is not None
        if model.active is not (old.active if old else None):
            assert effects[-1].do is Do.ACTIVATE or Do.ROLL_BACK in [effect.do for effect in effects]
        if model.run and model.run.state not in SWITCHED and old and old.run == model.run:
            assert model.active == old.active


@settings(max_examples=200, deadline=None)
@given(lives)
def test_what_is_said_is_a_story_the_contract_knows(life):
    state = AgentState()
    for item in life:
        state, _ = apply(state, item)
    for rows in told(state).values():
        # An execution may be assigned again after another one: then it is told anew, from the first number.
        stories = [[]]
        for seq, what in rows:
            if stories[-1] and seq <= stories[-1][-1][0]:
                stories.append([])
            stories[-1].append((seq, what))
        for story in stories:
            states = [ExecutionState.OFFERED, *(what for _, what in story)]
            assert all(may_move(a, b) for a, b in itertools.pairwise(states))
            assert not set(states[:-1]) & TERMINAL_EXECUTION_STATES


@settings(max_examples=200, deadline=None)
@given(lives, st.randoms(use_true_random=False))
def test_duplicates_and_stale_generations_change_nothing(life, random):
    plain = noisy = AgentState()
    stale = []
    for item in life:
        plain, _ = apply(plain, item)
        noisy, _ = apply(noisy, item)
        if isinstance(item, Desired):
            stale.append(item)
        if stale:
            old = random.choice(stale)
            if old.gen <= noisy.gen:
                noisy, effects = device.take_up(noisy, old, at=9)
                assert effects == ()
    assert noisy == plain


@settings(max_examples=100, deadline=None)
@given(lives)
def test_a_restart_at_any_moment_goes_on_from_what_was_saved(life):
    state = AgentState()
    for item in life:
        state, effects = apply(state, item)
        revived = decode(AgentState, encode(state), what="state")
        assert revived == state
        same, again = device.restart(revived, at=1)
        assert same == state
        model = state.models.get("m")
        if model and model.run and model.run.live:
            assert [effect.do for effect in again] == [effect.do for effect in effects][-1:] or not effects
        else:
            assert again == ()
