"""Downloads from a real HTTP server that misbehaves in one way at a time."""

import os
import threading

import agent_world as world
import pytest

from edgewright.contracts.errors import ArtifactError, DeviceError, NotFound, TransportError, UserError
from edgewright.edge_agent import download, web
from edgewright.edge_agent.backoff import Backoff
from edgewright.edge_agent.download import Downloader, Limits
from edgewright.edge_agent.storage import Disk
from edgewright.edge_agent.web import Web
from edgewright.edge_agent.worker import Abort, Aborted
from edgewright.measurement.artifact import read_manifest, verify_files

ONE = world.artifact()
MODEL, PROBE = ONE.manifest.files


@pytest.fixture
def registry():
    with world.registry() as server:
        server.add(ONE)
        yield server


@pytest.fixture
def into(tmp_path):
    return tmp_path / "incoming"


def downloader(registry, **fields):
    limits = Limits(unreachable=4, wrong=3, refused=3, reserve_bytes=0)
    usual = {"disk": Disk(), "limits": limits, "backoff": Backoff(cap_s=0.01)}
    return Downloader(Web(registry.url), **usual | fields)


def fetch(registry, into, **fields):
    downloader(registry, **fields).fetch(ONE.digest, into, Abort())
    manifest, digest = read_manifest(into)
    assert digest == ONE.digest
    verify_files(into, manifest)
    names = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
    assert names == {"manifest.json", MODEL.path, PROBE.path}


def failure(registry, into, kind, **fields):
    with pytest.raises(kind) as caught:
        fetch(registry, into, **fields)
    return caught.value.code


def test_an_artifact_arrives_whole_with_one_request_a_file(registry, into):
    fetch(registry, into)
    assert [request.range_start for request in registry.requests] == [0, 0, 0]


def test_what_is_there_already_is_not_asked_for_again(registry, into):
    fetch(registry, into)
    registry.requests.clear()
    fetch(registry, into)
    assert registry.requests == []


def test_a_cut_download_goes_on_where_it_stopped(registry, into):
    registry.fail(MODEL.digest, world.cut(100_000), world.cut(100_000))
    fetch(registry, into)
    assert [request.range_start for request in registry.asked(MODEL.digest)] == [0, 100_000, 200_000]
    assert sum(request.sent for request in registry.asked(MODEL.digest)) == MODEL.size_bytes


def test_progress_earns_new_tries(registry, into):
    registry.fail(MODEL.digest, *[world.cut(20_000)] * 12)
    fetch(registry, into)


def test_a_new_process_goes_on_where_the_old_one_stopped(registry, into):
    registry.fail(MODEL.digest, world.cut(100_000), *[world.status(503)] * 4)
    assert failure(registry, into, TransportError) == "registry-unavailable"
    registry.faults.clear()
    registry.requests.clear()
    fetch(registry, into)
    assert [request.range_start for request in registry.asked(MODEL.digest)] == [100_000]


def test_a_server_that_ignores_ranges_is_read_from_the_start(registry, into):
    registry.fail(MODEL.digest, world.cut(100_000), world.without_ranges)
    fetch(registry, into)


def test_a_wrong_byte_is_fetched_again_from_the_start(registry, into):
    registry.fail(MODEL.digest, world.wrong_byte)
    fetch(registry, into)
    assert [request.range_start for request in registry.asked(MODEL.digest)] == [0, 0]


@pytest.mark.parametrize("blob", [ONE.digest, MODEL.digest])
def test_bytes_that_stay_wrong_are_an_answer_after_three_tries(registry, into, blob):
    registry.fail(blob, *[world.wrong_byte] * 9)
    assert failure(registry, into, ArtifactError) == "artifact-digest-mismatch"
    assert len(registry.asked(blob)) == 3


@pytest.mark.parametrize("fault", [world.over_long, world.endless])
def test_more_than_was_promised_is_not_written(registry, into, fault):
    written = []

    class Watching(Disk):
        def remove(self, path):
            written.append(path.stat().st_size)
            super().remove(path)

    registry.fail(MODEL.digest, *[fault] * 9)
    assert failure(registry, into, ArtifactError, disk=Watching()) == "artifact-too-long"
    assert len(written) == 3
    assert max(written) <= MODEL.size_bytes
    assert not (into / MODEL.path).exists()


def test_an_endless_manifest_ends(registry, into):
    registry.fail(ONE.digest, *[world.endless] * 9)
    assert failure(registry, into, ArtifactError) == "artifact-too-long"


def test_a_missing_artifact_is_an_answer_after_three_tries(registry, into):
    del registry.bodies[f"/v1/blobs/{MODEL.digest}"]
    assert failure(registry, into, NotFound) == "artifact-not-found"
    assert len(registry.asked(MODEL.digest)) == 3


def test_a_refusal_is_an_answer_after_three_tries(registry, into):
    registry.fail(MODEL.digest, *[world.status(403)] * 9)
    assert failure(registry, into, UserError) == "registry-refused"
    assert len(registry.asked(MODEL.digest)) == 3


def test_a_server_that_cannot_now_is_waited_for(registry, into):
    registry.fail(MODEL.digest, world.status(503), world.status(429), world.status(500))
    fetch(registry, into)


def test_a_server_that_is_gone_is_given_up_in_the_end(registry, into):
    registry.shutdown()
    registry.server_close()
    assert failure(registry, into, TransportError) == "registry-unreachable"


def test_room_is_asked_for_before_it_is_used(registry, into):
    full = failure(registry, into, DeviceError, free_bytes=lambda _: MODEL.size_bytes)
    assert full == "disk-full"
    assert registry.asked(MODEL.digest) == []


def test_room_that_a_part_has_taken_is_not_asked_for_twice(registry, into):
    registry.fail(MODEL.digest, world.cut(100_000), *[world.status(503)] * 4)
    failure(registry, into, TransportError)
    registry.faults.clear()
    fetch(registry, into, free_bytes=lambda _: MODEL.size_bytes - 100_000 + PROBE.size_bytes)


def test_a_disk_that_fills_up_ends_the_download_at_once(registry, into, monkeypatch):
    def full(_number):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(download.os, "fsync", full)
    assert failure(registry, into, DeviceError) == "disk-full"
    assert len(registry.asked(MODEL.digest)) <= 1


def test_a_proxy_in_the_environment_is_not_asked(registry, into, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fetch(registry, into)


def test_an_order_to_stop_is_heard_in_the_middle_and_keeps_what_has_come(registry, into, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT_S", 0.3)
    abort, ended = Abort(), threading.Event()
    part = into / (MODEL.path + ".part")

    def stall(handler, body, start):
        handler.answer(200, body[:150_000], promise=len(body))
        ended.wait(20)

    def stop_once_something_came():
        while not (part.exists() and part.stat().st_size):
            ended.wait(0.01)
        abort.set()

    registry.fail(MODEL.digest, stall)
    thread = threading.Thread(target=stop_once_something_came)
    thread.start()
    with pytest.raises(Aborted):
        downloader(registry).fetch(ONE.digest, into, abort)
    ended.set()
    thread.join()
    assert 0 < part.stat().st_size <= 150_000
