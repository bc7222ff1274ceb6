"""Rollouts in the database: created in one transaction, and re-derived whenever an execution moves."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewright.contracts import wire
from edgewright.contracts.api import NewRollout, Rollout
from edgewright.contracts.errors import NotFound, UserError, did_you_mean
from edgewright.contracts.ids import DeviceId, ExecutionId, RolloutId
from edgewright.contracts.messages import Desired
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState, RolloutState
from edgewright.registry import views
from edgewright.registry.ledger import rollout_state
from edgewright.registry.planning import NOTHING_DESIRED, DevicePlan, DeviceState, plan
from edgewright.registry.releases import release
from edgewright.registry.rules import check_policy
from edgewright.registry.tables import DesiredRow, DeviceRow, ExecutionRow, RolloutRow


def create(session: Session, new: NewRollout, now: float) -> Rollout:
    """Save a rollout with its executions and the devices' new desired states. Nothing is sent from here.

    Raises:
        NotFound: `release-unknown`, `device-unknown`.
        UserError: `rollout-no-devices`, `policy-malformed`.
    """
    check_policy(new.policy)
    published = release(session, new.release)
    devices = _devices(session, new.devices)
    unfinished = _unfinished(session, new.release.name, set(devices))
    desired_rows = {row.device: row for row in session.scalars(select(DesiredRow))}
    reported = {row.id: row.reported_gen for row in session.scalars(select(DeviceRow))}
    rollout = RolloutId(f"r-{secrets.token_hex(5)}")
    plans = plan(
        rollout,
        published,
        new.policy,
        [
            DeviceState(
                device=device,
                desired=_document(desired_rows.get(device)),
                reported_gen=reported[device],
                unfinished=tuple(ExecutionId(row.id) for row in unfinished.get(device, ())),
            )
            for device in devices
        ],
        new_id=lambda: ExecutionId(uuid.uuid4().hex),
    )
    session.add(
        RolloutRow(
            id=rollout,
            release_name=new.release.name,
            release_version=new.release.version,
            policy=wire.encode(new.policy),
            state=RolloutState.RUNNING,
            created_at=now,
        )
    )
    session.flush()
    session.add_all(_execution(rollout, new.release.name, each, now) for each in plans)
    for each in plans:
        _save_desired(session, desired_rows.get(each.device), each)
    _supersede(session, [row for rows in unfinished.values() for row in rows], rollout, now)
    session.flush()
    return views.rollout(session, rollout)


def desired(session: Session, device: DeviceId) -> Desired:
    """What `device` shall run. Nothing, in generation 0, for a device that was never given anything."""
    return _document(session.get(DesiredRow, device))


def mark_offered(session: Session, device: DeviceId, gen: int, now: float) -> None:
    """The broker holds generation `gen` of `device`: what was queued up to it has been offered."""
    queued = select(ExecutionRow).where(
        ExecutionRow.device == device, ExecutionRow.state == ExecutionState.QUEUED, ExecutionRow.gen <= gen
    )
    for row in session.scalars(queued):
        row.state, row.updated_at = ExecutionState.OFFERED, now


def refresh_state(session: Session, rollout: str) -> None:
    """Derive the rollout's state from its executions, in the transaction that has moved one of them."""
    session.flush()
    states = session.scalars(select(ExecutionRow.state).where(ExecutionRow.rollout == rollout).distinct())
    session.get_one(RolloutRow, rollout).state = rollout_state(states)


def _devices(session: Session, wanted: Sequence[DeviceId] | None) -> list[DeviceId]:
    known = [DeviceId(each) for each in session.scalars(select(DeviceRow.id).order_by(DeviceRow.id))]
    if wanted is None:
        wanted = known
    for device in wanted:
        if device not in known:
            raise NotFound(
                "device-unknown",
                f"no device {device} has ever been heard",
                next_step=did_you_mean(device, known, "see `edgewright fleet status`; start its agent once"),
            )
    if not wanted:
        raise UserError(
            "rollout-no-devices",
            "the rollout would reach no device, so it was not created",
            next_step="start `edgewright-agent run` on a device, see it in `edgewright fleet status`, and try again",
        )
    return list(dict.fromkeys(wanted))


def _document(row: DesiredRow | None) -> Desired:
    return NOTHING_DESIRED if row is None else wire.decode(Desired, row.document, what=f"desired state of {row.device}")


def _unfinished(session: Session, model: str, devices: set[DeviceId]) -> dict[DeviceId, list[ExecutionRow]]:
    query = select(ExecutionRow).where(
        ExecutionRow.model == model, ExecutionRow.state.not_in(TERMINAL_EXECUTION_STATES)
    )
    rows: dict[DeviceId, list[ExecutionRow]] = {}
    for row in session.scalars(query):
        if row.device in devices:
            rows.setdefault(DeviceId(row.device), []).append(row)
    return rows


def _supersede(session: Session, rows: Iterable[ExecutionRow], rollout: RolloutId, now: float) -> None:
    overtaken = set()
    for row in rows:
        row.state, row.closed, row.updated_at = ExecutionState.SUPERSEDED, True, now
        row.reason, row.detail = "superseded", f"rollout {rollout} brings a release of the same model"
        overtaken.add(row.rollout)
    for each in overtaken:
        refresh_state(session, each)


def _execution(rollout: RolloutId, model: str, planned: DevicePlan, now: float) -> ExecutionRow:
    return ExecutionRow(
        id=planned.execution,
        rollout=rollout,
        device=planned.device,
        model=model,
        gen=planned.desired.gen,
        state=ExecutionState.QUEUED,
        closed=False,
        reason=None,
        detail=None,
        updated_at=now,
    )


def _save_desired(session: Session, row: DesiredRow | None, planned: DevicePlan) -> None:
    document = wire.encode(planned.desired)
    if row is None:
        session.add(DesiredRow(device=planned.device, gen=planned.desired.gen, document=document))
    else:
        row.gen, row.document = planned.desired.gen, document
