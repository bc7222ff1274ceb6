"""The client, and the commands built on it, against scripted answers."""

import argparse
import io
import itertools
import json

import httpx
import pytest
from rich.console import Console

from edgewright.contracts import errors, wire
from edgewright.contracts.api import Device, Execution, Fleet, NewRollout, Rollout, RunningModel
from edgewright.contracts.errors import EdgewrightError, TransportError, UserError
from edgewright.contracts.ids import DeviceId, ExecutionId, ProfileId, ReleaseRef, RolloutId, digest_of
from edgewright.contracts.messages import ActiveModel, Policy
from edgewright.contracts.states import ExecutionState, RolloutState
from edgewright.registry import publish_command, rollout_command
from edgewright.registry.client import RegistryClient
from edgewright.registry.display import fleet_table, rollout_list, rollout_table
from edgewright.registry.problems import from_problem, to_problem

NOW = 1_700_000_000.0
ARTIFACT = digest_of(b"artifact")


class Script(httpx.BaseTransport):
    """Answers one request after the other: a response, or an error to raise. The last one is for all that follow."""

    def __init__(self, *answers):
        self.answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.requests = []

    def handle_request(self, request):
        self.requests.append((request.method, request.url.path, request.read()))
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(*answers):
    script, waits = Script(*answers), []
    return RegistryClient("http://registry:1", transport=script, sleep=waits.append), script, waits


def test_a_registry_that_is_not_there_is_tried_four_times_and_named():
    registry, script, waits = client(httpx.ConnectError("Connection refused"))
    with pytest.raises(TransportError) as caught:
        registry.fleet()
    assert (caught.value.code, caught.value.exit_status) == ("registry-unreachable", 5)
    assert "http://registry:1" in caught.value.what
    assert len(script.requests) == 4
    assert len(waits) == 3
    assert all(0 <= wait <= 5 for wait in waits)


def test_a_busy_registry_is_asked_again():
    registry, script, _ = client(
        httpx.Response(503), httpx.ReadError(""), httpx.Response(200, content=b'{"devices":[]}')
    )
    assert registry.fleet() == Fleet(devices=())
    assert len(script.requests) == 3


NEW_ROLLOUT = NewRollout(release=ReleaseRef("digits", "1"), policy=Policy())


@pytest.mark.parametrize("answer", [httpx.ReadError("reset"), httpx.Response(503)])
def test_a_rollout_that_may_have_been_created_is_not_asked_for_again(answer):
    registry, script, _ = client(answer)
    with pytest.raises(TransportError):
        registry.create_rollout(NEW_ROLLOUT)
    assert len(script.requests) == 1


def test_a_rollout_that_was_never_sent_is_tried_again():
    done = Rollout(id=RolloutId("r-1"), release=ReleaseRef("digits", "1"), state="running", created_at=0, executions=())
    registry, _, _ = client(httpx.ConnectError(""), httpx.Response(201, content=wire.encode(done)))
    assert registry.create_rollout(NEW_ROLLOUT).id == "r-1"


CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgewrightError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_the_registry_raises_is_what_the_client_raises(kind):
    raised = kind("some-code", "it failed", expected="this", found=None, next_step="do that")
    document = json.dumps(to_problem(raised)).encode()
    again = from_problem(document, kind.http_status, "http://registry")
    assert type(again) is kind
    assert again.to_dict() == raised.to_dict()


@pytest.mark.parametrize(
    "body", [b"<html>proxy</html>", b"{}", b"[]", b'{"type": "about:blank"}', b'{"type": "urn:edgewright:X:y"}']
)
def test_an_answer_that_is_not_a_registrys_is_said_to_be_so(body):
    registry, _, _ = client(httpx.Response(418, content=body))
    with pytest.raises(TransportError) as caught:
        registry.fleet()
    assert caught.value.code == "registry-answer-unknown"
    assert "418" in str(caught.value)


