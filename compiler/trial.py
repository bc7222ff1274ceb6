"""The trial of a built artifact: it is judged as a device will run it, from its own folder, in a process of its own.

Nothing is taken from the source that it was made of. What it shows sets its golden probe's tolerances; then it is
loaded once more and held against that probe, by the manifest that a device will read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgewright.compiler.data import take
from edgewright.compiler.golden import PROBE_NAME, derive_probe
from edgewright.compiler.job import Job, score
from edgewright.compiler.model import check_finite
from edgewright.compiler.provenance import provenance
from edgewright.contracts import wire
from edgewright.contracts.errors import CompileError, DeviceError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import MANIFEST_NAME, FileEntry, GoldenProbe, Manifest, Quality
from edgewright.measurement.artifact import file_digest
from edgewright.measurement.process import ArtifactProcess
from edgewright.targets import TARGETS
from edgewright.targets.protocol import Lowered, Packaged, Samples

_BATCH = 256


def try_artifact(
    job: Job, profile: HardwareProfile, target: str, lowered: Lowered, packaged: Packaged, dest: Path
) -> Manifest:
    """Run the packaged artifact in `dest`, and write its manifest there, with what it showed.

    Raises:
        CompileError: `artifact-does-not-run`, `artifact-output-nan`, `probe-out-of-tolerance`.
    """
    simulate = TARGETS[target].simulated_by is not None
    manifest = _draft(job, profile, target, lowered, packaged, dest)
    try:
        _write(manifest, dest)
        with ArtifactProcess(dest, simulate=simulate) as process:
            shown = process.infer(job.probe_inputs)
            outputs = _infer_all(process, job.evaluation.inputs)
            how = process.loaded.how
        check_finite(outputs, f"the artifact built for {profile.id}", job.evaluation.origin, "artifact-output-nan")
        value = score(job.recipe.metric, outputs, job.reference, job.evaluation)
        manifest = replace(
            manifest,
            probe=derive_probe(manifest.precision, job.probe_outputs, shown, f"for {profile.id}"),
            quality=replace(manifest.quality, value=value, how=how),
        )
        _write(manifest, dest)
        with ArtifactProcess(dest, simulate=simulate) as process:
            result = process.probe()
    except DeviceError as error:
        raise CompileError(
            "artifact-does-not-run",
            f"the artifact built for {profile.id} does not run on this host: {error.what}",
            expected=error.expected,
            found=error.found,
            next_step=error.next_step,
        ) from error
    if not result.passed:
        raise CompileError(
            "probe-out-of-tolerance",
            f"the artifact built for {profile.id} does not repeat what it just showed",
            expected="the outputs of its golden probe",
            found=result.detail,
            next_step="look for an operation in the model that depends on chance",
        )
    return manifest


def _draft(
    job: Job, profile: HardwareProfile, target: str, lowered: Lowered, packaged: Packaged, dest: Path
) -> Manifest:
    """The manifest of an artifact that was not run yet: with a probe that nothing passes, and no score."""
    recipe, source = job.recipe, job.model.source
    samples = len(next(iter(job.probe_outputs.values())))
    return Manifest(
        model=recipe.name,
        profile=profile.id,
        target=target,
        precision=lowered.precision,
        entry=packaged.entry,
        inputs=source.inputs,
        outputs=source.outputs,
        files=tuple(
            FileEntry(path=path.relative_to(dest).as_posix(), digest=file_digest(path), size_bytes=path.stat().st_size)
            for path in sorted(dest.rglob("*"))
            if path.is_file()
        ),
        requirements=packaged.requirements,
        probe=GoldenProbe(path=PROBE_NAME, samples=samples, atol=0.0, rtol=0.0, min_cosine=2.0),
        quality=Quality(
            metric=recipe.metric, value=0.0, baseline=job.baseline.value, samples=len(job.evaluation), how="not run"
        ),
        provenance=provenance(recipe, job.model.loaded.digest, packaged.toolchain),
        options=packaged.options,
    )


def _infer_all(process: ArtifactProcess, inputs: Samples) -> Samples:
    count = len(next(iter(inputs.values())))
    parts = [process.infer(take(inputs, slice(start, start + _BATCH))) for start in range(0, count, _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _write(manifest: Manifest, dest: Path) -> None:
    (dest / MANIFEST_NAME).write_bytes(wire.encode(manifest))
