"""What the page shows of a `CompileReport`: the one place that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from edgewright.compiler.goals import Goal
from edgewright.compiler.pages.model import Baseline, Figure, GoalLine, Outcome, ReportPage, SizeStep, Unit
from edgewright.compiler.report import ArtifactReport, CompileReport
from edgewright.contracts.ids import ProfileId
from edgewright.contracts.manifest import Manifest
from edgewright.hardware_profiles.schema import load_profiles

# Metrics that are a share of the samples, and are read in percent.
_SHARES = ("accuracy", "top5")


def page_of(
    report: CompileReport, goals: Sequence[Goal] = (), manifests: Mapping[ProfileId, Manifest] | None = None
) -> ReportPage:
    """The page of a report.

    Args:
        report: of a compile.
        goals: the recipe's.
        manifests: of the artifacts, by profile; what is missing leaves its section shorter.
    """
    metric = report.baseline.metric
    unit = Unit.SHARE if metric in _SHARES else Unit.SCORE
    base = Baseline(
        metric=Figure(value=report.baseline.value, unit=unit, how="measured", where="PyTorch, evaluation data"),
        size_bytes=Figure(
            value=report.baseline.size_bytes, unit=Unit.BYTES, how="measured", where="parameters and buffers"
        ),
    )
    known = manifests or {}
    outcomes = [_outcome(item, base, goals, known.get(item.profile)) for item in report.artifacts]
    shared, outcomes = _provenance(outcomes, [known.get(item.profile) for item in report.artifacts])
    return ReportPage(
        model=report.model, metric=metric, baseline=base, outcomes=tuple(outcomes), provenance=tuple(shared)
    )


def _outcome(item: ArtifactReport, base: Baseline, goals: Sequence[Goal], manifest: Manifest | None) -> Outcome:
    board = load_profiles().get(item.profile)
    codes = [finding.code for finding in item.findings]
    simulated = manifest.quality.how == "simulated" if manifest is not None else "quality-simulated" in codes
    samples = f", {manifest.quality.samples} samples" if manifest is not None else ""
    metric = Figure(
        value=item.value,
        unit=base.metric.unit,
        how="simulated" if simulated else "measured",
        where="the built artifact, evaluation data" + samples,
    )
    size = Figure(value=item.size_bytes, unit=Unit.BYTES, how="measured", where="all files that the runtime needs")
    lines = tuple(_goal(goal, item.value, base) for goal in goals)
    latency, spread = _latency(item)
    return Outcome(
        profile=item.profile,
        board=board.name if board is not None else "",
        target=item.target,
        precision=item.precision,
        is_met=item.goals_met if goals or not item.goals_met else None,
        goals=lines,
        metric=metric,
        size_bytes=size,
        latency_us=latency,
        speedup=Figure(value=None, unit=Unit.RATIO, note="float32 was not timed beside it"),
        sizes=(
            SizeStep(name="float32", size_bytes=base.size_bytes.value or 0.0),
            SizeStep(name=f"{item.target} {item.precision} artifact", size_bytes=item.size_bytes),
        ),
        why=_why(item, manifest),
        findings=item.findings,
        figures=spread,
    )


def _goal(goal: Goal, value: float, base: Baseline) -> GoalLine:
    baseline = base.metric.value or 0.0
    return GoalLine(
        name=str(goal),
        needed=replace(base.metric, value=goal.needed(baseline)),
        reached=replace(base.metric, value=value),
        is_met=goal.is_met(value, baseline),
    )


def _latency(item: ArtifactReport) -> tuple[Figure, tuple[tuple[str, Figure], ...]]:
    """The median, and the figures beside it."""
    if item.latency_us is None:
        why = next((finding.message for finding in item.findings if finding.code == "latency-not-measured"), "")
        why = why.removeprefix("no latency, because ") or "not measured"
        return Figure(value=None, unit=Unit.MICROSECONDS, note=why), ()
    found = asdict(item.latency_us)
    where = " ".join(part for part in (found["where"], found.get("machine", "")) if part)
    figure = Figure(value=found["p50"], unit=Unit.MICROSECONDS, how=found["how"], where=where)
    others = tuple(
        (name, replace(figure, value=found[key]))
        for name, key in (("latency, mean", "mean"), ("latency, p90", "p90"), ("latency, p99", "p99"))
    )
    return replace(figure, low=found["p50_low"], high=found["p50_high"]), others


def _why(item: ArtifactReport, manifest: Manifest | None) -> tuple[str, ...]:
    fell_back = [finding.message for finding in item.findings if finding.code == "target-fell-back"]
    why = fell_back or [f"{item.target} is the first runtime of the profile that takes this model"]
    if manifest is not None:
        passes = ", ".join(manifest.provenance.passes) or "none: the float model as it is"
        why.append(f"{item.precision} comes of the recipe's passes: {passes}")
    return tuple(why)


def _provenance(
    outcomes: list[Outcome], manifests: Sequence[Manifest | None]
) -> tuple[list[tuple[str, str]], list[Outcome]]:
    """The facts that all artifacts share, and the outcomes with those of their own."""
    facts = [_facts(manifest) for manifest in manifests]
    shared = [fact for fact in facts[0] if all(fact in other for other in facts)] if facts else []
    own = [
        replace(outcome, provenance=tuple(fact for fact in found if fact not in shared))
        for outcome, found in zip(outcomes, facts, strict=True)
    ]
    return shared, own


def _facts(manifest: Manifest | None) -> list[tuple[str, str]]:
    if manifest is None:
        return []
    record = manifest.provenance
    return [
        ("model", record.source),
        ("recipe", record.recipe),
        ("passes", ", ".join(record.passes) or "none"),
        ("seed", str(record.seed)),
        *record.toolchain.items(),
        *((f"file {entry.path}", f"{entry.digest}, {entry.size_bytes:,} bytes") for entry in manifest.files),
    ]
