"""`edgewright registry serve` as a process, with a real mosquitto, and a device played over MQTT."""

import json
import queue
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from edgewright.contracts import wire
from edgewright.contracts.ids import DEFAULT_TENANT, DeviceId, digest_of
from edgewright.contracts.messages import ActiveModel, BenchmarkMessage, Desired, ExecutionEvent, Presence, Reported
from edgewright.contracts.states import ExecutionState
from edgewright.contracts.topics import Channel, Topic
from edgewright.registry import views
from edgewright.registry.broker import Broker
from edgewright.registry.database import Database
from edgewright.registry.mqtt import MqttWorker
from edgewright.registry.ports import free_port

pytestmark = pytest.mark.usefixtures("needs_mosquitto")

WAIT_S = 20.0
EDGEWRIGHT = [sys.executable, "-m", "edgewright.cli"]


class Serving:
    """A registry process that is ready."""

    def __init__(self, process, ready):
        self.process = process
        self.url = ready["url"]
        self.mqtt_port = ready["mqtt"]["port"]
        (self.broker,) = psutil.Process(process.pid).children()

    def cli(self, *arguments, status=0):
        """Run a command with --json against this registry; its document."""
        done = subprocess.run(
            [*EDGEWRIGHT, *map(str, arguments), "--registry", self.url, "--json"], capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)


@contextmanager
def serving(data, *options):
    command = [*EDGEWRIGHT, "registry", "serve", "--data", str(data), "--port", "0", "--mqtt-port", "0", "--json"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Serving(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)


@pytest.fixture
def registry(tmp_path):
    with serving(tmp_path / "data") as registry:
        yield registry


def until(condition, what):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"not within {WAIT_S} s: {what}")


