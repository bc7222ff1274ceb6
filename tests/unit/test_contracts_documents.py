import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts import wire
from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import ReleaseRef, digest_of, parse_device_id, parse_digest
from edgewright.contracts.manifest import FileEntry, Manifest
from edgewright.contracts.messages import Desired, ExecutionEvent
from edgewright.contracts.states import ExecutionState

DIGEST = digest_of(b"")
PROBE = {"path": "probe.npz", "samples": 1, "atol": 0.1, "rtol": 0.1, "min_cosine": 0.9}
MANIFEST = {
    "model": "m",
    "profile": "raspberry-pi-4",
    "target": "tflite",
    "precision": "int8",
    "entry": "model.tflite",
    "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 4]}],
    "outputs": [],
    "files": [{"path": name, "digest": DIGEST, "size_bytes": 7} for name in ("model.tflite", "probe.npz")],
    "requirements": {},
    "probe": PROBE,
    "quality": {"metric": "accuracy", "value": 1, "baseline": 1, "samples": 1, "how": "measured"},
    "provenance": {"source": DIGEST, "recipe": DIGEST, "passes": [], "seed": 0, "toolchain": {}},
}


def read(**changes):
    return wire.decode(Manifest, json.dumps(MANIFEST | changes), what="manifest.json")


def test_manifest_survives_a_round_trip_and_its_bytes_do_not_depend_on_key_order():
    manifest = read()
    shuffled = wire.decode(Manifest, json.dumps(dict(reversed(MANIFEST.items()))), what="manifest.json")
    assert wire.decode(Manifest, wire.encode(manifest), what="manifest.json") == manifest
    assert wire.encode(shuffled) == wire.encode(manifest)
    assert manifest.size_bytes == 14


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a\\b", "", ".", "a//b", "./a", "a/", "manifest.json", "a\0b"]
)
def test_file_outside_the_artifact_is_refused(path):
    with pytest.raises(UserError) as caught:
        FileEntry(path=path, digest=DIGEST, size_bytes=1)
    assert caught.value.code == "manifest-path-unsafe"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schema": 2}, "manifest-schema-unknown"),
        ({"entry": "other.tflite"}, "manifest-malformed"),
        ({"probe": PROBE | {"path": "elsewhere.npz"}}, "manifest-malformed"),
        ({"files": MANIFEST["files"] * 2}, "manifest-malformed"),
        ({"files": MANIFEST["files"] * 200}, "manifest-too-many-files"),
        ({"profile": "../x"}, "profile-malformed"),
        ({"files": [{"path": "a", "digest": "md5:1", "size_bytes": 1}]}, "digest-malformed"),
        ({"target": 3}, "document-malformed"),
        ({"model": None}, "document-malformed"),
    ],
)
def test_wrong_manifest_is_refused_by_its_code(changes, code):
    with pytest.raises(UserError) as caught:
        read(**changes)
    assert caught.value.code == code


def test_a_newer_sender_may_say_more():
    assert read(new_field=1) == read()


def test_missing_field_is_named():
    with pytest.raises(UserError) as caught:
        wire.decode(Desired, b'{"gen": 1}', what="desired")
    assert "assignments" in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_never_raise_anything_but_our_error(data):
    for kind in (Desired, ExecutionEvent, Manifest):
        with pytest.raises(UserError):
            wire.decode(kind, data, what="it")


@given(st.text(max_size=80))
def test_a_name_that_is_accepted_is_safe_in_a_path_and_a_topic(text):
    try:
        name = parse_device_id(text)
    except UserError as error:
        assert error.code == "device-malformed"
        return
    assert name == text
    assert not set(name) & set("/\\+#$\0 \n")
    assert ".." not in name
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:b:c", "A:1", "a/b:1", "a:1\n"])
def test_malformed_release_is_refused(text):
    with pytest.raises(UserError):
        ReleaseRef.parse(text)


def test_release_is_written_as_it_is_read():
    assert str(ReleaseRef.parse("digits:1.2.0-rc.1")) == "digits:1.2.0-rc.1"


@pytest.mark.parametrize("text", [DIGEST.upper(), DIGEST[:-1], DIGEST + "0", DIGEST + "\n", DIGEST[7:]])
def test_malformed_digest_is_refused(text):
    with pytest.raises(UserError) as caught:
        parse_digest(text)
    assert caught.value.code == "digest-malformed"


def test_execution_event_reads_its_state():
    event = wire.decode(ExecutionEvent, b'{"execution": "e1", "seq": 1, "state": "gated", "at": 0}', what="event")
    assert event.state is ExecutionState.GATED
