import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.goals import KINDS, Goal


@pytest.mark.parametrize(
    ("kind", "limit", "meets", "misses"),
    [
        ("threshold", 0.9, 0.9, 0.899),
        ("min-improvement", 0.02, 0.82, 0.819),
        ("max-degradation", 0.02, 0.78, 0.779),
        ("percent-min-improvement", 10, 0.88, 0.879),
        ("percent-max-degradation", 10, 0.72, 0.719),
    ],
)
def test_each_kind_is_met_at_its_limit_and_missed_below(kind, limit, meets, misses):
    goal = Goal("accuracy", kind, limit)
    assert goal.is_met(meets, baseline=0.8)
    assert not goal.is_met(misses, baseline=0.8)


def test_every_kind_is_tested_above():
    assert len(KINDS) == 5


def test_rounding_of_a_subtraction_does_not_miss_a_goal():
    assert 0.98 - 0.97 > 0.01  # in binary
    assert Goal("accuracy", "max-degradation", 0.01).is_met(0.97, baseline=0.98)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    limit=st.floats(0, 100),
    baseline=st.floats(0, 1),
    value=st.floats(0, 1),
    more=st.floats(0, 1),
)
def test_a_better_value_never_misses_what_a_worse_one_meets(kind, limit, baseline, value, more):
    goal = Goal("accuracy", kind, limit)
    assert goal.is_met(value + more, baseline) >= goal.is_met(value, baseline)
