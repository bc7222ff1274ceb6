"""The database: SQLite in WAL mode, one file.

Rules: whoever writes opens his transaction with `write()`, which takes SQLite's write lock at once (BEGIN IMMEDIATE):
what it has read is still true when it writes, and it never dies of a lock it cannot upgrade. A commit is on disk when
it returns (synchronous=FULL), because messages are acknowledged on the strength of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

from edgewright.registry.tables import Base

_LOCK_TIMEOUT_S = 30.0
_BEGIN = "edgewright_begin"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class Database:
    """Sessions on the SQLite file `path`, which is made, with its tables, when it is not there."""

    def __init__(self, path: Path) -> None:
        self._engine = _sqlite_engine(path)
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        Base.metadata.create_all(self._writer)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database throughout, and changes nothing."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back when an exception leaves it."""
        with Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _LOCK_TIMEOUT_S, "check_same_thread": False},
        pool_size=16,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # The driver must not open transactions on its own: `begin` below says how.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine
