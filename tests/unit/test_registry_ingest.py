"""What devices say over MQTT, written down."""

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from edgewright.contracts import wire
from edgewright.contracts.errors import EdgewrightError
from edgewright.contracts.ids import DeviceId, ExecutionId, ProfileId, ReleaseRef, RolloutId, digest_of
from edgewright.contracts.messages import ActiveModel, BenchmarkMessage, ExecutionEvent, Presence, Reported
from edgewright.contracts.states import ExecutionState, RolloutState
from edgewright.registry import ingest, views
from edgewright.registry.database import Database
from edgewright.registry.ingest import Outcome
from edgewright.registry.rollouts import mark_offered
from edgewright.registry.tables import ExecutionEventRow, ExecutionRow, ReleaseRow, RolloutRow

NOW = 1_700_000_000.0
ARTIFACT = digest_of(b"artifact")
S = ExecutionState


@pytest.fixture
def session(tmp_path):
    database = Database(tmp_path / "registry.db")
    with database.read() as session:
        session.add(ReleaseRow(name="digits", version="1", created_at=NOW))
        session.flush()
        yield session
    database.close()


def say(session, channel, document, *, device="alpha", retained=False, now=NOW):
    payload = document if isinstance(document, bytes) else wire.encode(document)
    return ingest.receive(session, f"ew/v1/default/d/{device}/{channel}", payload, retained=retained, now=now)


def connect(session, number="s1", *, online=True, **options):
    return say(session, "presence", Presence(session=number, online=online), **options)


def execution(session, device="alpha"):
    """A new execution of `device` in a rollout of its own."""
    connect(session, device=device)
    rollout, name = f"r-{uuid.uuid4().hex}", uuid.uuid4().hex
    session.add(
        RolloutRow(
            id=rollout, release_name="digits", release_version="1", policy=b"{}", state="running", created_at=NOW
        )
    )
    session.flush()
    row = ExecutionRow(
        id=name, rollout=rollout, device=device, model="digits", gen=1, state=S.QUEUED, closed=False, updated_at=NOW
    )
    session.add(row)
    session.flush()
    return row


def event(row, seq, state, reason=None):
    return ExecutionEvent(execution=ExecutionId(row.id), seq=seq, state=state, at=NOW, reason=reason)


def tell(session, row, said, device="alpha"):
    return say(session, f"exec/{row.id}", said, device=device)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(st.sampled_from(S), max_size=10), data=st.data())
def test_repeated_and_reordered_events_end_in_the_same_state(session, states, data):
    straight, crooked = execution(session), execution(session)
    story = [(seq, state, f"because-{seq}") for seq, state in enumerate(states, start=1)]
    again = data.draw(st.lists(st.sampled_from(story), max_size=8)) if story else []
    shuffled = data.draw(st.permutations(story + again))
    for row, told in ((straight, story), (crooked, shuffled)):
        for seq, state, reason in told:
            tell(session, row, event(row, seq, state, reason))
    assert (crooked.state, crooked.reason) == (straight.state, straight.reason)
    assert rollout_of(session, crooked) == rollout_of(session, straight)
    assert applied(session, crooked) == applied(session, straight)


def applied(session, row):
    rows = select(ExecutionEventRow).where(ExecutionEventRow.execution == row.id).order_by(ExecutionEventRow.seq)
    return [(each.seq, each.state, each.applied) for each in session.scalars(rows)]


def rollout_of(session, row):
    return session.get_one(RolloutRow, row.rollout).state


def test_an_event_is_counted_once(session):
    row = execution(session)
    said = event(row, 1, S.ACCEPTED)
    assert [tell(session, row, said) for _ in range(2)] == [Outcome.APPLIED, Outcome.DUPLICATE]
    assert row.state is S.ACCEPTED


def test_an_impossible_event_is_kept_and_moves_nothing(session):
    row = execution(session)
    tell(session, row, event(row, 1, S.FAILED, "disk-full"))
    assert tell(session, row, event(row, 2, S.SUCCEEDED)) is Outcome.REJECTED
    assert (row.state, row.reason) == (S.FAILED, "disk-full")
    assert applied(session, row) == [(1, S.FAILED, True), (2, S.SUCCEEDED, False)]
    assert rollout_of(session, row) is RolloutState.FAILED


def test_a_closed_execution_keeps_what_is_said_and_stays(session):
    row = execution(session)
    row.state, row.closed = S.SUPERSEDED, True
    assert tell(session, row, event(row, 1, S.SUCCEEDED)) is Outcome.REJECTED
    assert row.state is S.SUPERSEDED
    assert applied(session, row) == [(1, S.SUCCEEDED, False)]


def test_the_last_end_ends_the_rollout(session):
    row = execution(session)
    tell(session, row, event(row, 1, S.ACCEPTED))
    assert rollout_of(session, row) is RolloutState.RUNNING
    tell(session, row, event(row, 2, S.SUCCEEDED))
    assert rollout_of(session, row) is RolloutState.SUCCEEDED


