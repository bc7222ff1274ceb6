"""Whether a compile got worse than an older one: its report held against the report of before. Pure but for `read_old`.

Artifacts are compared by hardware profile, for that is what a device gets, whatever target or precision it is made of.
Latency is compared only where both were measured on one kind of machine, and a growth counts only when it is certain:
the slow end of the old interval and the fast end of the new one are further apart than the tolerance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgewright.compiler.report import REPORT_SCHEMA, ArtifactReport, CompileReport
from edgewright.contracts import wire
from edgewright.contracts.errors import UserError

_NEXT = "give the report.json of an earlier compile of this recipe"
# A drop must not be found by the rounding of a subtraction.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What is no regression yet.

    Attributes:
        metric_drop: how far the metric may fall, in its own unit: 0.005 is half a point of accuracy.
        size_growth, latency_growth: as parts of the old value.
    """

    metric_drop: float = 0.005
    size_growth: float = 0.01
    latency_growth: float = 0.10


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One thing that is worse than it was.

    Attributes:
        code: ``accuracy-drop``, ``size-growth``, ``latency-growth``, ``artifact-missing`` or ``goal-newly-missed``.
        before, after: the figures that were compared, in the unit of the report; of latency, the ends of the two
            intervals that are nearest to each other; None where there is none.
        allowed: the worst value of `after` that would not have been a regression.
    """

    code: str
    profile: str
    message: str
    before: float | None = None
    after: float | None = None
    allowed: float | None = None

    @property
    def detail(self) -> str:
        """The figures in a line."""
        named = (("before", self.before), ("after", self.after), ("allowed", self.allowed))
        return ", ".join(f"{name} {value:.6g}" for name, value in named if value is not None)


def read_old(path: Path, model: str, metric: str) -> CompileReport:
    """The older report, for the `model` and the `metric` of the one to come.

    Raises:
        UserError: `check-unreadable`, `check-schema-unknown`, `check-other-model`, `check-other-metric`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    try:
        report = wire.decode(CompileReport, data, what=str(path))
    except UserError as error:
        raise _unreadable(path, error.found or error.what) from None
    if report.schema != REPORT_SCHEMA:
        raise UserError(
            "check-schema-unknown",
            f"{path} is a report of a schema that this version does not read",
            expected=str(REPORT_SCHEMA),
            found=str(report.schema),
            next_step="make it anew with this version of edgewright",
        )
    if report.model != model:
        raise UserError(
            "check-other-model",
            f"{path} is the report of another model",
            expected=model,
            found=report.model,
            next_step=_NEXT,
        )
    if report.baseline.metric != metric:
        raise UserError(
            "check-other-metric",
            f"{path} is for another metric, so accuracies cannot be compared",
            expected=metric,
            found=report.baseline.metric,
            next_step="compile once without --check and keep that report",
        )
    return report


def compare(
    old: CompileReport,
    new: CompileReport,
    *,
    profiles: Collection[str] = (),
    tolerance: Tolerance = Tolerance(),
) -> tuple[Regression, ...]:
    """What is worse in `new` than in `old`, in the order of the old artifacts.

    Args:
        old: the report of before.
        new: the report of now, of the same model and metric.
        profiles: compare these only, because no others were asked for; empty: all.
        tolerance: what is no regression yet.
    """
    now = {item.profile: item for item in new.artifacts}
    found: list[Regression] = []
    for before in old.artifacts:
        if profiles and before.profile not in profiles:
            continue
        after = now.get(before.profile)
        if after is None:
            message = f"{before.profile}: there was an artifact ({before.target} {before.precision}), and now is none"
            found.append(Regression(code="artifact-missing", profile=before.profile, message=message))
        else:
            found += _compare(before, after, tolerance)
    return tuple(found)


def _compare(before: ArtifactReport, after: ArtifactReport, tolerance: Tolerance) -> list[Regression]:
    candidates = (
        _goal(before, after),
        _metric(before, after, tolerance),
        _size(before, after, tolerance),
        _latency(before, after, tolerance),
    )
    return [regression for regression in candidates if regression is not None]


def _goal(before: ArtifactReport, after: ArtifactReport) -> Regression | None:
    if after.goals_met or not before.goals_met:
        return None
    missed = "; ".join(finding.message for finding in after.findings if finding.code == "goal-missed")
    message = f"{after.profile}: every goal was met, and now one is missed" + (f": {missed}" if missed else "")
    return Regression(code="goal-newly-missed", profile=after.profile, message=message)


def _metric(before: ArtifactReport, after: ArtifactReport, tolerance: Tolerance) -> Regression | None:
    allowed = before.value - tolerance.metric_drop
    if after.value >= allowed - _ROUNDING:
        return None
    return Regression(
        code="accuracy-drop",
        profile=after.profile,
        message=f"{_name(before, after)}: {after.metric} fell from {before.value:.4f} to {after.value:.4f}",
        before=before.value,
        after=after.value,
        allowed=allowed,
    )


def _size(before: ArtifactReport, after: ArtifactReport, tolerance: Tolerance) -> Regression | None:
    allowed = before.size_bytes * (1 + tolerance.size_growth)
    if after.size_bytes <= allowed:
        return None
    return Regression(
        code="size-growth",
        profile=after.profile,
        message=f"{_name(before, after)}: grew from {before.size_bytes:,} to {after.size_bytes:,} bytes"
        + _percent(before.size_bytes, after.size_bytes),
        before=before.size_bytes,
        after=after.size_bytes,
        allowed=allowed,
    )


def _latency(before: ArtifactReport, after: ArtifactReport, tolerance: Tolerance) -> Regression | None:
    was, now = before.latency_us, after.latency_us
    if was is None or now is None:
        return None
    if {was.how, now.how} != {"measured"} or not was.machine or was.machine != now.machine:
        return None
    allowed = was.p50_high * (1 + tolerance.latency_growth)
    if now.p50_low <= allowed:
        return None
    return Regression(
        code="latency-growth",
        profile=after.profile,
        message=f"{_name(before, after)}: the median latency grew from {was.p50:.1f} to {now.p50:.1f} us"
        f"{_percent(was.p50, now.p50)}; 95 %: {was.p50_low:.1f} to {was.p50_high:.1f}, "
        f"now {now.p50_low:.1f} to {now.p50_high:.1f}, on {now.machine}",
        before=was.p50_high,
        after=now.p50_low,
        allowed=allowed,
    )


def _name(before: ArtifactReport, after: ArtifactReport) -> str:
    was, now = (f"{item.target} {item.precision}" for item in (before, after))
    return f"{after.profile} ({now})" if was == now else f"{after.profile} ({was}, now {now})"


def _percent(before: float, after: float) -> str:
    return f" ({(after / before - 1) * 100:+.1f} %)" if before > 0 else ""


def _unreadable(path: Path, found: str) -> UserError:
    return UserError(
        "check-unreadable",
        f"{path} cannot be read as the report of a compile",
        expected="a report.json, or what `edgewright compile --json` printed",
        found=found,
        next_step=_NEXT,
    )
