"""What devices say, written down: one function a channel, each inside the caller's transaction.

Rules:
- saying something twice, or in another order, ends in the same state;
- a device speaks for itself alone: the device in the topic must be the execution's;
- an event that could not have happened is kept, and moves nothing;
- the database is written before a message is acknowledged: the caller commits, then acknowledges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewright.contracts import wire
from edgewright.contracts.errors import NotFound, UserError
from edgewright.contracts.ids import DeviceId, ExecutionId, TenantId
from edgewright.contracts.messages import BenchmarkMessage, ExecutionEvent, Presence, Reported
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES
from edgewright.contracts.topics import Channel, Topic, parse_topic
from edgewright.registry.ledger import replay
from edgewright.registry.rollouts import refresh_state
from edgewright.registry.tables import BenchmarkRow, DeviceRow, ExecutionEventRow, ExecutionRow

_log = logging.getLogger(__name__)

_MAX_COUNT = 2**53 - 1  # what JSON's numbers carry exactly, and the database's columns hold


class Outcome(StrEnum):
    """What became of a message."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    STALE = "stale"


def receive(session: Session, topic: str, payload: bytes, *, retained: bool, now: float) -> Outcome:
    """Take in one message, at `now` (seconds since 1970). `retained`: the broker has kept it, nobody said it just now.

    Raises:
        UserError: the topic or the payload is malformed, or speaks of another device's execution; nothing has changed.
    """
    parsed = parse_topic(topic)
    if parsed.channel not in _HANDLERS:
        raise UserError("topic-malformed", "devices do not speak on this channel", found=topic[:200])
    return _HANDLERS[parsed.channel](session, parsed, payload, retained, now)


def record_events(session: Session, device: DeviceId, events: Iterable[ExecutionEvent], now: float) -> None:
    """Take in events that came over HTTP: all of them, or none.

    Raises:
        NotFound: `execution-unknown`: one is of no execution of this device.
    """
    for event in events:
        _record(session, _execution(session, device, event.execution), event, now)


def all_offline(session: Session) -> None:
    """The broker has just started: nobody is connected until he says so again."""
    for row in session.scalars(select(DeviceRow).where(DeviceRow.online)):
        row.online = False


def _presence(session: Session, topic: Topic, payload: bytes, retained: bool, now: float) -> Outcome:
    said = wire.decode(Presence, payload, what=str(topic))
    row = _device(session, topic.tenant, topic.device, now)
    newly = said.session != row.session
    if newly:
        if not said.online:
            return Outcome.STALE  # the will of a connection that another one has replaced
        # A device that lost its disk counts its reports from 1 again.
        row.session, row.reported_seq = said.session, 0
    elif retained and not row.online:
        return Outcome.STALE  # kept by the broker from a connection that has ended since
    row.online = said.online
    if newly or not retained:
        row.last_seen = now
    return Outcome.APPLIED


def _reported(session: Session, topic: Topic, payload: bytes, _retained: bool, now: float) -> Outcome:
    said = wire.decode(Reported, payload, what=str(topic))
    _check_counts(seq=said.seq, gen=said.gen)
    row = _device(session, topic.tenant, topic.device, now)
    row.last_seen = now
    if said.seq <= row.reported_seq:
        return Outcome.DUPLICATE
    row.reported_seq, row.reported_gen, row.agent_version = said.seq, said.gen, said.agent_version
    row.fingerprint, row.active = wire.encode(said.fingerprint), wire.encode(said.active)
    return Outcome.APPLIED


def _event(session: Session, topic: Topic, payload: bytes, _retained: bool, now: float) -> Outcome:
    said = wire.decode(ExecutionEvent, payload, what=str(topic))
    _same_execution(topic, said.execution)
    return _record(session, _execution(session, topic.device, said.execution), said, now)


