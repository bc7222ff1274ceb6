"""The whole device as one value: what arrives changes it, and says what to do. Pure.

Rules: only a newer generation is taken up; every message about an execution goes into the outbox in the same change
that causes it, so that whatever is saved is also said; a model without an assignment keeps what it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import parse_digest, parse_execution_id
from edgewright.contracts.messages import BenchmarkMessage, Desired, ExecutionEvent
from edgewright.contracts.topics import Channel
from edgewright.contracts.wire import encode
from edgewright.edge_agent.events import Assigned, Event, Restarted, Withdrawn
from edgewright.edge_agent.machine import Effect, step
from edgewright.edge_agent.state import AgentState, ModelState, OutMessage

# The largest number JSON readers agree on.
MAX_GEN = 2**53 - 1

Change = tuple[AgentState, tuple[Effect, ...]]


def take_up(state: AgentState, desired: Desired, at: float) -> Change:
    """Begin what `desired` asks for, and end what it no longer names.

    Raises:
        UserError: `desired-malformed` when it names one model twice; `execution-malformed`, `digest-malformed`.
    """
    if desired.gen <= state.gen:
        return state, ()
    _check(desired)
    wanted = {assignment.release.name: assignment for assignment in desired.assignments}
    if len(wanted) != len(desired.assignments):
        raise UserError("desired-malformed", f"generation {desired.gen} assigns one model twice")
    happened: list[tuple[str, Event]] = [
        (name, Withdrawn(execution=model.run.execution, at=at, reason="withdrawn"))
        for name, model in state.models.items()
        if model.run is not None and name not in wanted
    ]
    happened += [
        (name, Assigned(execution=assignment.execution, at=at, assignment=assignment))
        for name, assignment in wanted.items()
    ]
    return _advance_all(replace(state, gen=desired.gen), happened)


def advance(state: AgentState, name: str, event: Event) -> Change:
    """One event for one model."""
    before = state.models.get(name, ModelState(name=name))
    after, messages, effects = step(before, event)
    if after == before and not messages:
        return state, effects
    posted = tuple(_post(state.next_message + index, message) for index, message in enumerate(messages))
    changed = replace(
        state,
        models={**state.models, name: after},
        outbox=state.outbox + posted,
        next_message=state.next_message + len(posted),
    )
    return changed, effects


def restart(state: AgentState, at: float) -> Change:
    """Take up again what was going on when the agent was stopped or killed."""
    return _advance_all(
        state,
        [
            (name, Restarted(execution=model.run.execution, at=at))
            for name, model in state.models.items()
            if model.run is not None
        ],
    )


def acknowledged(state: AgentState, ids: Collection[int]) -> AgentState:
    """The messages with `ids` have arrived."""
    return replace(state, outbox=tuple(message for message in state.outbox if message.id not in ids))


def last_words(state: AgentState) -> tuple[OutMessage, ...]:
    """The last event of every execution that is not waiting in the outbox anyway.

    A broker that was killed may have lost what it acknowledged; the cloud drops what it knows by (execution, seq).
    """
    waiting = {message.execution for message in state.outbox}
    events = (model.run.last_event for model in state.models.values() if model.run is not None)
    return tuple(_post(0, event) for event in events if event is not None and event.execution not in waiting)


def _check(desired: Desired) -> None:
    """What becomes a topic or a folder's name is checked before it does."""
    if desired.gen > MAX_GEN:
        raise UserError("desired-malformed", "no generation is that late", expected=f"<= {MAX_GEN}")
    for assignment in desired.assignments:
        parse_execution_id(assignment.execution)
        for candidate in assignment.candidates:
            parse_digest(candidate.artifact)


def _advance_all(state: AgentState, happened: Iterable[tuple[str, Event]]) -> Change:
    effects: list[Effect] = []
    for name, event in happened:
        state, more = advance(state, name, event)
        effects += more
    return state, tuple(effects)


def _post(number: int, message: ExecutionEvent | BenchmarkMessage) -> OutMessage:
    channel = Channel.EXECUTION if isinstance(message, ExecutionEvent) else Channel.BENCHMARK
    return OutMessage(id=number, channel=channel, execution=message.execution, payload=encode(message).decode())
