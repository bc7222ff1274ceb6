"""One model's executions on the device: ``step(model, event) -> Step(model, messages, effects)``. Pure.

table.py says which state follows; this module reads events for it and keeps the model's data in line. Rules:

- an execution that does not succeed leaves the device as it was: the slot that was active is active again
- what belongs to another execution than the current one, or to one that has ended, changes nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgewright.contracts.messages import BenchmarkMessage, ExecutionEvent
from edgewright.contracts.states import ExecutionState
from edgewright.edge_agent import events as e
from edgewright.edge_agent.gates import exceeded_gates
from edgewright.edge_agent.state import SWITCHED, Held, ModelState, Run, Slot
from edgewright.edge_agent.table import TABLE, Do, Kind, Row

K = Kind

# Wrong bytes are fetched once more; wrong bytes again are the registry's fault, not the line's.
MAX_DOWNLOADS = 2


@dataclass(frozen=True)
class Effect:
    """Something to do for the execution that `model` has now."""

    do: Do
    model: ModelState


class Step(NamedTuple):
    """The model after an event, what to say to the cloud, and what to do, both in order."""

    model: ModelState
    messages: tuple[ExecutionEvent | BenchmarkMessage, ...] = ()
    effects: tuple[Effect, ...] = ()


_KINDS: Mapping[type[e.Event], Kind] = {
    e.NothingFits:    K.NOTHING_FITS,
    e.Downloaded:     K.DOWNLOADED,
    e.Verified:       K.VERIFIED,
    e.Placed:         K.PLACED,
    e.ProbePassed:    K.PROBE_PASSED,
    e.ProbeFailed:    K.PROBE_WRONG,
    e.Activated:      K.ACTIVATED,
    e.SoakPassed:     K.SOAKED,
    e.EffectFailed:   K.FAILED,
    e.Withdrawn:      K.WITHDRAWN,
    e.DeadlinePassed: K.DEADLINE,
    e.Restarted:      K.RESTARTED,
}  # fmt: skip


def step(model: ModelState, event: e.Event) -> Step:
    """What `event` makes of `model`."""
    if isinstance(event, e.Assigned):
        return _assign(model, event)
    run = model.run
    if run is None or not run.live or event.execution != run.execution:
        return Step(model)
    kind, event = _interpret(model, run, event)
    row = TABLE.get((run.state, kind))
    return Step(model) if row is None else _follow(model, run, row, event)


def _assign(model: ModelState, event: e.Assigned) -> Step:
    """A new execution ends the one before it, and begins from what is active then."""
    before = Step(model)
    if model.run is not None:
        if model.run.execution == event.execution:
            return before
        if model.run.live:
            reason, detail = "superseded", f"by execution {event.execution}, release {event.assignment.release}"
            ended = e.Event(execution=model.run.execution, at=event.at, reason=reason, detail=detail)
            before = _follow(model, model.run, TABLE[model.run.state, K.SUPERSEDED], ended)
    begun = replace(before.model, run=Run(assignment=event.assignment, replaces=before.model.active))
    return Step(begun, before.messages, (*before.effects, Effect(Do.CHOOSE, begun)))


def _interpret(model: ModelState, run: Run, event: e.Event) -> tuple[Kind, e.Event]:
    """The event's kind where it depends on the model, with the reason that the cloud is told."""
    match event:
        case e.Chosen():
            if model.held is not None and model.held.artifact == event.candidate.artifact:
                return K.CHOSEN_ACTIVE, replace(event, reason="already-active")
            return K.CHOSEN, event
        case e.VerifyFailed():
            return K.CORRUPT if run.downloads + 1 < MAX_DOWNLOADS else K.FAILED, event
        case e.ProbeFailed():
            return K.PROBE_WRONG, replace(event, reason="probe-mismatch")
        case e.BenchmarkDone():
            exceeded = exceeded_gates(run.assignment.policy, event.report)
            if exceeded:
                detail = "; ".join(gate.detail for gate in exceeded)
                return K.OVER_LIMIT, replace(event, reason=exceeded[0].reason, detail=detail)
            return K.BENCHMARKED, event
        case _:
            return _KINDS[type(event)], event


def _follow(model: ModelState, run: Run, row: Row, event: e.Event) -> Step:
    run = _learn(run, event)
    messages: list[ExecutionEvent | BenchmarkMessage] = []
    if isinstance(event, e.BenchmarkDone):
        run = replace(run, seq=run.seq + 1)
        messages.append(_measured(run, event))
    for state in row.path:
        last = state is row.path[-1]
        said = ExecutionEvent(
            execution=run.execution,
            seq=run.seq + 1,
            state=state,
            at=event.at,
            reason=event.reason if last else None,
            detail=event.detail if last else None,
            artifact=run.chosen.artifact if run.chosen else None,
        )
        run = replace(run, state=state, seq=said.seq, last_event=said)
        messages.append(said)
    after = replace(
        model,
        run=run,
        slots=_slots(model, run, event),
        active=run.slot if run.state in SWITCHED else run.replaces,
    )
    return Step(after, tuple(messages), tuple(Effect(do, after) for do in row.do))


def _learn(run: Run, event: e.Event) -> Run:
    match event:
        case e.Chosen():
            return replace(run, chosen=event.candidate)
        case e.VerifyFailed():
            return replace(run, downloads=run.downloads + 1)
        case _:
            return run


def _slots(model: ModelState, run: Run, event: e.Event) -> dict[Slot, Held]:
    """What the slots hold once `event` is known: a slot is not counted on from before it is written until it is."""
    slots = dict(model.slots)
    match event:
        case e.Verified() | e.VerifyFailed():
            slots.pop(run.slot, None)
        case e.Placed():
            slots[run.slot] = _held(run)
        case e.Chosen() if run.state is ExecutionState.NOOP and run.replaces is not None:
            slots[run.replaces] = replace(slots[run.replaces], release=run.assignment.release)
    return slots


def _held(run: Run) -> Held:
    chosen = run.candidate
    return Held(
        release=run.assignment.release,
        artifact=chosen.artifact,
        profile=chosen.profile,
        target=chosen.target,
        precision=chosen.precision,
    )


def _measured(run: Run, event: e.BenchmarkDone) -> BenchmarkMessage:
    chosen = run.candidate
    return BenchmarkMessage(
        execution=run.execution,
        seq=run.seq,
        release=run.assignment.release,
        profile=chosen.profile,
        target=chosen.target,
        precision=chosen.precision,
        report=event.report,
    )
