"""`edgewright compile`: a trained model in, artifacts for hardware profiles out.

Exit status 0: every artifact met every goal. 3: all were built, and some missed a goal, or are worse than the report of
`--check`; the report says which. Anything else: nothing was written but the file of `--junit`, which says why.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.contracts.errors import EdgewrightError, GoalsNotMet, UserError

if TYPE_CHECKING:
    from edgewright.compiler.check import Regression
    from edgewright.compiler.report import CompileReport

_LOG_WIDTH = 120


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to compile, and how")
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="ID",
        help="compile for this hardware profile instead of the recipe's; may be given several times",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="new or empty folder for the artifacts (default: edgewright-out/NAME for NAME.yaml)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON document on stdout")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="REPORT.json",
        help="an earlier report: exit with 3 when an artifact is less accurate, larger, slower or missing now",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write the goals as JUnit XML, for a CI system")


def run(args: argparse.Namespace) -> int:
    """Compile; returns the exit status."""
    with _stdout_to_stderr():
        # Toolchains, and the user's own code, print what they like; stdout is for the report alone.
        done = _compile(args)
    _show(done, args)
    errors = [error for error in (_missed(done), _regressed(done, args.check)) if error is not None]
    for error in errors:
        sys.stderr.write(f"{error}\n")
    return errors[0].exit_status if errors else 0


@dataclass(frozen=True)
class _Done:
    """A compile that made its artifacts. `regressions` is None where nothing was compared."""

    report: CompileReport
    out: Path
    regressions: tuple[Regression, ...] | None


def _compile(args: argparse.Namespace) -> _Done:
    try:
        from edgewright.compiler.check import compare, read_old
        from edgewright.compiler.junit import junit_of, junit_of_error
        from edgewright.compiler.output import check_file, write_file
        from edgewright.compiler.pipeline import compile_recipe
        from edgewright.compiler.recipe import read_recipe

        out = args.out if args.out is not None else Path("edgewright-out") / args.recipe.stem
        if args.junit is not None:
            check_file(args.junit, "--junit", out)
        try:
            recipe = read_recipe(args.recipe)
            old = read_old(args.check, recipe.name, recipe.metric) if args.check is not None else None
            report = compile_recipe(recipe, args.profile, out, sys.stderr)
        except EdgewrightError as error:
            if args.junit is not None:
                write_file(args.junit, junit_of_error(args.recipe.stem, error))
            raise
        regressions = compare(old, report, profiles=args.profile) if old is not None else None
        if args.junit is not None:
            write_file(args.junit, junit_of(report, recipe.goals, regressions))
        return _Done(report, out, regressions)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("edgewright"):
            raise
        raise UserError(
            "extra-not-installed",
            f"this command needs the Python package {error.name!r}, which is not installed",
            next_step="pip install 'edgewright[compile]'",
        ) from None


def _show(done: _Done, args: argparse.Namespace) -> None:
    if args.json:
        from edgewright.contracts import wire

        document = wire.to_builtins(done.report)
        if done.regressions is not None:
            document["regressions"] = wire.to_builtins(done.regressions)
        sys.stdout.write(wire.encode(document).decode() + "\n")
        return
    from rich.console import Console

    from edgewright.compiler.report import show

    # A log has no width; a table of this width holds every profile's name unbroken.
    show(done.report, Console(file=sys.stdout, width=None if sys.stdout.isatty() else _LOG_WIDTH))
    sys.stdout.write(f"written to {done.out}; {done.out / 'report.html'} shows it in pictures\n")


def _missed(done: _Done) -> GoalsNotMet | None:
    artifacts = done.report.artifacts
    missed = [artifact.profile for artifact in artifacts if not artifact.goals_met]
    if not missed:
        return None
    return GoalsNotMet(
        "goals-not-met",
        f"{len(missed)} of {len(artifacts)} artifacts missed a goal: {', '.join(missed)}",
        found=f"what each artifact reached stands in {done.out / 'report.json'}",
        next_step="give more or more typical calibration data, build in fp32 with passes: [], or relax the goal",
    )


def _regressed(done: _Done, old: Path | None) -> GoalsNotMet | None:
    if not done.regressions:
        return None
    return GoalsNotMet(
        "regressed",
        f"{len(done.regressions)} regressions against {old}",
        expected="no artifact worse than it was, beyond the tolerances of docs/ci.md",
        found="; ".join(regression.message for regression in done.regressions),
        next_step=f"mend it, or accept it by keeping {done.out / 'report.json'} as the report to check against",
    )


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what is written to stdout in the block to stderr, also by C libraries and by child processes."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
