"""A report held against an older one: what is a regression, what is not, and what is no report at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.check import Regression, Tolerance, compare, read_old
from edgewright.compiler.report import ArtifactReport, Baseline, CompileReport, MeasuredLatency
from edgewright.contracts import wire
from edgewright.contracts.errors import UserError
from edgewright.contracts.findings import Finding
from edgewright.contracts.ids import ProfileId, digest_of


def measured(p50: float, spread: float = 0.02, **changes: str) -> MeasuredLatency:
    fields = {"how": "measured", "where": "this host", "machine": "a CPU, 2 cores"} | changes
    low, high = p50 * (1 - spread), p50 * (1 + spread)
    return MeasuredLatency(p50=p50, p90=p50, p99=p50, mean=p50, p50_low=low, p50_high=high, **fields)


def artifact(profile: str = "raspberry-pi-4", **changes: object) -> ArtifactReport:
    fields: dict[str, object] = {
        "profile": ProfileId(profile),
        "target": "tflite",
        "precision": "int8",
        "path": profile,
        "digest": digest_of(b""),
        "size_bytes": 100_000,
        "metric": "accuracy",
        "value": 0.97,
        "latency_us": measured(100.0),
        "goals_met": True,
        "findings": (),
    }
    return ArtifactReport(**(fields | changes))  # type: ignore[arg-type]


def report(*artifacts: ArtifactReport) -> CompileReport:
    base = Baseline(metric="accuracy", value=0.98, size_bytes=400_000)
    return CompileReport(model="digits", baseline=base, artifacts=artifacts or (artifact(),))


def found(now: ArtifactReport, before: ArtifactReport | None = None) -> tuple[Regression, ...]:
    return compare(report(before or artifact()), report(now))


def codes(now: ArtifactReport, before: ArtifactReport | None = None) -> list[str]:
    return [regression.code for regression in found(now, before)]


def test_the_same_report_has_no_regression():
    assert compare(report(), report()) == ()


def test_better_in_everything_is_no_regression():
    assert codes(artifact(value=0.99, size_bytes=50_000, latency_us=measured(50.0))) == []


def test_accuracy_may_fall_by_the_tolerance_and_no_further():
    assert codes(artifact(value=0.965)) == []
    (regression,) = found(artifact(value=0.9649))
    assert (regression.code, regression.before, regression.after) == ("accuracy-drop", 0.97, 0.9649)
    assert regression.allowed == pytest.approx(0.965)
    assert "0.9700 to 0.9649" in regression.message


def test_size_may_grow_by_the_tolerance_and_no_further():
    assert codes(artifact(size_bytes=101_000)) == []
    (regression,) = found(artifact(size_bytes=101_001))
    assert (regression.code, regression.profile) == ("size-growth", "raspberry-pi-4")
    assert "100,000 to 101,001 bytes (+1.0 %)" in regression.message


def test_latency_that_certainly_grew_is_a_regression():
    (regression,) = found(artifact(latency_us=measured(120.0)))
    assert regression.code == "latency-growth"
    assert regression.before == pytest.approx(102)
    assert regression.after == pytest.approx(117.6)
    assert regression.allowed == pytest.approx(112.2)
    assert "100.0 to 120.0 us (+20.0 %)" in regression.message


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(measured(120.0, spread=0.1), id="the intervals overlap"),
        pytest.param(measured(108.0), id="within the tolerance"),
        pytest.param(measured(500.0, machine="another CPU"), id="another machine"),
        pytest.param(measured(500.0, machine=""), id="a machine without a name"),
        pytest.param(measured(500.0, how="emulated"), id="not measured"),
        pytest.param(None, id="no latency now"),
    ],
)
def test_latency_that_did_not_certainly_grow_is_none(now):
    assert codes(artifact(latency_us=now)) == []


def test_a_machine_without_a_name_is_not_the_same_as_another_without_one():
    nameless = measured(500.0, machine="")
    assert codes(artifact(latency_us=nameless), artifact(latency_us=measured(100.0, machine=""))) == []


def test_a_goal_missed_now_is_a_regression_and_one_missed_before_is_not():
    finding = Finding(code="goal-missed", message="accuracy: threshold 0.97 is missed")
    (regression,) = found(artifact(goals_met=False, findings=(finding,)))
    assert regression.code == "goal-newly-missed"
    assert finding.message in regression.message
    assert codes(artifact(goals_met=False), artifact(goals_met=False)) == []


def test_a_missing_artifact_is_a_regression_and_a_new_one_is_not():
    both = report(artifact(), artifact("raspberry-pi-5"))
    (regression,) = compare(both, report())
    assert (regression.code, regression.profile) == ("artifact-missing", "raspberry-pi-5")
    assert compare(report(), both) == ()


def test_only_the_profiles_that_were_asked_for_are_compared():
    both = report(artifact(), artifact("raspberry-pi-5"))
    assert compare(both, report(), profiles=["raspberry-pi-4"]) == ()


def test_artifacts_are_compared_by_profile_whatever_they_are_made_of():
    (regression,) = found(artifact(value=0.5, target="openvino", precision="fp32"))
    assert "(tflite int8, now openvino fp32)" in regression.message


def test_all_that_is_worse_is_told():
    worse = artifact(value=0.5, size_bytes=200_000, latency_us=measured(900.0), goals_met=False)
    assert codes(worse) == ["goal-newly-missed", "accuracy-drop", "size-growth", "latency-growth"]


def test_other_tolerances_are_kept():
    worse = report(artifact(value=0.5, size_bytes=200_000, latency_us=measured(900.0)))
    lenient = Tolerance(metric_drop=1, size_growth=10, latency_growth=100)
    assert compare(report(), worse, tolerance=lenient) == ()


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9), st.integers(1, 10**9))
def test_of_two_reports_at_most_one_regressed_in_a_figure(one, other, small, large):
    first, second = artifact(value=one, size_bytes=small), artifact(value=other, size_bytes=large)
    there, back = codes(second, first), codes(first, second)
    assert not set(there) & set(back)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "old.json"
    path.write_bytes(data)
    return path


def refused(path: Path, model: str = "digits", metric: str = "accuracy") -> UserError:
    with pytest.raises(UserError) as caught:
        read_old(path, model, metric)
    assert caught.value.next_step
    return caught.value


def test_a_written_report_is_read_again(tmp_path):
    path = written(tmp_path, wire.encode(report()))
    assert read_old(path, "digits", "accuracy") == report()


def test_a_report_from_before_machines_had_names_is_read(tmp_path):
    document = wire.to_builtins(report())
    del document["artifacts"][0]["latency_us"]["machine"]
    old = read_old(written(tmp_path, wire.encode(document)), "digits", "accuracy")
    assert compare(old, report(artifact(latency_us=measured(900.0)))) == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"not JSON", b"[]", b"\xff\xfe", b'{"schema": 1, "error": {"code": "data-empty"}}', b'{"model": 3}'],
)
def test_what_is_no_report_is_refused(tmp_path, data):
    error = refused(written(tmp_path, data))
    assert error.code == "check-unreadable"
    assert error.found


def test_a_file_that_is_not_there_is_told(tmp_path):
    error = refused(tmp_path / "none.json")
    assert (error.code, error.found) == ("check-unreadable", "No such file or directory")
    assert refused(tmp_path).found == "Is a directory"


def test_foreign_reports_are_refused(tmp_path):
    path = written(tmp_path, wire.encode(report()))
    assert refused(path, model="letters").code == "check-other-model"
    assert refused(path, metric="top5").code == "check-other-metric"
    newer = written(tmp_path, wire.encode(replace(report(), schema=2)))
    assert refused(newer).code == "check-schema-unknown"
