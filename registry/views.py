"""Rows as the documents of contracts/api.py. Reads only; a fixed number of queries however many devices there are."""

from __future__ import annotations

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from edgewright.contracts import wire
from edgewright.contracts.api import Device, Execution, Fleet, Rollout, RunningModel
from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.errors import NotFound, did_you_mean
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import DeviceId, ExecutionId, ReleaseRef, RolloutId
from edgewright.contracts.messages import ActiveModel
from edgewright.registry.releases import precisions
from edgewright.registry.tables import BenchmarkRow, DeviceRow, ExecutionRow, RolloutRow

_UNKNOWN_PRECISION = "unknown"


def rollout(session: Session, ref: RolloutId) -> Rollout:
    """One rollout. Raises NotFound `rollout-unknown`."""
    row = session.get(RolloutRow, ref)
    if row is None:
        known = session.scalars(select(RolloutRow.id)).all()
        raise NotFound(
            "rollout-unknown",
            f"there is no rollout {ref}",
            next_step=did_you_mean(ref, known, "see `edgewright rollout list`"),
        )
    return _rollouts(session, select(RolloutRow).where(RolloutRow.id == ref))[0]


def rollouts(session: Session) -> tuple[Rollout, ...]:
    """All rollouts, the newest first."""
    return _rollouts(session, select(RolloutRow).order_by(RolloutRow.created_at.desc(), RolloutRow.id))


def device(session: Session, ref: DeviceId) -> Device:
    """One device. Raises NotFound `device-unknown`."""
    row = session.get(DeviceRow, ref)
    if row is None:
        known = session.scalars(select(DeviceRow.id)).all()
        raise NotFound(
            "device-unknown",
            f"no device {ref} has ever been heard",
            next_step=did_you_mean(ref, known, "see `edgewright fleet status`"),
        )
    return _devices(session, select(DeviceRow).where(DeviceRow.id == ref))[0]


def fleet(session: Session) -> Fleet:
    """All devices, by name."""
    return Fleet(devices=_devices(session, select(DeviceRow).order_by(DeviceRow.id)))


def _rollouts(session: Session, query: Select[RolloutRow]) -> tuple[Rollout, ...]:
    rows = session.scalars(query).all()
    theirs = select(ExecutionRow).where(ExecutionRow.rollout.in_(query.with_only_columns(RolloutRow.id).order_by(None)))
    executions: dict[str, list[Execution]] = {row.id: [] for row in rows}
    for row, execution in _executions(session, theirs.order_by(ExecutionRow.device)):
        executions[row.rollout].append(execution)
    return tuple(
        Rollout(
            id=RolloutId(row.id),
            release=ReleaseRef(row.release_name, row.release_version),
            state=row.state,
            created_at=row.created_at,
            executions=tuple(executions[row.id]),
        )
        for row in rows
    )


def _executions(session: Session, query: Select[ExecutionRow]) -> list[tuple[ExecutionRow, Execution]]:
    theirs = query.with_only_columns(ExecutionRow.id).order_by(None)
    measured = select(BenchmarkRow).where(BenchmarkRow.execution.in_(theirs)).order_by(BenchmarkRow.number)
    reports = {row.execution: _report(row) for row in session.scalars(measured)}  # the last of each wins
    return [
        (
            row,
            Execution(
                id=ExecutionId(row.id),
                device=DeviceId(row.device),
                state=row.state,
                reason=row.reason,
                detail=row.detail,
                updated_at=row.updated_at,
                benchmark=reports.get(row.id),
            ),
        )
        for row in session.scalars(query)
    ]


def _devices(session: Session, query: Select[DeviceRow]) -> tuple[Device, ...]:
    rows = session.scalars(query).all()
    names = query.with_only_columns(DeviceRow.id).order_by(None)
    latest = select(func.max(ExecutionRow.number)).where(ExecutionRow.device.in_(names)).group_by(ExecutionRow.device)
    newest = select(ExecutionRow).where(ExecutionRow.number.in_(latest))
    executions = {row.device: execution for row, execution in _executions(session, newest)}
    active = {row.id: _active(row) for row in rows}
    precision = precisions(session, {model.artifact for models in active.values() for model in models})
    reports = _last_reports(session, names)
    return tuple(
        Device(
            id=DeviceId(row.id),
            online=row.online,
            last_seen=row.last_seen,
            fingerprint=None if row.fingerprint is None else wire.decode(Fingerprint, row.fingerprint, what=row.id),
            running=tuple(
                RunningModel(
                    model=model,
                    precision=precision.get(model.artifact, _UNKNOWN_PRECISION),
                    benchmark=reports.get((row.id, model.artifact)),
                )
                for model in active[row.id]
            ),
            execution=executions.get(row.id),
        )
        for row in rows
    )


def _active(row: DeviceRow) -> tuple[ActiveModel, ...]:
    return () if row.active is None else wire.decode(tuple[ActiveModel, ...], row.active, what=row.id)


def _last_reports(session: Session, devices: Select[str]) -> dict[tuple[str, str], BenchmarkReport]:
    latest = (
        select(func.max(BenchmarkRow.number))
        .where(BenchmarkRow.device.in_(devices))
        .group_by(BenchmarkRow.device, BenchmarkRow.artifact)
    )
    rows = session.scalars(select(BenchmarkRow).where(BenchmarkRow.number.in_(latest)))
    return {(row.device, row.artifact): _report(row) for row in rows}


def _report(row: BenchmarkRow) -> BenchmarkReport:
    return wire.decode(BenchmarkReport, row.report, what=f"benchmark of {row.execution}")
