"""What the commands that talk to a registry have in common."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.console import Console

from edgewright.contracts import wire
from edgewright.registry.client import DEFAULT_URL, URL_VARIABLE

_LINE = 200


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add `--registry` and `--json`."""
    parser.add_argument(
        "--registry", metavar="URL", help=f"the registry (default: ${URL_VARIABLE}, else {DEFAULT_URL})"
    )
    parser.add_argument("--json", action="store_true", help="exactly one JSON document on stdout")


def write_json(document: dict[str, Any]) -> None:
    """The one JSON document of `--json`."""
    sys.stdout.write(wire.encode({"schema": 1, **document}).decode() + "\n")


def results() -> Console:
    """Where results go. What is not a terminal gets whole lines, for `grep` and the like."""
    width = None if sys.stdout.isatty() else _LINE
    return Console(file=sys.stdout, highlight=False, width=width)


def progress() -> Console:
    """Where everything else goes."""
    return Console(stderr=True, highlight=False)