def gone(process: psutil.Process) -> bool:
    """Whether it runs no more; it may still wait for an init that never asks."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


class PlayedDevice:
    """Speaks MQTT as the agent does."""

    def __init__(self, name, port):
        self.name = DeviceId(name)
        self.desired: queue.SimpleQueue[Desired] = queue.SimpleQueue()
        self.sessions = 0
        self.confirmed = 0
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5)
        self.client.on_pre_connect = self.connecting
        self.client.on_publish = self.published
        self.client.on_connect = self.connected
        self.client.on_message = lambda _c, _u, m: self.desired.put(wire.decode(Desired, m.payload, what="desired"))
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def connecting(self, client, _userdata):
        self.sessions += 1  # the session names the connection
        client.will_set(self.topic(Channel.PRESENCE), self.presence(online=False), qos=1, retain=True)

    def connected(self, client, *_):
        client.subscribe(self.topic(Channel.DESIRED), qos=1)
        self.say(Channel.PRESENCE, self.presence(online=True), retain=True)

    def published(self, *_):
        self.confirmed += 1

    def presence(self, *, online):
        return wire.encode(Presence(session=f"{self.name}-{self.sessions}", online=online))

    def topic(self, channel, execution=None):
        return str(Topic(DEFAULT_TENANT, self.name, channel, execution))

    def say(self, channel, payload, execution=None, retain=False):
        data = payload if isinstance(payload, bytes) else wire.encode(payload)
        self.client.publish(self.topic(channel, execution), data, qos=1, retain=retain)

    def event(self, execution, seq, state, reason=None):
        said = ExecutionEvent(execution=execution, seq=seq, state=state, at=time.time(), reason=reason)
        self.say(Channel.EXECUTION, said, execution)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def played(name, port):
    device = PlayedDevice(name, port)
    try:
        yield device
    finally:
        device.close()


def published(registry, make_artifact, root, ref="digits:1"):
    make_artifact(root / "rpi-4", model=ref.split(":")[0], weights=ref.encode())
    return registry.cli("publish", root, "--release", ref)


def devices(registry):
    return {device["id"]: device for device in registry.cli("fleet", "status")["devices"]}


def fleet(registry):
    return {device["id"]: device for device in httpx.get(f"{registry.url}/v1/fleet").json()["devices"]}


def test_a_release_reaches_a_device_and_its_latency_comes_back(
    registry, make_artifact, make_report, fingerprint, tmp_path
):
    release = published(registry, make_artifact, tmp_path / "out")
    (artifact,) = release["artifacts"]
    assert release["uploaded_blobs"] == 3
    assert registry.cli("publish", tmp_path / "out", "--release", "digits:1")["uploaded_blobs"] == 0
    assert registry.cli("rollout", "create", "digits:1", status=2)["error"]["code"] == "rollout-no-devices"

    with played("alpha", registry.mqtt_port) as device:
        until(lambda: fleet(registry).get("alpha", {}).get("online"), "alpha is online")
        rollout = registry.cli("rollout", "create", "digits:1", "--device", "alpha", "--max-p95-us", "5000")
        (assignment,) = device.desired.get(timeout=WAIT_S).assignments
        assert assignment.rollout == rollout["id"]
        assert assignment.policy.max_p95_us == 5000
        assert assignment.candidates[0].artifact == artifact["digest"]
        blob = httpx.get(f"{registry.url}/v1/blobs/{assignment.candidates[0].artifact}").content
        assert digest_of(blob) == artifact["digest"]

        execution = assignment.execution
        until(lambda: state_of(registry, rollout) == "offered", "offered")
        # Nonsense between the lines must not stop anything.
        device.say(Channel.EXECUTION, b"\xff not json", execution)
        device.say(Channel.REPORTED, b"[]")
        device.event(execution, 2, ExecutionState.DOWNLOADING)
        device.event(execution, 1, ExecutionState.ACCEPTED)
        device.event(execution, 1, ExecutionState.ACCEPTED)
        report(device, assignment, make_report(artifact["digest"], p50_us=900.0), fingerprint)
        device.event(execution, 9, ExecutionState.SUCCEEDED)
        until(lambda: state_of(registry, rollout) == "succeeded", "succeeded")

        (shown,) = registry.cli("rollout", "list")["rollouts"]
        assert shown["state"] == "succeeded"
        assert shown["executions"][0]["benchmark"]["latency_us"]["p50"] == 900.0
        until(lambda: fleet(registry)["alpha"]["running"], "alpha has reported")
        alpha = devices(registry)["alpha"]
        assert alpha["running"][0]["precision"] == "int8"
        assert alpha["running"][0]["benchmark"]["latency_us"]["p50"] == 900.0
        assert alpha["fingerprint"]["board"].startswith("Raspberry Pi 4")
        counts = httpx.get(f"{registry.url}/readyz").json()["messages"]
        assert counts["malformed"] == 2
        assert counts["duplicate"] == 1
        device.client._sock_close()  # no goodbye: the broker sends the will
        device.client.loop_stop()
        until(lambda: not fleet(registry)["alpha"]["online"], "alpha is offline")


def report(device, assignment, benchmark, fingerprint):
    candidate = assignment.candidates[0]
    said = BenchmarkMessage(
        execution=assignment.execution,
        seq=3,
        release=assignment.release,
        profile=candidate.profile,
        target=candidate.target,
        precision=candidate.precision,
        report=benchmark,
    )
    device.say(Channel.BENCHMARK, said, assignment.execution)
    active = ActiveModel(
        release=assignment.release,
        artifact=candidate.artifact,
        profile=candidate.profile,
        target=candidate.target,
        slot="a",
    )
    device.say(
        Channel.REPORTED,
        Reported(gen=1, seq=1, active=(active,), fingerprint=fingerprint, agent_version="0.1.0"),
    )


def state_of(registry, rollout):
    return httpx.get(f"{registry.url}/v1/rollouts/{rollout['id']}").json()["executions"][0]["state"]


def test_waiting_for_a_rollout_tells_how_it_ended(registry, make_artifact, tmp_path):
    published(registry, make_artifact, tmp_path / "out")
    with played("alpha", registry.mqtt_port) as device:
        until(lambda: "alpha" in fleet(registry), "alpha is known")
        late = registry.cli("rollout", "create", "digits:1", "--wait", "--timeout", "0", status=5)
        assert late["error"]["code"] == "rollout-wait-timeout"
        assert "alpha" in late["error"]["found"]
        command = [*EDGEWRIGHT, "rollout", "create", "digits:1", "--wait", "--registry", registry.url]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        (assignment,) = until(lambda: newest(device, gen=2), "second rollout").assignments
        device.event(assignment.execution, 1, ExecutionState.REJECTED, "no-artifact-fits")
        out, _ = waiting.communicate(timeout=WAIT_S)
        assert waiting.returncode == 6
        assert "failed" in out
        assert "no-artifact-fits" in out


def newest(device, gen):
    desired = device.desired.get(timeout=WAIT_S)
    return desired if desired.gen == gen else None


def test_kill_9_leaves_no_broker_and_a_restart_tells_devices_again(make_artifact, tmp_path):
    with serving(tmp_path / "data") as registry:
        published(registry, make_artifact, tmp_path / "out")
        with played("alpha", registry.mqtt_port):
            until(lambda: "alpha" in fleet(registry), "alpha is known")
            rollout = registry.cli("rollout", "create", "digits:1")
        registry.process.kill()
        registry.process.wait()
        until(lambda: gone(registry.broker), "the broker has ended")
    # What the broker kept is worth nothing: the database is the truth.
    (tmp_path / "data/broker/mosquitto.db").unlink(missing_ok=True)
    with serving(tmp_path / "data") as registry, played("alpha", registry.mqtt_port) as device:
        told = device.desired.get(timeout=WAIT_S)
        assert told.assignments[0].rollout == rollout["id"]
        assert httpx.get(f"{registry.url}/v1/devices/alpha/desired").content == wire.encode(told)


def test_a_broker_that_dies_is_started_again_and_told_everything(registry, make_artifact, tmp_path):
    published(registry, make_artifact, tmp_path / "out")
    with played("alpha", registry.mqtt_port) as device:
        until(lambda: "alpha" in fleet(registry), "alpha is known")
        registry.cli("rollout", "create", "digits:1")
        first = device.desired.get(timeout=WAIT_S)
        registry.broker.kill()
        assert device.desired.get(timeout=WAIT_S) == first
        until(lambda: httpx.get(f"{registry.url}/readyz").status_code == 200, "ready again")
        until(lambda: fleet(registry)["alpha"]["online"], "alpha is back")
    (broker,) = psutil.Process(registry.process.pid).children()
    assert broker.pid != registry.broker.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_in_order(tmp_path, number):
    with serving(tmp_path / "data") as registry:
        registry.process.send_signal(number)
        registry.process.wait(WAIT_S)
        assert registry.process.returncode == 0
        assert gone(registry.broker)
    assert (tmp_path / "data/broker/mosquitto.db").exists()  # written when it ends by itself


def refused(data, *options):
    """Start a registry that does not start; its error."""
    command = [*EDGEWRIGHT, "registry", "serve", "--data", str(data), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 2
    return json.loads(done.stdout)["error"]


@pytest.mark.parametrize("spoiled", ["objects", "registry.db", "broker"])
def test_a_data_folder_that_cannot_be_used_is_said(tmp_path, spoiled, needs_mosquitto):
    (tmp_path / spoiled).write_text("neither a folder nor a database: " * 10)
    error = refused(tmp_path, "--port", "0", "--mqtt-port", "0")
    assert error["code"] == "data-folder-unusable"
    assert error["next"]


def test_one_data_folder_has_one_registry(registry, tmp_path):
    error = refused(tmp_path / "data", "--port", "0", "--mqtt-port", "0")
    assert error["code"] == "registry-in-use"
    assert str(registry.process.pid) in error["found"]


@pytest.mark.parametrize("option", ["--port", "--mqtt-port"])
def test_a_taken_port_is_named(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--mqtt-port" if option == "--port" else "--port"
        error = refused(tmp_path / "data", option, port, other, "0")
    assert error["code"] == "port-taken"
    assert port in error["what"]
    assert option in error["next"]


def test_a_missing_broker_is_said_with_how_to_install_it(tmp_path):
    code = (
        "import shutil, sys; shutil.which = lambda *_, **__: None\n"
        "from edgewright.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "registry", "serve", "--data", str(tmp_path / "data"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "mosquitto-missing")
    assert error["next"] == "apt-get install mosquitto"
    assert not (tmp_path / "data").exists()


def test_a_large_blob_goes_through_without_being_held_in_memory(registry):
    size, block = 96 << 20, bytes(1 << 20)
    before = peak_bytes(registry.process.pid)
    sha = digest_of(bytes(size))
    content = (block for _ in range(size // len(block)))
    assert httpx.put(f"{registry.url}/v1/blobs/{sha}", content=content).status_code == 201
    with httpx.stream("GET", f"{registry.url}/v1/blobs/{sha}") as response:
        assert sum(map(len, response.iter_bytes())) == size
    assert peak_bytes(registry.process.pid) - before < size / 3


def peak_bytes(pid):
    """The most memory a process has had so far."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_an_upload_that_breaks_off_leaves_nothing(registry, tmp_path):
    data = bytes(4 << 20)
    digest = digest_of(data)
    address = registry.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        head = f"PUT /v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[: 2 << 20])
        incoming = tmp_path / "data/objects/.incoming"
        until(lambda: any(incoming.iterdir()), "the upload has begun")
    until(lambda: not any(incoming.iterdir()), "the half upload is removed")
    assert httpx.head(f"{registry.url}/v1/blobs/{digest}").status_code == 404


def test_who_connected_before_the_registry_did_is_heard(tmp_path):
    port = free_port("127.0.0.1")
    database = Database(tmp_path / "registry.db")
    worker = MqttWorker(database, "127.0.0.1", port)
    broker = Broker(tmp_path / "broker", "127.0.0.1", port, before_start=worker.broker_starts)
    broker.start()
    try:
        with played("alpha", port) as device:
            until(lambda: device.confirmed, "the broker has alpha's presence")
            worker.start()
            try:
                until(lambda: online(database), "alpha is online")
            finally:
                worker.stop()
    finally:
        broker.stop()
        database.close()
    assert broker.pid is None


def online(database):
    with database.read() as session:
        return [device.online for device in views.fleet(session).devices] == [True]
