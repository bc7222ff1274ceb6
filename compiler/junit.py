"""JUnit XML for the test views of CI systems: one case for each artifact and goal. Pure.

Written is what the schema of Jenkins' xUnit plugin allows, which GitLab, Azure, Buildkite and others read too:
`testsuites` > `testsuite` > `testcase` > one `failure` or `error`, then `system-out`; the counts agree with the cases.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from edgewright.compiler.check import Regression
from edgewright.compiler.goals import Goal
from edgewright.compiler.pages.markup import printable
from edgewright.compiler.report import ArtifactReport, CompileReport
from edgewright.contracts.errors import EdgewrightError
from edgewright.contracts.findings import Finding


@dataclass(frozen=True)
class _Case:
    """A test case. `kind` is ``failure`` or ``error``, None where it passed; `code` names the cause."""

    group: str
    name: str
    kind: str | None = None
    code: str = ""
    message: str = ""
    detail: str = ""
    out: str = ""


def junit_of(report: CompileReport, goals: Sequence[Goal], regressions: Sequence[Regression] | None = None) -> bytes:
    """The report as JUnit XML.

    Args:
        report: of a compile.
        goals: the recipe's; without any, each artifact has one case that says that it was built.
        regressions: against an older report; None: there was no comparison.
    """
    suites = {"goals": [case for item in report.artifacts for case in _goal_cases(item, report, goals)]}
    if regressions is not None:
        suites["check"] = _check_cases(report, regressions)
    return _write(report.model, suites)


def junit_of_error(name: str, error: EdgewrightError) -> bytes:
    """JUnit XML for a compile that made no report: one case, which is an error."""
    case = _Case(name, "compile", "error", error.code, error.what, str(error))
    return _write(name, {"compile": [case]})


def _goal_cases(item: ArtifactReport, report: CompileReport, goals: Sequence[Goal]) -> list[_Case]:
    baseline, group = report.baseline.value, f"{report.model}.{item.profile}"
    cases = []
    for goal in goals:
        needed = goal.needed(baseline)
        detail = f"{goal.metric} is {item.value:.6g}, needed is {needed:.6g} (fp32: {baseline:.6g})"
        if goal.is_met(item.value, baseline):
            cases.append(_Case(group, str(goal), out=detail))
        else:
            cases.append(_Case(group, str(goal), "failure", "goal-missed", f"{goal} is missed", detail))
    if not item.goals_met and all(case.kind is None for case in cases):
        detail = "\n".join(map(_told, item.findings)) or "the report says that a goal was missed, and not which"
        cases.append(_Case(group, "every other goal", "failure", "goal-missed", "a goal was missed", detail))
    built = f"{item.target} {item.precision}, {item.size_bytes} bytes, {item.metric} {item.value:.6g}, {item.digest}"
    if item.latency_us is not None:
        latency = item.latency_us
        built += f", p50 {latency.p50:.6g} us (95 %: {latency.p50_low:.6g} to {latency.p50_high:.6g})"
    first = _Case(group, "built", out="\n".join([built, *map(_told, item.findings)]))
    return [first, *cases]


def _check_cases(report: CompileReport, regressions: Sequence[Regression]) -> list[_Case]:
    """One case for each regression, and one for each profile that has none."""
    worse = {regression.profile for regression in regressions}
    good = [item.profile for item in report.artifacts if item.profile not in worse]
    return [
        *(
            _Case(f"{report.model}.{one.profile}", one.code, "failure", one.code, one.message, one.detail)
            for one in regressions
        ),
        *(_Case(f"{report.model}.{profile}", "no regression") for profile in good),
    ]


def _told(finding: Finding) -> str:
    where = f" ({finding.where})" if finding.where else ""
    following = f"\n  next: {finding.next_step}" if finding.next_step else ""
    return f"{finding.severity}[{finding.code}]: {finding.message}{where}{following}"


def _write(name: str, suites: dict[str, list[_Case]]) -> bytes:
    everything = [case for cases in suites.values() for case in cases]
    root = ET.Element("testsuites", {"name": printable(f"edgewright compile {name}"), **_counts(everything)})
    for title, cases in suites.items():
        suite = ET.SubElement(root, "testsuite", {"name": printable(f"{name} {title}"), **_counts(cases)})
        for case in cases:
            _write_case(suite, case)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _write_case(suite: ET.Element, case: _Case) -> None:
    # A case without a time is no valid one; there is no time of a goal.
    names = {"classname": printable(case.group), "name": printable(case.name), "time": "0"}
    element = ET.SubElement(suite, "testcase", names)
    if case.kind is not None:
        cause = ET.SubElement(element, case.kind, {"type": case.code, "message": printable(case.message)})
        cause.text = printable(case.detail)
    if case.out:
        ET.SubElement(element, "system-out").text = printable(case.out)


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    kinds = [case.kind for case in cases]
    counts = {"tests": len(cases), "failures": kinds.count("failure"), "errors": kinds.count("error"), "skipped": 0}
    return {name: str(count) for name, count in counts.items()} | {"time": "0"}
