"""The web API, in process: routes, errors, releases, rollouts."""

import json
from pathlib import Path

import anyio.from_thread
import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from edgewright.contracts import wire
from edgewright.contracts.api import Endpoints, MqttEndpoint, NewRelease, NewRollout, Release, Rollout
from edgewright.contracts.ids import ReleaseRef, digest_of
from edgewright.contracts.messages import Desired, ExecutionEvent, Policy, Presence
from edgewright.contracts.states import ExecutionState, RolloutState
from edgewright.measurement.artifact import read_manifest
from edgewright.registry import ingest
from edgewright.registry.app import create_app
from edgewright.registry.database import Database
from edgewright.registry.folder_store import FolderStore
from edgewright.registry.services import Services
from edgewright.registry.tables import DesiredRow, DeviceRow

NOW = 1_700_000_000.0
DATA = bytes(range(256))
BLOB = f"/v1/blobs/{digest_of(DATA)}"


class InProcess(httpx.BaseTransport):
    """The application without a network."""

    def __init__(self, app, portal):
        self.asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.portal = portal

    def handle_request(self, request):
        request.read()
        response = self.portal.call(self.asgi.handle_async_request, request)
        content = self.portal.call(response.aread)
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class Messages:
    """Stands in for MQTT: remembers what was to be published, and what the database said at that moment."""

    ready = True
    counts: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, database):
        self.database = database
        self.published = []

    def publish_desired(self, rollout):
        with self.database.read() as session:
            saved = {row.device: row.gen for row in session.scalars(select(DesiredRow))}
        self.published.append((rollout, saved))


@pytest.fixture
def services(tmp_path):
    database = Database(tmp_path / "registry.db")
    yield Services(
        database=database,
        store=FolderStore(tmp_path / "objects"),
        messages=Messages(database),
        endpoints=Endpoints(mqtt=MqttEndpoint(host="127.0.0.1", port=1883)),
        clock=lambda: NOW,
    )
    database.close()


@pytest.fixture(scope="module")
def portal():
    with anyio.from_thread.start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def http(services, portal):
    return httpx.Client(base_url="http://registry", transport=InProcess(create_app(services), portal))


@pytest.fixture
def upload(http):
    """Upload an artifact folder's blobs; returns the artifact's digest."""

    def put(root: Path):
        manifest, digest = read_manifest(root)
        for blob, path in {entry.digest: root / entry.path for entry in manifest.files}.items():
            assert http.put(f"/v1/blobs/{blob}", content=path.read_bytes()).is_success
        assert http.put(f"/v1/blobs/{digest}", content=(root / "manifest.json").read_bytes()).is_success
        return digest

    return put


@pytest.fixture
def publish(http, upload, make_artifact, tmp_path):
    def publish(ref: str) -> None:
        root = make_artifact(tmp_path / "artifacts" / ref, model=ref.split(":")[0], weights=ref.encode())
        new = NewRelease(release=ReleaseRef.parse(ref), artifacts=(upload(root),))
        assert http.post("/v1/releases", content=wire.encode(new)).status_code == 201

    return publish


@pytest.fixture
def devices(services):
    """Two devices that have said hello."""
    names = ("alpha", "beta")
    with services.database.write() as session:
        for name in names:
            hello = wire.encode(Presence(session="s1", online=True))
            ingest.receive(session, f"ew/v1/default/d/{name}/presence", hello, retained=False, now=NOW)
    return names


def roll_out(http, ref, devices=None, policy=None):
    new = NewRollout(release=ReleaseRef.parse(ref), policy=policy or Policy(), devices=devices)
    return http.post("/v1/rollouts", content=wire.encode(new))


