"""`edgewright compile`: a trained model in, artifacts for hardware profiles out.

Exit status 0: every artifact met every goal. 3: all were built, and some missed a goal; the report says which. Anything
else: nothing was written.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.contracts.errors import GoalsNotMet, UserError

if TYPE_CHECKING:
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


def run(args: argparse.Namespace) -> int:
    """Compile; returns the exit status."""
    with _stdout_to_stderr():
        # Toolchains, and the user's own code, print what they like; stdout is for the report alone.
        report, out = _compile(args)
    if args.json:
        from edgewright.contracts import wire

        sys.stdout.write(wire.encode(report).decode() + "\n")
    else:
        from rich.console import Console

        from edgewright.compiler.report import show

        # A log has no width; a table of this width holds every profile's name unbroken.
        show(report, Console(file=sys.stdout, width=None if sys.stdout.isatty() else _LOG_WIDTH))
        sys.stdout.write(f"written to {out}\n")
    if report.goals_met:
        return 0
    missed = [artifact.profile for artifact in report.artifacts if not artifact.goals_met]
    error = GoalsNotMet(
        "goals-not-met",
        f"{len(missed)} of {len(report.artifacts)} artifacts missed a goal: {', '.join(missed)}",
        found=f"what each artifact reached stands in {out / 'report.json'}",
        next_step="give more or more typical calibration data, build in fp32 with passes: [], or relax the goal",
    )
    sys.stderr.write(f"{error}\n")
    return error.exit_status


def _compile(args: argparse.Namespace) -> tuple[CompileReport, Path]:
    try:
        from edgewright.compiler.pipeline import compile_recipe
        from edgewright.compiler.recipe import read_recipe

        recipe = read_recipe(args.recipe)
        out = args.out if args.out is not None else Path("edgewright-out") / recipe.path.stem
        return compile_recipe(recipe, args.profile, out, sys.stderr), out
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("edgewright"):
            raise
        raise UserError(
            "extra-not-installed",
            f"this command needs the Python package {error.name!r}, which is not installed",
            next_step="pip install 'edgewright[compile]'",
        ) from None


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
