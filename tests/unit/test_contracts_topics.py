import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts.errors import UserError
from edgewright.contracts.topics import Channel, Topic, ingest_subscriptions, parse_topic

NAME = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,10}[a-z0-9])?", fullmatch=True)


@given(NAME, NAME, st.sampled_from(Channel), NAME)
def test_a_topic_reads_back_as_it_was_written(tenant, device, channel, execution):
    carries = channel in (Channel.EXECUTION, Channel.BENCHMARK)
    topic = Topic(tenant, device, channel, execution if carries else None)
    assert parse_topic(str(topic)) == topic


@given(st.text(max_size=60))
def test_arbitrary_topics_never_raise_anything_but_our_error(text):
    with pytest.raises(UserError):
        parse_topic(text)


@pytest.mark.parametrize(
    "text",
    [
        "ew/v1/default/d/dev/exec",
        "ew/v1/default/d/dev/desired/e1",
        "ew/v2/default/d/dev/desired",
        "ew/v1/default/d/+/desired",
        "ew/v1/default/d//desired",
        "ew/v1/default/x/dev/desired",
        "/ew/v1/default/d/dev/desired",
    ],
)
def test_malformed_topic_is_refused(text):
    with pytest.raises(UserError):
        parse_topic(text)


def test_workers_share_what_devices_say_and_never_hear_what_devices_are_told():
    assert ingest_subscriptions("g") == (
        "$share/g/ew/v1/+/d/+/reported",
        "$share/g/ew/v1/+/d/+/presence",
        "$share/g/ew/v1/+/d/+/exec/+",
        "$share/g/ew/v1/+/d/+/bench/+",
    )
