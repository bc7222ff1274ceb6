"""The whole agent but the runtime: a real broker, a real HTTP registry, a real disk, trials as scripted."""

import os
import signal
import threading
from contextlib import contextmanager

import agent_world as world
import pytest
from agent_world import wait_until
from broker import broker, ear, needs_mosquitto
from disks import killing_disk

from edgewright.contracts.api import MqttEndpoint
from edgewright.contracts.errors import DeviceError
from edgewright.contracts.ids import DEFAULT_TENANT, DeviceId
from edgewright.contracts.messages import BenchmarkMessage, Desired, ExecutionEvent, Policy, Presence, Reported
from edgewright.contracts.states import ExecutionState as S
from edgewright.contracts.wire import decode, encode
from edgewright.edge_agent.agent import Agent, Periods
from edgewright.edge_agent.backoff import Backoff
from edgewright.edge_agent.download import Downloader, Limits
from edgewright.edge_agent.effects import Outside
from edgewright.edge_agent.storage import STATE_NAME, Disk, load_state
from edgewright.edge_agent.transport import MqttLink
from edgewright.edge_agent.web import Web
from edgewright.hardware_profiles.selection import Choice

DEVICE = DeviceId("bench-1")
DESIRED = f"ew/v1/default/d/{DEVICE}/desired"
SOON = Backoff(base_s=0.05, cap_s=0.2)
ONE, TWO = world.artifact("one"), world.artifact("two")
GOOD_WAY = [
    S.ACCEPTED,
    S.DOWNLOADING,
    S.VERIFYING,
    S.STAGED,
    S.PROBING,
    S.BENCHMARKING,
    S.ACTIVATING,
    S.SOAKING,
    S.SUCCEEDED,
]


class NoLink:
    def start(self, put):
        pass

    def publish(self, channel, execution, payload):
        return None

    def stop(self):
        pass


def first(candidates):
    if not candidates:
        raise DeviceError("no-artifact-fits", "nothing fits", found="no candidates")
    return Choice(candidate=candidates[0], reasons=("it is the first",), refused=())


def agent(data, registry, *, link=None, trials=None, disk=None, periods=None):
    disk = disk or Disk()
    web = Web(registry.url)
    return Agent(
        device_id=DEVICE,
        fingerprint=world.FINGERPRINT,
        outside=Outside(
            data=data,
            disk=disk,
            choose=first,
            downloader=Downloader(web, disk, limits=Limits(reserve_bytes=0), backoff=SOON),
            trials=trials or world.ScriptedTrials(),
            clock=lambda: 1000.0,
        ),
        link=link or NoLink(),
        web=web,
        backoff=SOON,
        periods=periods or Periods(reconcile_s=60, resend_s=0.2, save_again_s=0.05),
    )


@contextmanager
def running(*arguments, **fields):
    """An agent on a thread; ended, and its failure raised, with the block."""
    one, failures = agent(*arguments, **fields), []

    def run():
        try:
            one.run()
        except BaseException as error:  # noqa: BLE001 - raised again, as a failed assertion
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join(10)
    assert not thread.is_alive()
    assert failures == []


@pytest.fixture
def registry():
    with world.registry() as server:
        server.add(ONE, TWO)
        yield server


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def mqtt(tmp_path):
    with broker(tmp_path) as one:
        yield one


def link(mqtt):
    return MqttLink(DEFAULT_TENANT, DEVICE, lambda: MqttEndpoint(host="127.0.0.1", port=mqtt.port), SOON)


def wants(gen, *artifacts, **fields):
    """The generation `gen`: execution and version carry its number."""
    return Desired(
        gen=gen,
        assignments=(world.assignment(f"e{gen}", f"m:{gen}", tuple(a.candidate for a in artifacts), **fields),),
    )


def serve_desired(registry, desired):
    registry.bodies[f"/v1/devices/{DEVICE}/desired"] = encode(desired)


def events(one_ear, execution=None):
    """Each event once, in the order of arrival."""
    found = dict.fromkeys(decode(ExecutionEvent, payload, what="event") for payload in one_ear.on("exec"))
    return [event for event in found if execution in (None, event.execution)]


def states(one_ear, execution=None):
    """The states in the order in which they were lived: what is said again may arrive later than what follows."""
    return [event.state for event in sorted(events(one_ear, execution), key=lambda event: event.seq)]


def ended(data):
    """The state of the model's latest execution, once it has ended."""
    if not (data / STATE_NAME).exists():
        return None
    model = load_state(data).models.get("m")
    return model.run.state if model and model.run and not model.run.live else None


def what_applications_find(data):
    root = (data / "models" / "m" / "current").resolve()  # once: a switch between two files would mix two models
    for one in (ONE, TWO):
        if (root / "manifest.json").read_bytes() == one.blobs[one.digest]:
            for entry in one.manifest.files:
                assert (root / entry.path).read_bytes() == one.blobs[entry.digest]
            return one
    raise AssertionError("a mixture")


def active(data, registry):
    """Bring artifact ONE to the device, without a broker."""
    serve_desired(registry, wants(1, ONE))
    with running(data, registry):
        wait_until(lambda: ended(data))
    assert ended(data) is S.SUCCEEDED


@needs_mosquitto
def test_what_is_desired_over_mqtt_is_proved_activated_and_reported(data, registry, mqtt):
    mqtt.start()
    with ear(mqtt.port) as cloud, running(data, registry, link=link(mqtt)):
        cloud.say(DESIRED, encode(wants(1, ONE)))
        wait_until(lambda: S.SUCCEEDED in states(cloud))
        wait_until(lambda: decode(Reported, cloud.on("reported")[-1], what="reported").active)
        wait_until(lambda: not load_state(data).outbox)
    assert [event.state for event in events(cloud)] == GOOD_WAY  # in this order, too
    assert what_applications_find(data) is ONE
    (measured,) = (decode(BenchmarkMessage, payload, what="benchmark") for payload in cloud.on("bench"))
    assert (measured.report.artifact, measured.execution) == (ONE.digest, "e1")
    reported = decode(Reported, cloud.on("reported")[-1], what="reported")
    assert (reported.gen, reported.active[0].artifact, reported.active[0].slot) == (1, ONE.digest, "a")
    assert reported.fingerprint == world.FINGERPRINT


@needs_mosquitto
def test_a_release_of_the_artifact_that_runs_already_is_reported_by_its_new_name(data, registry, mqtt):
    active(data, registry)
    mqtt.start()
    with ear(mqtt.port) as cloud, running(data, registry, link=link(mqtt)):
        cloud.say(DESIRED, encode(wants(2, ONE)))
        wait_until(lambda: S.NOOP in states(cloud))
        wait_until(lambda: decode(Reported, cloud.on("reported")[-1], what="reported").active[0].release.version == "2")


@needs_mosquitto
def test_presence_says_when_it_is_there_and_when_it_has_gone(data, registry, mqtt):
    mqtt.start()
    with ear(mqtt.port) as cloud:
        with running(data, registry, link=link(mqtt)):
            wait_until(lambda: cloud.on("presence"))
        wait_until(lambda: len(cloud.on("presence")) == 2)
    there, gone = (decode(Presence, payload, what="presence") for payload in cloud.on("presence"))
    assert (there.online, gone.online) == (True, False)
    assert there.session == gone.session


@needs_mosquitto
def test_a_broker_that_is_down_at_the_start_is_found_when_it_comes(data, registry, mqtt):
    active(data, registry)
    with running(data, registry, link=link(mqtt)):
        assert what_applications_find(data) is ONE
        mqtt.start()
        with ear(mqtt.port) as cloud:
            wait_until(lambda: cloud.on("reported"))
            wait_until(lambda: S.SUCCEEDED in states(cloud))
            wait_until(lambda: not load_state(data).outbox)
    assert states(cloud) == GOOD_WAY


@needs_mosquitto
def test_a_broker_that_dies_in_the_middle_costs_no_message(data, registry, mqtt):
    trials = world.ScriptedTrials(hold=True)
    mqtt.start()
    with running(data, registry, link=link(mqtt), trials=trials):
        with ear(mqtt.port) as cloud:
            cloud.say(DESIRED, encode(wants(1, ONE)))
            wait_until(lambda: S.BENCHMARKING in states(cloud))
        mqtt.kill()
        trials.hold = False
        wait_until(lambda: ended(data))
        mqtt.start()
        with ear(mqtt.port) as again:
            wait_until(lambda: S.SUCCEEDED in states(again))
            wait_until(lambda: not load_state(data).outbox)
    heard = list(dict.fromkeys(states(cloud) + states(again)))
    assert heard == GOOD_WAY


@needs_mosquitto
def test_what_a_broker_took_for_nobody_is_said_again(data, registry, mqtt):
    mqtt.start()
    serve_desired(registry, wants(1, ONE))
    with running(data, registry, link=link(mqtt)):
        wait_until(lambda: ended(data))
        with ear(mqtt.port) as cloud:
            wait_until(lambda: S.SUCCEEDED in states(cloud))
            wait_until(lambda: not load_state(data).outbox)
    assert states(cloud) == GOOD_WAY


@needs_mosquitto
def test_a_report_that_nobody_heard_is_made_again(data, registry, mqtt):
    mqtt.start()
    with running(data, registry, link=link(mqtt)):
        wait_until(lambda: (data / STATE_NAME).exists() and load_state(data).reported_seq)
        with ear(mqtt.port) as cloud:
            wait_until(lambda: cloud.on("reported"))


@needs_mosquitto
def test_a_desired_message_that_cannot_be_read_is_ignored(data, registry, mqtt):
    mqtt.start()
    with ear(mqtt.port) as cloud, running(data, registry, link=link(mqtt)):
        wait_until(lambda: cloud.on("reported"))
        evil = encode(wants(7, ONE)).replace(b"e7", b"+/#")
        for bad in (b"", b"\xff", b"{}", b'{"gen":9,"assignments":[{}]}', b"[" * 5000, evil):
            cloud.say(DESIRED, bad, retain=False)
        cloud.say(DESIRED, encode(wants(1, ONE)))
        wait_until(lambda: S.SUCCEEDED in states(cloud))


@needs_mosquitto
def test_a_newer_release_stops_the_old_one_in_the_middle_of_its_benchmark(data, registry, mqtt):
    trials = world.ScriptedTrials(hold=True)
    mqtt.start()
    with ear(mqtt.port) as cloud, running(data, registry, link=link(mqtt), trials=trials):
        cloud.say(DESIRED, encode(wants(1, ONE)))
        wait_until(lambda: S.BENCHMARKING in states(cloud, "e1"))
        cloud.say(DESIRED, encode(wants(2, TWO)))
        wait_until(lambda: S.BENCHMARKING in states(cloud, "e2"))
        trials.hold = False
        wait_until(lambda: S.SUCCEEDED in states(cloud, "e2"))
    assert states(cloud, "e1")[-1] is S.SUPERSEDED
    assert what_applications_find(data) is TWO


def test_without_a_broker_the_registry_alone_is_enough(data, registry):
    active(data, registry)
    assert what_applications_find(data) is ONE


def test_the_new_model_is_measured_against_the_active_one_and_the_old_slot_kept(data, registry):
    active(data, registry)
    trials = world.ScriptedTrials()
    serve_desired(registry, wants(2, TWO))
    with running(data, registry, trials=trials):
        wait_until(lambda: ended(data) and load_state(data).gen == 2)
    slots = data / "models" / "m" / "slots"
    assert trials.tried == [
        ("probe", slots / "b", None),
        ("benchmark", slots / "b", slots / "a"),
        ("probe", slots / "b", None),  # from the stable path, after the switch
    ]
    assert what_applications_find(data) is TWO
    assert (slots / "a" / "manifest.json").read_bytes() == ONE.blobs[ONE.digest]


def test_the_release_before_comes_back_without_a_download(data, registry):
    active(data, registry)
    serve_desired(registry, wants(2, TWO))
    with running(data, registry):
        wait_until(lambda: load_state(data).gen == 2 and ended(data))
    registry.requests.clear()
    serve_desired(registry, wants(3, ONE))
    with running(data, registry):
        wait_until(lambda: load_state(data).gen == 3 and ended(data))
    assert what_applications_find(data) is ONE
    assert not [request for request in registry.requests if "blobs" in request.path]


def test_a_switch_that_was_cut_off_is_finished_at_the_next_start(data, registry):
    active(data, registry)
    stable = data / "models" / "m" / "current"
    stable.unlink()
    with running(data, registry):
        wait_until(stable.is_symlink)
    assert what_applications_find(data) is ONE


@pytest.mark.parametrize("text", [None, b"", b'{"schema": 99}'], ids=["deleted", "cut", "other-schema"])
@pytest.mark.parametrize("slot", ["a", "b"])
def test_a_device_that_lost_its_state_keeps_its_model_and_takes_the_next_release(data, registry, text, slot):
    active(data, registry)
    if slot == "b":
        serve_desired(registry, wants(2, TWO))
        with running(data, registry):
            wait_until(lambda: load_state(data).gen == 2 and ended(data))
    kept, other = (ONE, TWO) if slot == "a" else (TWO, ONE)
    (data / STATE_NAME).unlink()
    if text is not None:
        (data / STATE_NAME).write_bytes(text)

    serve_desired(registry, wants(2, kept))  # what the registry told it last
    with running(data, registry):
        wait_until(lambda: (data / STATE_NAME).exists() and ended(data))
        assert what_applications_find(data) is kept
    assert ended(data) is S.NOOP
    assert load_state(data).models["m"].held.release.version == "2"

    serve_desired(registry, wants(3, other))
    with running(data, registry):
        wait_until(lambda: load_state(data).gen == 3 and ended(data))
    assert ended(data) is S.SUCCEEDED
    assert what_applications_find(data) is other


@pytest.mark.parametrize(
    ("trials", "policy", "end"),
    [
        (world.ScriptedTrials(probes=[False]), Policy(), S.GATED),
        (world.ScriptedTrials(probes=[DeviceError("artifact-crashed", "it crashed")]), Policy(), S.FAILED),
        (world.ScriptedTrials(speedup_low=0.5), Policy(min_speedup=1.0), S.GATED),
        (world.ScriptedTrials(probes=[True, False]), Policy(), S.ROLLED_BACK),
        (world.ScriptedTrials(probes=[True, DeviceError("artifact-timeout", "it hung")]), Policy(), S.ROLLED_BACK),
    ],
)
def test_a_release_that_is_not_good_leaves_the_device_as_it_was(data, registry, trials, policy, end):
    active(data, registry)
    serve_desired(registry, wants(2, TWO, policy=policy))
    with running(data, registry, trials=trials):
        wait_until(lambda: load_state(data).gen == 2 and ended(data))
        wait_until(lambda: what_applications_find(data) is ONE)
    assert ended(data) is end


def test_a_release_with_nothing_for_this_device_is_rejected(data, registry):
    serve_desired(registry, wants(1))
    with running(data, registry):
        wait_until(lambda: ended(data))
    assert ended(data) is S.REJECTED


def test_a_deadline_in_the_past_ends_it_before_anything_is_switched(data, registry):
    serve_desired(registry, wants(1, ONE, deadline=1.0))
    with running(data, registry, trials=world.ScriptedTrials(hold=True)):
        wait_until(lambda: ended(data))
    assert ended(data) is S.TIMED_OUT


def test_a_state_that_cannot_be_saved_is_tried_again_and_nothing_is_done_before(data, registry):
    class Full(Disk):
        left = 3

        def write(self, path, content):
            if path.name.startswith(STATE_NAME) and self.left:
                assert not (data / "models").exists()
                self.left -= 1
                raise OSError(28, os.strerror(28))
            super().write(path, content)

    serve_desired(registry, wants(1, ONE))
    with running(data, registry, disk=Full()):
        wait_until(lambda: ended(data))
    assert ended(data) is S.SUCCEEDED


@needs_mosquitto
def test_a_report_whose_number_cannot_be_saved_is_made_when_it_can(data, registry, mqtt):
    class FullOnce(Disk):
        full = True

        def write(self, path, content):
            if b'"reported_seq":1,' in content and self.full:
                self.full = False
                raise OSError(28, os.strerror(28))
            super().write(path, content)

    mqtt.start()
    disk = FullOnce()
    with ear(mqtt.port) as cloud, running(data, registry, link=link(mqtt), disk=disk):
        wait_until(lambda: cloud.on("reported"))
    assert not disk.full


def test_a_registry_that_comes_late_is_found(data, registry):
    path = f"/v1/devices/{DEVICE}/desired"
    registry.faults[path] = [world.status(503)] * 5
    serve_desired(registry, wants(1, ONE))
    with running(data, registry):
        wait_until(lambda: ended(data))
    assert ended(data) is S.SUCCEEDED


def in_a_child(data, registry, disk):
    """Run an agent in a forked process until its execution has ended. Whether it lived to see that."""
    pid = os.fork()
    if pid == 0:
        try:
            with running(data, registry, disk=disk):
                wait_until(lambda: load_state(data).gen == 2 and ended(data))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status == 0


# Other tests of this process may have loaded JAX, which warns of every fork; the forked agent never comes near it.
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
def test_killed_before_any_step_on_disk_it_goes_on_and_applications_never_miss_a_model(data, registry):
    active(data, registry)
    kept = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    serve_desired(registry, wants(2, TWO))
    cut = 0
    while True:
        cut += 1
        lived = in_a_child(data, registry, killing_disk(cut))
        assert what_applications_find(data) in (ONE, TWO)
        if lived:
            break
        assert in_a_child(data, registry, Disk())
        assert ended(data) is S.SUCCEEDED
        assert what_applications_find(data) is TWO
        back_to(data, kept)
    assert cut > 40


def back_to(data, kept):
    """The device as it was before the update."""
    stable = data / "models" / "m" / "current"
    for path in sorted(data.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(data) not in kept:
            path.unlink()
    for path, content in kept.items():
        (data / path).write_bytes(content)
    stable.unlink()
    stable.symlink_to("slots/a")
