"""One artifact: lower, run the passes, package, then try the built thing itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from edgewright.compiler.golden import PROBE_NAME
from edgewright.compiler.job import Job
from edgewright.compiler.latency import measure
from edgewright.compiler.passes import TargetModel
from edgewright.compiler.progress import Steps
from edgewright.compiler.provenance import seed_everything
from edgewright.compiler.recipe import Recipe
from edgewright.compiler.report import ArtifactReport
from edgewright.compiler.toolchains import load_toolchain
from edgewright.compiler.trial import try_artifact
from edgewright.contracts.errors import CompileError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import digest_of
from edgewright.contracts.manifest import MANIFEST_NAME, Manifest
from edgewright.measurement.probe import write_probe
from edgewright.targets import TARGETS
from edgewright.targets.protocol import Lowered

# What another target may still be able to compile.
_REFUSALS = ("unsupported-op", "unsupported-source", "export-refused")
_WEIGHTS = {"lower": 4.0, "passes": 6.0, "package": 1.0, "try": 2.0, "measure": 2.0}


def weight(recipe: Recipe) -> float:
    """The weight of one artifact's steps together, about seconds for a small model."""
    return sum(_WEIGHTS.values()) - (0.0 if recipe.passes else _WEIGHTS["passes"])


class Builder:
    """Builds a job's artifacts. Lowered models are shared by the profiles that would get the same."""

    def __init__(self, job: Job, work: Path) -> None:
        self._job = job
        self._work = work
        self._lowered: dict[tuple[object, ...], tuple[Lowered, tuple[Finding, ...]] | CompileError] = {}

    def build(self, profile: HardwareProfile, dest: Path, steps: Steps) -> ArtifactReport:
        """Build for `profile` into `dest`, with the first of its targets that can take the model.

        Raises:
            CompileError: `no-target-fits` when all refuse; whatever else a target, a pass or the trial finds wrong.
        """
        refusals: dict[str, CompileError] = {}
        for target in profile.targets:
            try:
                return self._build(profile, target, dest, steps, _fallback_findings(refusals, target))
            except CompileError as error:
                if error.code not in _REFUSALS or len(profile.targets) == 1:
                    raise _for_profile(error, profile) from error
                refusals[target] = error
                shutil.rmtree(dest)
                dest.mkdir()
        raise CompileError(
            "no-target-fits",
            f"no target of {profile.id} can take the model",
            expected="a model that one of " + ", ".join(profile.targets) + " supports",
            found="; ".join(f"{target}: {error.what}" for target, error in refusals.items()),
            next_step=next(iter(refusals.values())).next_step,
        )

    def _build(
        self, profile: HardwareProfile, target: str, dest: Path, steps: Steps, findings: tuple[Finding, ...]
    ) -> ArtifactReport:
        job, title = self._job, f"{profile.id}: {target}"
        lowered, found = self._lower(profile, target, steps)
        with steps.step(f"{title}: package", _WEIGHTS["package"]):
            packaged = load_toolchain(target).package(job.model.source, lowered, profile, dest)
            write_probe(dest / PROBE_NAME, job.probe_inputs, job.probe_outputs)
        with steps.step(f"{title}: try it on the evaluation data", _WEIGHTS["try"]):
            manifest = try_artifact(job, profile, target, lowered, packaged, dest)
        with steps.step(f"{title}: latency", _WEIGHTS["measure"]):
            latency, why_not = measure(dest, manifest, profile)
        goals, missed = _judge(job, manifest.quality.value)
        return ArtifactReport(
            profile=profile.id,
            target=target,
            precision=lowered.precision,
            path=dest.name,
            digest=digest_of((dest / MANIFEST_NAME).read_bytes()),
            size_bytes=manifest.size_bytes - (dest / PROBE_NAME).stat().st_size,
            metric=job.recipe.metric,
            value=manifest.quality.value,
            latency_us=latency,
            goals_met=goals,
            findings=(*findings, *found, *packaged.findings, *_simulated(manifest), *why_not, *missed),
        )

    def _lower(self, profile: HardwareProfile, target: str, steps: Steps) -> tuple[Lowered, tuple[Finding, ...]]:
        """The model after all passes, made anew or shared, and what was found on the way."""
        key = (target, *(getattr(profile, fact) for fact in TARGETS[target].profile_facts))
        known = self._lowered.get(key)
        if known is None:
            try:
                known = self._lower_anew(profile, target, steps)
            except CompileError as error:
                if error.code not in _REFUSALS:
                    raise
                known = error
            self._lowered[key] = known
        else:
            done = _WEIGHTS["lower"] + (_WEIGHTS["passes"] if self._job.recipe.passes else 0.0)
            with steps.step(f"{profile.id}: {target}: already lowered", done):
                pass
        if isinstance(known, CompileError):
            raise known
        return known

    def _lower_anew(self, profile: HardwareProfile, target: str, steps: Steps) -> tuple[Lowered, tuple[Finding, ...]]:
        job, title = self._job, f"{profile.id}: {target}"
        work = self._work / f"{target}-for-{profile.id}"
        work.mkdir()
        seed_everything(job.recipe.seed)  # so that it does not depend on what was built before
        with steps.step(f"{title}: lower", _WEIGHTS["lower"]):
            toolchain = load_toolchain(target)
            lowered = toolchain.lower(job.model.source, profile, work)
        findings = list(lowered.findings)
        for number, step in enumerate(job.recipe.passes):
            folder = work / f"pass-{number}"
            folder.mkdir()
            with steps.step(f"{title}: {step.name}", _WEIGHTS["passes"] / len(job.recipe.passes)) as progress:
                model = TargetModel(
                    source=job.model.source,
                    lowered=lowered,
                    quantize=toolchain.quantize,
                    calibration=job.calibration.inputs,
                    profile=profile,
                    work=folder,
                    progress=progress,
                )
                lowered = step.run(model)
            findings += [finding for finding in lowered.findings if finding not in findings]
        return lowered, tuple(findings)


def _for_profile(error: CompileError, profile: HardwareProfile) -> CompileError:
    """`error`, saying which of the profiles it is about."""
    return CompileError(
        error.code,
        f"{profile.id}: {error.what}",
        expected=error.expected,
        found=error.found,
        next_step=error.next_step,
    )


def _judge(job: Job, value: float) -> tuple[bool, tuple[Finding, ...]]:
    baseline = job.baseline.value
    missed = tuple(
        Finding(
            code="goal-missed",
            message=f"{goal} is missed: {goal.metric} is {value:.4f}, needed is {goal.needed(baseline):.4f} "
            f"(fp32: {baseline:.4f})",
            next_step="give more or more typical calibration data, or build in fp32 with passes: []",
        )
        for goal in job.recipe.goals
        if not goal.is_met(value, baseline)
    )
    return not missed, missed


def _simulated(manifest: Manifest) -> tuple[Finding, ...]:
    if manifest.quality.how != "simulated":
        return ()
    stand_in = TARGETS[manifest.target].simulated_by
    message = f"{manifest.quality.metric} was computed by {stand_in}, which stands in for {manifest.target} here"
    return (Finding(code="quality-simulated", message=message, severity=Severity.INFO),)


def _fallback_findings(refusals: Mapping[str, CompileError], target: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            code="target-fell-back",
            message=f"built for {target}, because {refused} does not take the model: {error.what}",
            where=error.found,
            next_step=error.next_step,
        )
        for refused, error in refusals.items()
    )
