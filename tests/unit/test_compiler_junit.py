"""JUnit XML: what the schema that CI systems read allows, and what a person finds in it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.check import Regression
from edgewright.compiler.goals import Goal
from edgewright.compiler.junit import junit_of, junit_of_error
from edgewright.compiler.report import ArtifactReport, Baseline, CompileReport
from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding
from edgewright.contracts.ids import ProfileId, digest_of

GOALS = (Goal("accuracy", "threshold", 0.9), Goal("accuracy", "max-degradation", 0.01))
REGRESSION = Regression(
    code="size-growth", profile="raspberry-pi-4", message="it grew", before=100.0, after=200.0, allowed=101.0
)
# Attributes that must and that may be there, and the children in their order: Jenkins' xUnit schema (junit-10.xsd).
SCHEMA = {
    "testsuites": (set(), {"name", "tests", "failures", "errors", "skipped", "time"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"skipped", "time", "timestamp", "hostname", "id", "package"},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "testcase": (
        {"name", "classname", "time"},
        {"assertions", "status"},
        ["skipped", "error", "failure", "system-out", "system-err"],
    ),
    "failure": ({"type"}, {"message"}, []),
    "error": ({"type"}, {"message"}, []),
    "system-out": (set(), set(), []),
}


def check_schema(element: ET.Element) -> None:
    needed, optional, children = SCHEMA[element.tag]
    assert needed <= element.attrib.keys() <= needed | optional
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order)
    assert not children or not (element.text or "").strip()
    if element.tag == "testcase":
        assert sum(child.tag in ("failure", "error", "skipped") for child in element) <= 1
    if element.tag in ("testsuites", "testsuite"):
        for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            assert int(element.attrib[attribute]) == len(list(element.iter(tag)))
    for child in element:
        check_schema(child)


def read(data: bytes) -> ET.Element:
    root = ET.fromstring(data)  # noqa: S314 - written above
    assert root.tag == "testsuites"
    check_schema(root)
    return root


def report(value: float = 0.985, *, goals_met: bool = True, **changes: object) -> CompileReport:
    fields: dict[str, object] = {
        "profile": ProfileId("raspberry-pi-4"),
        "target": "tflite",
        "precision": "int8",
        "path": "raspberry-pi-4",
        "digest": digest_of(b""),
        "size_bytes": 1000,
        "metric": "accuracy",
        "value": value,
        "latency_us": None,
        "goals_met": goals_met,
        "findings": (),
    }
    item = ArtifactReport(**(fields | changes))  # type: ignore[arg-type]
    base = Baseline(metric="accuracy", value=0.99, size_bytes=4000)
    return CompileReport(model="digits", baseline=base, artifacts=(item,))


def cases(root: ET.Element) -> dict[str, ET.Element]:
    found = {f"{case.get('classname')}: {case.get('name')}": case for case in root.iter("testcase")}
    assert len(found) == len(list(root.iter("testcase")))
    return found


def test_each_artifact_and_goal_is_a_case():
    two = report()
    two = replace(two, artifacts=(*two.artifacts, replace(two.artifacts[0], profile=ProfileId("intel-n100"))))
    found = cases(read(junit_of(two, GOALS)))
    for profile in ("raspberry-pi-4", "intel-n100"):
        for name in ("built", "accuracy: threshold 0.9", "accuracy: max-degradation 0.01"):
            assert found[f"digits.{profile}: {name}"].find("failure") is None
    assert len(found) == 6


def test_a_missed_goal_fails_with_its_numbers_and_the_others_pass():
    found = cases(read(junit_of(report(0.97, goals_met=False), GOALS)))
    failure = found["digits.raspberry-pi-4: accuracy: max-degradation 0.01"].find("failure")
    assert failure is not None
    assert failure.get("type") == "goal-missed"
    assert failure.text == "accuracy is 0.97, needed is 0.98 (fp32: 0.99)"
    assert found["digits.raspberry-pi-4: accuracy: threshold 0.9"].find("failure") is None


def test_a_goal_that_is_no_metrics_is_not_lost():
    finding = Finding(code="not-faster", message="it is slower than float32", next_step="build in fp32")
    root = read(junit_of(report(goals_met=False, findings=(finding,)), GOALS))
    (failure,) = root.iter("failure")
    assert "it is slower than float32" in (failure.text or "")


def test_findings_stand_in_the_output_of_the_artifact():
    finding = Finding(code="a-code", message="look here", where="conv.1", next_step="look there")
    built = cases(read(junit_of(report(findings=(finding,)), ())))["digits.raspberry-pi-4: built"]
    out = built.findtext("system-out") or ""
    assert "tflite int8, 1000 bytes, accuracy 0.985" in out
    assert "warning[a-code]: look here (conv.1)\n  next: look there" in out


def test_regressions_are_cases_of_a_suite_of_their_own():
    root = read(junit_of(report(), GOALS, (REGRESSION,)))
    suite = root.findall("testsuite")[1]
    (failure,) = suite.iter("failure")
    assert (failure.get("type"), failure.get("message")) == ("size-growth", "it grew")
    assert failure.text == "before 100, after 200, allowed 101"


def test_a_comparison_without_regressions_passes_and_none_at_all_is_not_claimed():
    assert list(cases(read(junit_of(report(), (), ())))) == [
        "digits.raspberry-pi-4: built",
        "digits.raspberry-pi-4: no regression",
    ]
    assert len(read(junit_of(report(), ())).findall("testsuite")) == 1


def test_a_compile_that_failed_is_an_error_with_its_code():
    failed = CompileError("unsupported-op", "an operation is not supported", found="grid_sampler")
    (error,) = read(junit_of_error("digits", failed)).iter("error")
    assert error.get("type") == "unsupported-op"
    assert "grid_sampler" in (error.text or "")


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_any_text_gives_well_formed_xml(name, message):
    finding = Finding(code="c", message=message, where=name)
    read(junit_of(replace(report(findings=(finding,)), model=name), GOALS, [replace(REGRESSION, message=message)]))


@pytest.mark.parametrize("text", ["]]>", "<failure/>", "&#0;", "\x00\x1b[31m", "\ud800", "\ufffe"])
def test_markup_in_a_message_stays_text(text):
    root = read(junit_of(report(findings=(Finding(code="c", message=f"a {text} b"),)), ()))
    assert not list(root.iter("failure"))
    assert " b" in "".join(root.itertext())
