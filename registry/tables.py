"""The database's tables.

Rules: times are seconds since 1970 (UTC). Documents of contracts/ are kept as their canonical JSON, and only what is
searched or joined is a column of its own. States are text, as in contracts/states.py.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum, ForeignKey, ForeignKeyConstraint, Index, LargeBinary, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from edgewright.contracts.states import ExecutionState, RolloutState

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def _text(kind: type[StrEnum]) -> Enum:
    # Left alone, SQLAlchemy stores the members' Python names.
    return Enum(kind, native_enum=False, length=32, values_callable=lambda members: [str(each) for each in members])


class Base(DeclarativeBase):
    """Root of the models. Constraints are named, so that they can be altered later."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        bytes: LargeBinary,
        ExecutionState: _text(ExecutionState),
        RolloutState: _text(RolloutState),
    }


class ReleaseRow(Base):
    """A published release. Never changed."""

    __tablename__ = "release"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]


class ArtifactRow(Base):
    """One artifact of a release. `manifest` is the manifest's bytes, whose digest is `digest`."""

    __tablename__ = "artifact"
    __table_args__ = (ForeignKeyConstraint(["release_name", "release_version"], ["release.name", "release.version"]),)

    release_name: Mapped[str] = mapped_column(primary_key=True)
    release_version: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True, index=True)
    manifest: Mapped[bytes]


class DeviceRow(Base):
    """A device, from the first time it was heard.

    `session` is the connection it was heard on last; `reported_seq` counts within it. `fingerprint` and `active`
    (what runs on it) are documents; None: it has not said yet.
    """

    __tablename__ = "device"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    online: Mapped[bool]
    session: Mapped[str | None]
    last_seen: Mapped[float]
    reported_seq: Mapped[int]
    reported_gen: Mapped[int]
    agent_version: Mapped[str | None]
    fingerprint: Mapped[bytes | None]
    active: Mapped[bytes | None]


class DesiredRow(Base):
    """What a device shall run: the document that is published, with its generation, which only grows."""

    __tablename__ = "desired"

    device: Mapped[str] = mapped_column(ForeignKey("device.id"), primary_key=True)
    gen: Mapped[int]
    document: Mapped[bytes]


class RolloutRow(Base):
    """A rollout. `state` follows from its executions."""

    __tablename__ = "rollout"
    __table_args__ = (ForeignKeyConstraint(["release_name", "release_version"], ["release.name", "release.version"]),)

    id: Mapped[str] = mapped_column(primary_key=True)
    release_name: Mapped[str]
    release_version: Mapped[str]
    policy: Mapped[bytes]
    state: Mapped[RolloutState]
    created_at: Mapped[float] = mapped_column(index=True)


class ExecutionRow(Base):
    """One device's part in a rollout. A larger `number` is a later one.

    `gen` is the desired generation that brought it. `closed`: the cloud ended it, and no event moves it any more.
    """

    __tablename__ = "execution"
    __table_args__ = (Index(None, "device", "model"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    rollout: Mapped[str] = mapped_column(ForeignKey("rollout.id"), index=True)
    device: Mapped[str] = mapped_column(ForeignKey("device.id"))
    model: Mapped[str]
    gen: Mapped[int]
    state: Mapped[ExecutionState]
    closed: Mapped[bool]
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    updated_at: Mapped[float]


class ExecutionEventRow(Base):
    """One event of an execution, as it was received. `applied`: it moved the execution; else it could not have been."""

    __tablename__ = "execution_event"

    execution: Mapped[str] = mapped_column(ForeignKey("execution.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[ExecutionState]
    at: Mapped[float]
    received_at: Mapped[float]
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    artifact: Mapped[str | None]
    applied: Mapped[bool]


class BenchmarkRow(Base):
    """What a device measured for an execution. `report` is the whole BenchmarkReport. A larger `number` came later."""

    __tablename__ = "benchmark"
    __table_args__ = (UniqueConstraint("execution", "seq"), Index(None, "device", "artifact"))

    number: Mapped[int] = mapped_column(primary_key=True)
    execution: Mapped[str] = mapped_column(ForeignKey("execution.id"))
    seq: Mapped[int]
    device: Mapped[str] = mapped_column(ForeignKey("device.id"))
    artifact: Mapped[str]
    profile: Mapped[str]
    target: Mapped[str]
    precision: Mapped[str]
    received_at: Mapped[float]
    report: Mapped[bytes]