def test_offered_is_what_the_broker_holds(session):
    row = execution(session)
    mark_offered(session, DeviceId("alpha"), 0, NOW)
    assert row.state is S.QUEUED
    mark_offered(session, DeviceId("alpha"), 1, NOW)
    assert row.state is S.OFFERED
    tell(session, row, event(row, 1, S.ACCEPTED))
    mark_offered(session, DeviceId("alpha"), 1, NOW)
    assert row.state is S.ACCEPTED


def refused(session, channel, document, code, **options):
    with pytest.raises(EdgewrightError) as caught:
        say(session, channel, document, **options)
    assert caught.value.code == code


def test_what_cannot_be_read_is_refused_with_a_code(session):
    row = execution(session)
    refused(session, "presence", b"\xff\x00", "document-malformed")
    refused(session, "reported", b"{}", "document-malformed")
    refused(session, f"exec/{row.id}", b'{"execution": 3}', "document-malformed")
    refused(session, "desired", b"{}", "topic-malformed")
    refused(session, "gossip", b"{}", "topic-malformed")
    refused(session, "presence", b"{}", "device-malformed", device="NOT-A-NAME")
    refused(session, f"exec/{row.id}", event(row, 2**63, S.ACCEPTED), "count-malformed")


def test_a_device_cannot_speak_of_anothers_execution(session):
    row = execution(session, device="beta")
    said = event(row, 1, S.FAILED)
    refused(session, f"exec/{row.id}", said, "execution-unknown", device="alpha")
    refused(session, "exec/other", said, "topic-execution-mismatch", device="beta")
    refused(session, f"exec/{uuid.uuid4().hex}", event(row, 1, S.FAILED), "topic-execution-mismatch")
    assert row.state is S.QUEUED
    assert applied(session, row) == []


def device(session):
    session.flush()
    return views.device(session, DeviceId("alpha"))


def test_presence_follows_the_connection(session):
    connect(session, "s1")
    assert device(session).online
    connect(session, "s1", online=False, now=NOW + 5)
    gone = device(session)
    assert (gone.online, gone.last_seen) == (False, NOW + 5)


def test_the_will_of_a_replaced_connection_changes_nothing(session):
    connect(session, "s1")
    connect(session, "s2")
    assert connect(session, "s1", online=False) is Outcome.STALE
    assert device(session).online


def test_presence_kept_from_before_a_broker_restart_is_not_believed(session):
    connect(session, "s1")
    ingest.all_offline(session)
    assert connect(session, "s1", retained=True, now=NOW + 60) is Outcome.STALE
    assert not device(session).online
    assert device(session).last_seen == NOW
    # ... while a connection nobody had heard of is new, and so is one that speaks up again.
    assert connect(session, "s2", retained=True) is Outcome.APPLIED
    ingest.all_offline(session)
    assert connect(session, "s2") is Outcome.APPLIED
    assert device(session).online


def reported(fingerprint, seq, *releases):
    active = tuple(
        ActiveModel(
            release=ReleaseRef.parse(release), artifact=ARTIFACT, profile=ProfileId("rpi-4"), target="tflite", slot="a"
        )
        for release in releases
    )
    return Reported(gen=1, seq=seq, active=active, fingerprint=fingerprint, agent_version="0.1.0")


def test_only_a_later_report_counts(session, fingerprint):
    connect(session)
    assert say(session, "reported", reported(fingerprint, 2, "digits:2")) is Outcome.APPLIED
    assert say(session, "reported", reported(fingerprint, 1, "digits:1")) is Outcome.DUPLICATE
    known = device(session)
    assert known.fingerprint == fingerprint
    assert [str(each.model.release) for each in known.running] == ["digits:2"]


def test_a_device_that_lost_its_disk_is_believed_on_its_new_connection(session, fingerprint):
    connect(session, "s1")
    say(session, "reported", reported(fingerprint, 57, "digits:1"))
    connect(session, "s2")
    assert say(session, "reported", reported(fingerprint, 1)) is Outcome.APPLIED
    assert device(session).running == ()


def test_the_fleet_shows_the_last_latency_of_exactly_the_running_artifact(session, fingerprint, make_report):
    row = execution(session)
    say(session, "reported", reported(fingerprint, 1, "digits:1"))
    for seq, artifact, p50_us in ((1, ARTIFACT, 900.0), (2, ARTIFACT, 800.0), (3, digest_of(b"other"), 1.0)):
        said = BenchmarkMessage(
            execution=ExecutionId(row.id),
            seq=seq,
            release=ReleaseRef("digits", "1"),
            profile=ProfileId("rpi-4"),
            target="tflite",
            precision="int8",
            report=make_report(artifact, p50_us=p50_us),
        )
        assert say(session, f"bench/{row.id}", said) is Outcome.APPLIED
        assert say(session, f"bench/{row.id}", said) is Outcome.DUPLICATE
    (running,) = device(session).running
    assert running.benchmark is not None
    assert running.benchmark.latency_us.p50 == 800.0
    (shown,) = views.rollout(session, RolloutId(row.rollout)).executions
    assert shown.benchmark is not None
    assert shown.benchmark.artifact == digest_of(b"other")