@pytest.mark.parametrize("url", ["registry:8080", "ftp://registry", "http://", "no url"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(UserError) as caught:
        RegistryClient(url)
    assert caught.value.code == "registry-url-malformed"


def test_the_environment_names_the_registry(monkeypatch):
    monkeypatch.setenv("EDGEWRIGHT_REGISTRY", "http://elsewhere:9/")
    assert RegistryClient().url == "http://elsewhere:9"
    assert RegistryClient("http://here").url == "http://here"


def test_an_upload_that_fails_starts_over_and_its_progress_is_taken_back(tmp_path):
    data = bytes(3 << 20)
    (tmp_path / "blob").write_bytes(data)
    registry, script, _ = client(httpx.Response(503), httpx.Response(201))
    sent = []
    registry.put_blob(digest_of(data), tmp_path / "blob", sent.append)
    assert [body for _, _, body in script.requests] == [data, data]
    assert sum(sent) == len(data)
    assert min(sent) == -len(data)


def test_one_changed_bit_is_found_before_anything_is_sent(make_artifact, tmp_path):
    make_artifact(tmp_path / "out/a", profile="a")
    bad = make_artifact(tmp_path / "out/b", profile="b") / "model.bin"
    data = bytearray(bad.read_bytes())
    data[1] ^= 1
    bad.write_bytes(data)
    with pytest.raises(EdgewrightError) as caught:
        publish_command.read_artifacts(tmp_path / "out")
    assert caught.value.code == "artifact-digest-mismatch"
    assert str(bad) in str(caught.value)


def test_a_folder_without_artifacts_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        publish_command.read_artifacts(tmp_path)
    assert caught.value.code == "publish-nothing-found"


def test_one_profiles_folder_names_the_one_above_it(make_artifact, tmp_path):
    with pytest.raises(UserError) as caught:
        publish_command.read_artifacts(make_artifact(tmp_path / "out/a"))
    assert caught.value.code == "publish-nothing-found"
    assert caught.value.next_step.endswith(str(tmp_path / "out"))


def test_artifacts_of_two_models_are_refused(make_artifact, tmp_path):
    make_artifact(tmp_path / "out/a", model="words")
    make_artifact(tmp_path / "out/b", model="digits")
    with pytest.raises(UserError) as caught:
        publish_command.read_artifacts(tmp_path / "out")
    assert caught.value.code == "release-models-mixed"


@pytest.mark.parametrize("option", [["--max-p95-us", "nan"], ["--min-speedup", "0"], ["--soak", "-1"]])
def test_a_gate_that_cannot_be_held_is_refused_before_anything_is_sent(option):
    parser = argparse.ArgumentParser()
    rollout_command.configure(parser)
    with pytest.raises(UserError) as caught:
        rollout_command.run(parser.parse_args(["create", "digits:1", "--registry", "http://127.0.0.1:1", *option]))
    assert caught.value.code == "policy-malformed"


def test_a_registry_that_goes_away_during_the_wait_leaves_the_rollouts_name(monkeypatch, capsys):
    rollout = Rollout(
        id=RolloutId("r-17"),
        release=ReleaseRef("digits", "1"),
        state=RolloutState.RUNNING,
        created_at=NOW,
        executions=(execution(ExecutionState.OFFERED),),
    )
    registry, _, _ = client(httpx.Response(201, content=wire.encode(rollout)), httpx.ConnectError("refused"))
    monkeypatch.setattr(rollout_command, "RegistryClient", lambda _url: registry)
    parser = argparse.ArgumentParser()
    rollout_command.configure(parser)
    with pytest.raises(TransportError) as caught:
        rollout_command.run(parser.parse_args(["create", "digits:1", "--wait"]))
    assert caught.value.code == "registry-unreachable"
    assert "r-17" in caught.value.what
    assert "edgewright rollout show r-17" in caught.value.next_step
    assert "r-17" in capsys.readouterr().err


def shown(renderable, width=160):
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(renderable)
    return text.getvalue()


def execution(state, reason=None, detail=None, benchmark=None):
    return Execution(
        id=ExecutionId("e"),
        device=DeviceId("alpha"),
        state=state,
        reason=reason,
        detail=detail,
        updated_at=NOW - 30,
        benchmark=benchmark,
    )


def fleet(report, **options):
    active = ActiveModel(
        release=ReleaseRef("digits", "1.1.0"),
        artifact=ARTIFACT,
        profile=ProfileId("rpi-4"),
        target="tflite",
        slot="a",
    )
    running = (RunningModel(model=active, precision="int8", benchmark=report),)
    device = Device(
        id=DeviceId("alpha"),
        online=True,
        last_seen=NOW - 3,
        fingerprint=None,
        running=running,
        execution=execution(ExecutionState.GATED, "p95-above"),
    )
    idle = Device(id=DeviceId("beta"), online=False, last_seen=NOW - 7200, fingerprint=None, running=(), execution=None)
    return Fleet(devices=(device, idle))


def test_the_fleet_shows_latencies_in_milliseconds(make_report):
    text = shown(fleet_table(fleet(make_report(ARTIFACT, p50_us=1234.5)), NOW, 160))
    for part in ("alpha", "digits", "1.1.0", "rpi-4", "tflite", "int8", "1.234", "gated", "p95-above", "3 s ago"):
        assert part in text
    for part in ("beta", "2 h ago", "2 devices, 1 online"):
        assert part in text
    assert "*" not in text


def test_what_was_not_measured_is_marked(make_report):
    text = shown(fleet_table(fleet(make_report(ARTIFACT, how="simulated")), NOW, 160))
    assert "1.234*" in text
    assert "simulated" in text


def test_a_devices_words_cannot_drive_the_terminal():
    rollout = Rollout(
        id=RolloutId("r-1"),
        release=ReleaseRef("digits", "1"),
        state=RolloutState.FAILED,
        created_at=NOW,
        executions=(execution(ExecutionState.FAILED, "bad\x1b[2J", "[bold]evil[/]\nline"),),
    )
    text = shown(rollout_table(rollout, NOW))
    assert "\x1b" not in text
    assert "[bold]evil[/] line" in text
    assert "1 failed" in shown(rollout_list([rollout], NOW))


def test_a_narrow_terminal_loses_nothing(make_report):
    text = shown(fleet_table(fleet(make_report(ARTIFACT, p50_us=1234.5)), NOW, 80), width=80)
    for part in ("alpha", "digits:1.1.0", "rpi-4", "tflite int8", "1.234", "gated", "p95-above", "3 s ago", "beta"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