def _benchmark(session: Session, topic: Topic, payload: bytes, _retained: bool, now: float) -> Outcome:
    said = wire.decode(BenchmarkMessage, payload, what=str(topic))
    _check_counts(seq=said.seq)
    _same_execution(topic, said.execution)
    execution = _execution(session, topic.device, said.execution)
    known = select(BenchmarkRow).where(BenchmarkRow.execution == execution.id, BenchmarkRow.seq == said.seq)
    if session.scalars(known).first() is not None:
        return Outcome.DUPLICATE
    session.add(
        BenchmarkRow(
            execution=execution.id,
            seq=said.seq,
            device=execution.device,
            artifact=said.report.artifact,
            profile=said.profile,
            target=said.target,
            precision=said.precision,
            received_at=now,
            report=wire.encode(said.report),
        )
    )
    _heard(session, execution.device, now)
    return Outcome.APPLIED


_Handler = Callable[[Session, Topic, bytes, bool, float], Outcome]
_HANDLERS: Mapping[Channel, _Handler] = {
    Channel.PRESENCE:  _presence,
    Channel.REPORTED:  _reported,
    Channel.EXECUTION: _event,
    Channel.BENCHMARK: _benchmark,
}  # fmt: skip


def _record(session: Session, execution: ExecutionRow, said: ExecutionEvent, now: float) -> Outcome:
    _check_counts(seq=said.seq)
    _heard(session, execution.device, now)
    if session.get(ExecutionEventRow, (execution.id, said.seq)) is not None:
        return Outcome.DUPLICATE
    row = ExecutionEventRow(
        execution=execution.id,
        seq=said.seq,
        state=said.state,
        at=said.at,
        received_at=now,
        reason=said.reason,
        detail=said.detail,
        artifact=said.artifact,
        applied=False,
    )
    session.add(row)
    session.flush()
    if not execution.closed:
        _apply(session, execution, now)
    if row.applied:
        return Outcome.APPLIED
    if said.state is not execution.state:
        _log.warning(
            "execution %s of %s: event %d says %s, which cannot follow; kept, not applied (state is %s)",
            execution.id, execution.device, said.seq, said.state, execution.state,
        )  # fmt: skip
    return Outcome.REJECTED


def _apply(session: Session, execution: ExecutionRow, now: float) -> None:
    """Bring the execution, its events and its rollout to what the events now say together."""
    query = select(ExecutionEventRow).where(ExecutionEventRow.execution == execution.id)
    rows = {row.seq: row for row in session.scalars(query)}
    story = replay(rows.values())
    for row in rows.values():
        row.applied = row.seq in story.applied
    if not story.applied:
        return
    last = rows[story.applied[-1]]
    ended_before = execution.state in TERMINAL_EXECUTION_STATES
    execution.state, execution.reason, execution.detail = story.state, last.reason, last.detail
    execution.updated_at = now
    if ended_before or story.state in TERMINAL_EXECUTION_STATES:
        refresh_state(session, execution.rollout)


def _execution(session: Session, device: DeviceId, ref: ExecutionId) -> ExecutionRow:
    row = session.scalars(select(ExecutionRow).where(ExecutionRow.id == ref)).first()
    if row is None or row.device != device:
        raise NotFound(
            "execution-unknown",
            f"{device} has no execution {ref}",
            next_step="drop what is said of it; the registry that started it is not this one, or was restored",
        )
    return row


def _same_execution(topic: Topic, execution: ExecutionId) -> None:
    if topic.execution != execution:
        raise UserError(
            "topic-execution-mismatch",
            "the message is of another execution than its topic",
            expected=str(topic.execution),
            found=execution[:100],
        )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not 0 <= count <= _MAX_COUNT:
            raise UserError("count-malformed", f"{name} is no count", expected=f"0 to {_MAX_COUNT}", found=str(count))


def _heard(session: Session, device: str, now: float) -> None:
    session.get_one(DeviceRow, device).last_seen = now


def _device(session: Session, tenant: TenantId, device: DeviceId, now: float) -> DeviceRow:
    row = session.get(DeviceRow, device)
    if row is None:
        row = DeviceRow(
            id=device,
            tenant=tenant,
            online=False,
            session=None,
            last_seen=now,
            reported_seq=0,
            reported_gen=0,
            agent_version=None,
            fingerprint=None,
            active=None,
        )
        session.add(row)
        session.flush()
        _log.info("device %s was heard for the first time", device)
    return row