def problem(response, status, code):
    """The problem in `response`, which must be this one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"].endswith(f":{code}")
    assert document["detail"]
    return document


def test_a_blob_goes_in_once_and_comes_back(http):
    first, second = (http.put(BLOB, content=DATA) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    head = http.head(BLOB)
    assert (head.status_code, head.headers["content-length"]) == (200, "256")
    got = http.get(BLOB)
    assert got.content == DATA
    assert got.headers["etag"] == first.headers["etag"] == head.headers["etag"]


def test_wrong_bytes_are_refused_and_not_kept(http):
    problem(http.put(BLOB, content=DATA + b"x"), 422, "digest-mismatch")
    assert http.head(BLOB).status_code == 404
    problem(http.get(BLOB), 404, "blob-unknown")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=250-", (250, 256)),
        ("bytes=-6", (250, 256)),
        ("bytes=-999", (0, 256)),
        ("bytes=200-999", (200, 256)),
    ],
)
def test_a_range_is_answered_with_that_range(http, asked, expected):
    http.put(BLOB, content=DATA)
    start, stop = expected
    response = http.get(BLOB, headers={"Range": asked})
    assert response.content == DATA[start:stop]
    if (start, stop) != (0, 256):
        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/256"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=9-3", "bytes=0-" + "9" * 5000]
)
def test_a_range_of_another_kind_is_answered_with_everything(http, asked):
    http.put(BLOB, content=DATA)
    response = http.get(BLOB, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=256-", "bytes=-0"])
def test_a_range_outside_of_the_blob_is_416(http, asked):
    http.put(BLOB, content=DATA)
    response = http.get(BLOB, headers={"Range": asked})
    problem(response, 416, "range-unsatisfiable")
    assert response.headers["content-range"] == "bytes */256"


def test_a_known_etag_is_answered_without_the_bytes(http):
    etag = http.put(BLOB, content=DATA).headers["etag"]
    response = http.get(BLOB, headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    changed = http.get(BLOB, headers={"Range": "bytes=1-2", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, DATA)


def test_an_empty_blob_can_be_read(http):
    http.put(f"/v1/blobs/{digest_of(b'')}", content=b"")
    response = http.get(f"/v1/blobs/{digest_of(b'')}")
    assert (response.status_code, response.content) == (200, b"")


def test_every_failure_is_a_problem(http):
    problem(http.get("/v1/nothing"), 404, "route-unknown")
    problem(http.delete("/v1/releases"), 405, "method-not-allowed")
    problem(http.get("/v1/blobs/sha256:xyz"), 422, "digest-malformed")
    problem(http.get("/v1/devices/Not-A-Device"), 422, "device-malformed")
    problem(http.get("/v1/releases/digits/9"), 404, "release-unknown")
    problem(http.get("/v1/rollouts/r-1"), 404, "rollout-unknown")
    problem(http.get("/v1/devices/nobody"), 404, "device-unknown")
    problem(http.post("/v1/rollouts", content=b"{"), 422, "document-malformed")
    problem(http.post("/v1/releases", content=b" " * (1 << 20) + b"{}"), 422, "body-too-large")


def test_a_wrong_field_is_named(http):
    response = http.post("/v1/rollouts", json={"release": {"name": "a", "version": "1"}, "policy": {"soak_s": "long"}})
    assert "$.policy.soak_s" in problem(response, 422, "document-malformed")["found"]


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (ZeroDivisionError("secret"), 500, "internal"),
        (OperationalError("secret", None, Exception("disk full")), 503, "database-unavailable"),
    ],
)
def test_what_breaks_inside_is_a_problem_without_a_traceback(services, portal, raised, status, code):
    class Broken:
        def read(self):
            raise raised

    broken = Services(**{**vars(services), "database": Broken()})
    http = httpx.Client(base_url="http://registry", transport=InProcess(create_app(broken), portal))
    response = http.get("/v1/fleet")
    problem(response, status, code)
    assert "secret" not in response.text


def test_openapi_describes_the_documents_and_has_no_loose_ends(http):
    document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    taken = document["paths"]["/v1/rollouts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert taken == {"$ref": "#/components/schemas/NewRollout"}
    assert set(document["paths"]["/v1/releases"]["post"]["responses"]) == {"201", "409", "422"}


def test_readiness_is_that_of_the_broker(http, services):
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").status_code == 200
    services.messages.ready = False
    problem(http.get("/readyz"), 503, "broker-unreachable")
    assert http.get("/healthz").status_code == 200


def test_the_same_release_twice_is_one_and_another_is_refused(http, upload, make_artifact, tmp_path):
    first, second = (upload(make_artifact(tmp_path / str(n), weights=bytes([n]))) for n in (1, 2))

    def post(*digests):
        new = NewRelease(release=ReleaseRef("digits", "1"), artifacts=digests)
        return http.post("/v1/releases", content=wire.encode(new))

    assert [post(first).status_code, post(first).status_code] == [201, 200]
    problem(post(first, second), 409, "release-exists")
    (release,) = wire.decode(tuple[Release, ...], http.get("/v1/releases").content, what="releases")
    assert [artifact.digest for artifact in release.artifacts] == [first]
    assert release.artifacts[0].manifest == read_manifest(tmp_path / "1")[0]
    assert wire.decode(Release, http.get("/v1/releases/digits/1").content, what="release") == release


def test_a_release_must_be_complete_and_of_one_model(http, upload, make_artifact, tmp_path):
    root = make_artifact(tmp_path / "a")
    manifest, digest = read_manifest(root)

    def post(ref, *digests):
        new = NewRelease(release=ReleaseRef.parse(ref), artifacts=digests)
        return http.post("/v1/releases", content=wire.encode(new))

    problem(post("digits:1"), 422, "release-empty")
    problem(post("digits:1", digest), 422, "release-blob-missing")
    http.put(f"/v1/blobs/{digest}", content=(root / "manifest.json").read_bytes())
    assert "model.bin" in problem(post("digits:1", digest), 422, "release-blob-missing")["detail"]
    upload(root)
    problem(post("digits:1", digest, digest), 422, "release-duplicate-artifact")
    other = make_artifact(tmp_path / "b", model="words")
    upload(other)
    problem(post("digits:1", digest, read_manifest(other)[1]), 422, "release-models-mixed")
    problem(post("digits:1", manifest.files[0].digest), 422, "document-malformed")
    assert http.get("/v1/releases").json() == []
    assert post("digits:1", digest).status_code == 201


def test_a_manifest_that_lies_about_a_size_is_refused(http, upload, make_artifact, tmp_path):
    root = make_artifact(tmp_path / "a")
    document = json.loads((root / "manifest.json").read_text())
    document["files"][0]["size_bytes"] += 1
    (root / "manifest.json").write_text(json.dumps(document))
    new = NewRelease(release=ReleaseRef("digits", "1"), artifacts=(upload(root),))
    problem(http.post("/v1/releases", content=wire.encode(new)), 422, "release-size-mismatch")


def test_an_unknown_release_names_the_nearest(http, publish):
    publish("digits:1.0.0")
    assert "digits:1.0.0" in problem(http.get("/v1/releases/digit/1.0.0"), 404, "release-unknown")["next"]


def test_a_rollout_that_reaches_nobody_is_refused(http, publish):
    publish("digits:1")
    problem(roll_out(http, "digits:1"), 422, "rollout-no-devices")
    problem(roll_out(http, "digits:1", devices=()), 422, "rollout-no-devices")
    assert http.get("/v1/rollouts").json() == []


def test_a_rollout_names_only_what_exists(http, publish, devices):
    publish("digits:1")
    problem(roll_out(http, "digits:2"), 404, "release-unknown")
    assert "alpha" in problem(roll_out(http, "digits:1", devices=("alpa",)), 404, "device-unknown")["next"]
    problem(roll_out(http, "digits:1", policy=Policy(max_p95_us=-1.0)), 422, "policy-malformed")


def test_a_rollout_is_saved_before_it_is_published(http, services, publish, devices):
    publish("digits:1")
    response = roll_out(http, "digits:1")
    assert response.status_code == 201
    rollout = wire.decode(Rollout, response.content, what="rollout")
    assert rollout.state is RolloutState.RUNNING
    assert [(each.device, each.state) for each in rollout.executions] == [
        ("alpha", ExecutionState.QUEUED),
        ("beta", ExecutionState.QUEUED),
    ]
    assert services.messages.published == [(rollout.id, {"alpha": 1, "beta": 1})]


def desired(http, device):
    return wire.decode(Desired, http.get(f"/v1/devices/{device}/desired").content, what="desired")


def test_a_device_is_told_the_latest_of_every_model(http, publish, devices):
    assert desired(http, "alpha") == Desired(gen=0, assignments=())
    assert desired(http, "unheard-of").gen == 0
    for ref in ("digits:1", "words:1", "digits:2"):
        publish(ref)
        roll_out(http, ref, devices=("alpha", "alpha"))
    told = desired(http, "alpha")
    assert told.gen == 3
    assert sorted(str(each.release) for each in told.assignments) == ["digits:2", "words:1"]
    assert desired(http, "beta").gen == 0


def test_a_rollout_reaches_a_device_that_has_passed_later_generations(http, publish, devices, services):
    with services.database.write() as session:
        session.get_one(DeviceRow, "alpha").reported_gen = 7
    publish("digits:1")
    roll_out(http, "digits:1")
    assert (desired(http, "alpha").gen, desired(http, "beta").gen) == (8, 1)


def get_rollout(http, rollout):
    return wire.decode(Rollout, http.get(f"/v1/rollouts/{rollout}").content, what="rollout")


def send(http, device, *events):
    return http.post(f"/v1/devices/{device}/events", content=wire.encode(events))


def story(execution, *states, start=1):
    return [
        ExecutionEvent(execution=execution, seq=seq, state=state, at=NOW) for seq, state in enumerate(states, start)
    ]


def test_events_over_http_end_the_rollout(http, publish, devices):
    publish("digits:1")
    rollout = wire.decode(Rollout, roll_out(http, "digits:1").content, what="rollout")
    alpha, beta = (execution.id for execution in rollout.executions)
    events = story(alpha, ExecutionState.ACCEPTED, ExecutionState.DOWNLOADING, ExecutionState.SUCCEEDED)
    assert send(http, "alpha", *events).status_code == 204
    assert get_rollout(http, rollout.id).state is RolloutState.RUNNING
    gated = ExecutionEvent(
        execution=beta, seq=1, state=ExecutionState.GATED, at=NOW, reason="p95-above", detail="9 ms > 5 ms"
    )
    for _ in range(2):
        assert send(http, "beta", gated).status_code == 204
    done = get_rollout(http, rollout.id)
    assert done.state is RolloutState.FAILED
    assert [(each.state, each.reason) for each in done.executions] == [
        (ExecutionState.SUCCEEDED, None),
        (ExecutionState.GATED, "p95-above"),
    ]


def test_a_device_speaks_for_itself_alone(http, publish, devices):
    publish("digits:1")
    rollout = wire.decode(Rollout, roll_out(http, "digits:1").content, what="rollout")
    alpha, beta = (execution.id for execution in rollout.executions)
    mixed = (*story(alpha, ExecutionState.ACCEPTED), *story(beta, ExecutionState.FAILED))
    problem(send(http, "alpha", *mixed), 404, "execution-unknown")
    assert {each.state for each in get_rollout(http, rollout.id).executions} == {ExecutionState.QUEUED}


def test_a_newer_rollout_of_the_model_ends_the_older_for_good(http, publish, devices):
    publish("digits:1")
    publish("digits:2")
    older = wire.decode(Rollout, roll_out(http, "digits:1", devices=("alpha",)).content, what="rollout")
    newer = wire.decode(Rollout, roll_out(http, "digits:2", devices=("alpha",)).content, what="rollout")
    late = story(older.executions[0].id, ExecutionState.ACCEPTED, ExecutionState.SUCCEEDED)
    assert send(http, "alpha", *late).status_code == 204
    older, newer = (get_rollout(http, each.id) for each in (older, newer))
    assert (older.state, older.executions[0].state) == (RolloutState.CANCELED, ExecutionState.SUPERSEDED)
    assert newer.id in older.executions[0].detail
    assert newer.state is RolloutState.RUNNING


def test_what_has_ended_is_not_superseded(http, publish, devices):
    publish("digits:1")
    publish("digits:2")
    older = wire.decode(Rollout, roll_out(http, "digits:1", devices=("alpha",)).content, what="rollout")
    send(http, "alpha", *story(older.executions[0].id, ExecutionState.SUCCEEDED))
    roll_out(http, "digits:2", devices=("alpha",))
    assert get_rollout(http, older.id).state is RolloutState.SUCCEEDED


@pytest.mark.parametrize("seq", [-1, 2**63])
def test_a_seq_that_is_no_count_is_refused(http, publish, devices, seq):
    publish("digits:1")
    rollout = wire.decode(Rollout, roll_out(http, "digits:1").content, what="rollout")
    event = {"execution": rollout.executions[0].id, "seq": seq, "state": "accepted", "at": NOW}
    problem(http.post("/v1/devices/alpha/events", json=[event]), 422, "count-malformed")
