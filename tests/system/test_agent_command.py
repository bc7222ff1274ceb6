"""`edgewright-agent run` as a process."""

import json
import signal
import subprocess
import sys
import time

import pytest
from agent_world import wait_until
from broker import broker, ear, free_port, needs_mosquitto

from edgewright.contracts.messages import Presence, Reported
from edgewright.contracts.wire import decode


@pytest.fixture
def config(tmp_path):
    """Neither a registry nor a broker answers where this configuration says."""
    path = tmp_path / "agent.toml"
    path.write_text(
        f'device = "bench-1"\ndata = "data"\nregistry = "http://127.0.0.1:{free_port()}"\n'
        f'mqtt = {{host = "127.0.0.1", port = {free_port()}}}\n'
    )
    return path


class Running:
    def __init__(self, config, *options):
        self.log = config.parent / f"log-{time.monotonic_ns()}"
        code = "import sys; from edgewright.cli import agent_main; sys.exit(agent_main())"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "run", "--config", str(config), *options],
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def said(self, event):
        return [line for line in self.lines() if line["event"] == event]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


@pytest.fixture
def start(config):
    started = []

    def begin(*options):
        started.append(Running(config, *options))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def test_without_broker_and_registry_it_waits_says_so_and_ends_on_sigterm(config, start, make_artifact):
    stable = config.parent / "data" / "models" / "m" / "current"
    make_artifact(stable.parent / "slots" / "a", model="m")
    stable.symlink_to("slots/a")
    agent = start("--json")
    wait_until(lambda: len(agent.said("broker-unreachable")) > 1 and agent.said("registry-not-asked"))
    status, output = agent.end()
    assert (status, output) == (143, b"")
    refused = agent.said("broker-unreachable")[0]
    assert refused["code"] == "broker-unreachable"
    assert refused["retry_in_s"] <= 60
    assert stable.is_dir()


def test_the_log_for_people_has_one_line_an_event(start):
    agent = start()
    wait_until(lambda: "broker-unreachable" in agent.log.read_text())
    assert agent.end(signal.SIGINT)[0] == 130
    lines = agent.log.read_text().splitlines()
    assert " INFO    starting device=bench-1 tenant=default" in lines[0]
    assert "Traceback" not in agent.log.read_text()


def test_a_second_agent_on_the_same_data_is_refused(start):
    first = start("--json")
    wait_until(lambda: first.said("starting"))
    second = start("--json")
    output, _ = second.process.communicate(timeout=20)
    assert second.process.returncode == 6
    assert json.loads(output)["error"]["code"] == "data-in-use"
    assert first.process.poll() is None


def test_a_mistake_in_the_configuration_is_the_users(config, start):
    config.write_text(config.read_text() + 'runtime = ["tflite"]\n')
    agent = start("--json")
    output, _ = agent.process.communicate(timeout=20)
    assert agent.process.returncode == 2
    error = json.loads(output)["error"]
    assert (error["code"], error["next"]) == ("config-unknown-key", "did you mean 'runtimes'?")
    assert not (config.parent / "data").exists()


@needs_mosquitto
def test_it_finds_a_broker_that_comes_late_and_says_goodbye_when_terminated(config, start, tmp_path):
    with broker(tmp_path) as mqtt:
        text = config.read_text().rsplit("mqtt", 1)[0] + f'mqtt = {{host = "127.0.0.1", port = {mqtt.port}}}\n'
        config.write_text(text + 'runtimes = ["none-such"]\n')
        agent = start("--json")
        wait_until(lambda: agent.said("broker-unreachable"))
        mqtt.start()
        with ear(mqtt.port) as cloud:
            wait_until(lambda: cloud.on("reported"))
            assert agent.end()[0] == 143
            wait_until(lambda: not decode(Presence, cloud.on("presence")[-1], what="presence").online)
    reported = decode(Reported, cloud.on("reported")[0], what="reported")
    assert reported.fingerprint.runtimes == {}
    assert reported.fingerprint.cores >= 1
