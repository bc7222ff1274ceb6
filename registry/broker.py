"""mosquitto as a child: configured, started, watched, restarted, and never left behind.

Rules:
- it listens on loopback only and takes anonymous clients: whoever may log in to this machine may speak;
- one thread starts it and stays until it has ended: the child is told to die with that very thread;
- a broker that ends on its own is started again on the same port, after a wait that doubles up to a bound.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgewright.contracts.errors import DeviceError, UserError
from edgewright.registry import broker_child
from edgewright.registry.ports import require_free

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_BACKOFF_S = (0.2, 10.0)
_STEADY_S = 60.0

_LOG = "mosquitto.log"

_CONFIGURATION = """\
# Written by `edgewright registry serve` at each start: changes are lost.
listener {port} {host}
allow_anonymous true
# Not to become another user: its files are ours, and the order to die with the registry is lost on a change of user.
user root
persistence true
persistence_location {folder}/
autosave_interval 60
max_inflight_messages 1000
max_queued_messages 100000
max_packet_size 1048576
set_tcp_nodelay true
sys_interval 0
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


class Broker:
    """A supervised mosquitto with its files in `folder`. `start` and `stop` once each.

    Args:
        folder: for its configuration, its database and its log.
        before_start: called each time before mosquitto is started: whoever was connected is not any more.
    """

    def __init__(self, folder: Path, host: str, port: int, before_start: Callable[[], None]) -> None:
        self._host = host
        self._port = port
        self._folder = folder
        self._before_start = before_start
        self._command: list[str] = []
        self._lock = threading.Lock()  # held while a process is started, so that none is started after `stop`
        self._stopping = threading.Event()
        self._tried = threading.Event()
        self._failure: Exception | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="broker", daemon=True)

    def start(self) -> None:
        """Start mosquitto, and return when it listens.

        Raises:
            UserError: `mosquitto-missing`, `port-taken`.
            DeviceError: `mosquitto-failed`, with what it said last.
        """
        program = find_mosquitto()
        require_free(self._host, self._port, option="--mqtt-port")
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(port=self._port, host=self._host, folder=self._folder.resolve())
        (self._folder / "mosquitto.conf").write_text(configuration)
        self._command = [
            *(sys.executable, "-I", "-S", str(Path(broker_child.__file__).resolve()), str(os.getpid())),
            *(program, "-c", str(self._folder / "mosquitto.conf")),
        ]
        self._thread.start()
        self._tried.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End mosquitto, and return when it has ended."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def pid(self) -> int | None:
        """The process, when it is running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    # The supervisor's thread.

    def _supervise(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                self._run_once()
            except (OSError, DeviceError) as error:
                if not self._tried.is_set():
                    self._failure = error
                    self._tried.set()
                    return
                _log.error("mosquitto could not be started again: %s", error)
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began > _STEADY_S else failures + 1
            least, most = _BACKOFF_S
            wait_s = random.uniform(least, min(most, least * 2**failures))
            _log.error("mosquitto has ended; starting it again in %.1f s. It said: %s", wait_s, self._last_words())
            if self._stopping.wait(wait_s):
                return

    def _run_once(self) -> None:
        """Start mosquitto and stay until it has ended."""
        self._before_start()
        with self._lock, (self._folder / _LOG).open("wb") as log:
            if self._stopping.is_set():
                return
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C in the terminal is for the registry, which then ends it in order
            )
        self._await_listening(process)
        self._tried.set()
        process.wait()

    def _await_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((self._host, self._port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        if self._stopping.is_set():
            return
        process.kill()
        process.wait()
        raise DeviceError(
            "mosquitto-failed",
            f"mosquitto does not listen on {self._host}:{self._port}",
            found=self._last_words(),
            next_step=f"see {self._folder / _LOG}; try it alone: mosquitto -c {self._folder / 'mosquitto.conf'}",
        )

    def _last_words(self) -> str:
        lines = (self._folder / _LOG).read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:]) or "nothing"


def find_mosquitto() -> str:
    """Path of the program. Raises UserError `mosquitto-missing`."""
    # Debian puts it where the PATH of an ordinary user does not look.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise UserError(
            "mosquitto-missing",
            "the registry needs the MQTT broker mosquitto, which is not installed",
            next_step="apt-get install mosquitto",
        )
    return program
