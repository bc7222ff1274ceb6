"""The report of a compile: one document for `--json`, for `report.json` and for the table that a person reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgewright.contracts.benchmark import Latency
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.ids import Digest, ProfileId

REPORT_NAME = "report.json"
REPORT_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The float32 model: its score on the evaluation data, and the bytes of its parameters and buffers."""

    metric: str
    value: float
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class MeasuredLatency(Latency):
    """Latency of one inference in microseconds, with how it was got and where.

    `machine` tells machines of one kind from others, so that reports of two compiles can be compared.
    """

    how: str
    where: str
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class ArtifactReport:
    """One artifact.

    Attributes:
        path: the artifact's folder, relative to the report's.
        digest: of its manifest.
        size_bytes: all files that a runtime needs: without the manifest and the golden probe.
        latency_us: None where this host is not such a machine; a finding says why.
    """

    profile: ProfileId
    target: str
    precision: str
    path: str
    digest: Digest
    size_bytes: int
    metric: str
    value: float
    latency_us: MeasuredLatency | None
    goals_met: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class CompileReport:
    """Everything one compile made."""

    model: str
    baseline: Baseline
    artifacts: tuple[ArtifactReport, ...]
    schema: int = REPORT_SCHEMA

    @property
    def goals_met(self) -> bool:
        """Whether every artifact met every goal."""
        return all(artifact.goals_met for artifact in self.artifacts)


def show(report: CompileReport, console: Console) -> None:
    """The report as a table, and under it what a person should know."""
    base = report.baseline
    baseline = f"fp32 {_score(base.value)} {base.metric}, {_size(base.size_bytes)}"
    table = Table(box=SIMPLE, title=f"{escape(report.model)}: {baseline}")
    for heading in ("profile", "target"):
        table.add_column(heading, no_wrap=True)
    for heading in ("size", base.metric, "p50 here"):
        table.add_column(heading, justify="right")
    table.add_column("goals")
    for item in report.artifacts:
        table.add_row(
            item.profile,
            f"{item.target} {item.precision}",
            f"{_size(item.size_bytes)} ({base.size_bytes / item.size_bytes:.2f}x smaller)",
            f"{_score(item.value)} ({item.value - base.value:+.4f})",
            f"{item.latency_us.p50:.0f} us" if item.latency_us else "-",
            "met" if item.goals_met else "[red]missed[/red]",
        )
    console.print(table)
    for finding, profiles in _by_findings(report):
        where = f" ({finding.where})" if finding.where else ""
        mark = "[yellow]warning[/yellow]" if finding.severity is Severity.WARNING else "note"
        console.print(f"{mark}: {', '.join(profiles)}: {escape(finding.message + where)}", soft_wrap=True)
        if finding.next_step:
            console.print(f"  next: {escape(finding.next_step)}", soft_wrap=True)


def _by_findings(report: CompileReport) -> list[tuple[Finding, list[str]]]:
    """Each different finding once, with the profiles that it is about."""
    profiles: dict[Finding, list[str]] = {}
    for artifact in report.artifacts:
        for finding in artifact.findings:
            profiles.setdefault(finding, []).append(artifact.profile)
    return list(profiles.items())


def measured_here(latency: Latency, how: str, machine: str) -> MeasuredLatency:
    """`latency`, marked as this host's, which is a `machine`."""
    return MeasuredLatency(**dataclasses.asdict(latency), how=how, where="this host", machine=machine)


def _score(value: float) -> str:
    return f"{value:.4f}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024:.1f} KiB" if size_bytes < 1024 * 1024 else f"{size_bytes / 1024 / 1024:.2f} MiB"
