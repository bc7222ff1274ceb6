"""The whole registry in one process: composes the parts, starts them in order, ends them in the reverse order.

Rules:
- one process a data folder: it holds a lock on it for as long as it lives;
- ready means ready: the address is announced when the web API answers and the broker listens;
- SIGTERM and Ctrl-C are the ordinary ways to stop it, and end with status 0.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import DatabaseError

from edgewright.contracts.api import Endpoints, MqttEndpoint
from edgewright.contracts.errors import Conflict, UserError
from edgewright.registry import ports
from edgewright.registry.app import create_app
from edgewright.registry.broker import Broker, find_mosquitto
from edgewright.registry.database import Database
from edgewright.registry.folder_store import FolderStore
from edgewright.registry.mqtt import MqttWorker
from edgewright.registry.services import Services

_log = logging.getLogger(__name__)

_GRACE_S = 5


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Where the registry listens."""

    url: str
    mqtt: MqttEndpoint
    schema: int = 1


def serve(data: Path, *, host: str, port: int, mqtt_port: int, on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        data: the folder for everything; made when it is not there.
        host: where the web API listens; the broker listens on loopback only.
        port: of the web API; 0 picks a free one.
        mqtt_port: of the broker; 0 picks a free one.
        on_ready: called once, when everything answers.

    Raises:
        UserError: `registry-in-use`, `data-folder-unusable`, `port-taken`, `mosquitto-missing`.
        DeviceError: `mosquitto-failed`.
    """
    find_mosquitto()  # before anything is made
    with contextlib.ExitStack() as stack:
        stack.enter_context(_owned(data))
        listener = stack.enter_context(ports.listen(host, port, option="--port"))
        mqtt = MqttEndpoint(host=ports.LOOPBACK, port=mqtt_port or ports.free_port(ports.LOOPBACK))
        with _usable(data):
            store = FolderStore(data / "objects")
            database = Database(data / "registry.db")
        stack.callback(database.close)
        worker = MqttWorker(database, mqtt.host, mqtt.port)
        broker = Broker(data / "broker", mqtt.host, mqtt.port, before_start=worker.broker_starts)
        stack.callback(broker.stop)
        with _usable(data):
            broker.start()
        stack.callback(worker.stop)
        worker.start()
        app = create_app(
            Services(database=database, store=store, messages=worker, endpoints=Endpoints(mqtt=mqtt), clock=time.time)
        )
        ready = Ready(url=_url(listener), mqtt=mqtt)
        _Server(app, lambda: on_ready(ready)).run(sockets=[listener])
        _log.info("stopping")


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and for which a signal is an ordinary end."""

    should_exit: bool

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Announce when the sockets are served."""
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop; at the second signal without waiting for requests. uvicorn would raise the signal again at the end."""
        self.force_exit, self.should_exit = self.should_exit, True


def _url(listener: socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _usable(data: Path) -> Iterator[None]:
    """Turn what the disk or the database says while `data` is opened into a UserError `data-folder-unusable`."""
    try:
        yield
    except (OSError, DatabaseError) as error:
        raise UserError(
            "data-folder-unusable",
            f"{data} cannot be used as the registry's data folder",
            found=str(error.orig if isinstance(error, DatabaseError) else error),
            next_step="give --data a folder that this user may write, on a disk with room",
        ) from None


@contextmanager
def _owned(data: Path) -> Iterator[None]:
    """Hold the data folder for this process. The lock goes with the process, however it ends."""
    with _usable(data):
        data.mkdir(parents=True, exist_ok=True)
        handle = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "registry-in-use",
                f"another registry is serving {data}",
                found=f"process {file.read().strip() or 'unknown'}",
                next_step="stop that one, or give this one another folder: --data DIR",
            ) from None
        with _usable(data):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
