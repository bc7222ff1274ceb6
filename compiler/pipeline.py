"""A compile from end to end: a recipe and profiles in, a folder of artifacts and a report out.

What is cheap to check is checked first: recipe, profiles and output folder before the data, the data before the model,
the model before any toolchain is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from edgewright.compiler.data import Dataset, load_data, match_inputs
from edgewright.compiler.job import Job
from edgewright.compiler.output import check_free, staged
from edgewright.compiler.pages.adapter import page_of
from edgewright.compiler.progress import Steps, showing
from edgewright.compiler.recipe import CallableRef, CallableSource, Recipe, Source
from edgewright.compiler.report import REPORT_NAME, CompileReport
from edgewright.compiler.report_page import PAGE_NAME, render
from edgewright.compiler.user_code import find_module, importable
from edgewright.contracts import wire
from edgewright.contracts.errors import UserError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.hardware_profiles.schema import get_profile
from edgewright.measurement.artifact import read_manifest

_MODEL_WEIGHT = 2.0
_BASELINE_WEIGHT = 1.0


def compile_recipe(recipe: Recipe, profiles: Sequence[str], out: Path, log: TextIO) -> CompileReport:
    """Compile `recipe` into the folder `out`.

    Args:
        recipe: as read.
        profiles: hardware profiles instead of the recipe's; empty: the recipe's.
        out: a folder that does not exist yet, or an empty one. After an error it is as it was.
        log: where progress is shown.

    Raises:
        UserError: what was asked for does not fit together; the code says how.
        CompileError: a pass or a target failed, or the disk is full.
    """
    boards = choose_profiles(recipe, profiles)
    check_free(out)
    if isinstance(recipe.model, CallableRef):
        with importable(recipe.folder):
            find_module(recipe.model, recipe.folder)
    with staged(out) as (result, work):
        from edgewright.compiler.build import Builder, weight

        total = _MODEL_WEIGHT + _BASELINE_WEIGHT + len(boards) * weight(recipe)
        with importable(recipe.folder), showing(log, total) as steps:
            job = _prepare(recipe, steps)
            builder = Builder(job, work)
            artifacts = []
            for board in boards:
                dest = result / board.id
                dest.mkdir()
                artifacts.append(builder.build(board, dest, steps))
        report = CompileReport(model=recipe.name, baseline=job.baseline, artifacts=tuple(artifacts))
        _write(report, recipe, result)
    return report


def _write(report: CompileReport, recipe: Recipe, result: Path) -> None:
    """The report beside its artifacts, for programs and for people."""
    (result / REPORT_NAME).write_bytes(wire.encode(report))
    manifests = {item.profile: read_manifest(result / item.path)[0] for item in report.artifacts}
    (result / PAGE_NAME).write_text(render(page_of(report, recipe.goals, manifests)), encoding="utf-8")


def choose_profiles(recipe: Recipe, wanted: Sequence[str]) -> tuple[HardwareProfile, ...]:
    """The profiles to compile for, each once: those `wanted`, else the recipe's.

    Raises:
        UserError: `profiles-missing` when there are none, `profile-unknown`.
    """
    names = dict.fromkeys(wanted or recipe.profiles)
    if not names:
        raise UserError(
            "profiles-missing",
            "no hardware profile to compile for",
            expected="profiles: [ID, …] in the recipe, or --profile ID",
            next_step="`edgewright profiles list` shows what there is",
        )
    return tuple(get_profile(name) for name in names)


def _prepare(recipe: Recipe, steps: Steps) -> Job:
    """Load and check data and model. What needs no torch comes first."""
    with steps.step("load data and model", _MODEL_WEIGHT):
        sources = {"calibrate": recipe.calibrate, "evaluate": recipe.evaluate}
        cheap_first = sorted(sources, key=lambda role: isinstance(sources[role], CallableSource))
        data = {role: _load(recipe, sources[role], role) for role in cheap_first}

        from edgewright.compiler.model import load_model
        from edgewright.compiler.provenance import seed_everything

        seed_everything(recipe.seed)
        evaluation = match_inputs(data["calibrate"], data["evaluate"])
        model, calibration = load_model(recipe, data["calibrate"])
        evaluation = match_inputs(calibration, evaluation)
    with steps.step("evaluate the float model", _BASELINE_WEIGHT):
        return Job.prepare(recipe, model, calibration, evaluation)


def _load(recipe: Recipe, source: Source, role: str) -> Dataset:
    if isinstance(source, CallableSource):
        from edgewright.compiler.provenance import seed_everything

        seed_everything(recipe.seed)  # it may shuffle
    return load_data(source, recipe.folder, role)
