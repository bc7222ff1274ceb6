"""``python -m edgewright.measurement probe|benchmark ROOT``: one trial in a process of its own, for the agent.

Prints one JSON document: a ProbeResult, a BenchmarkReport, or ``{"error": …}`` with the exit status of its class.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgewright.contracts import wire
from edgewright.contracts.errors import EdgewrightError
from edgewright.measurement.benchmark import benchmark
from edgewright.measurement.parent import die_with
from edgewright.measurement.process import ArtifactProcess


def main(argv: list[str] | None = None) -> int:
    """Run one trial."""
    parser = argparse.ArgumentParser(prog="python -m edgewright.measurement")
    parser.add_argument("trial", choices=("probe", "benchmark"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--memory-limit", type=int, metavar="BYTES")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process, which has started us")
    args = parser.parse_args(argv)
    if args.parent is not None:
        die_with(args.parent)
    try:
        sys.stdout.buffer.write(wire.encode(_trial(args)) + b"\n")
    except EdgewrightError as error:
        sys.stdout.buffer.write(wire.encode({"error": error.to_dict()}) + b"\n")
        return error.exit_status
    return 0


def _trial(args: argparse.Namespace) -> object:
    if args.trial == "probe":
        with ArtifactProcess(args.root, memory_limit_bytes=args.memory_limit) as process:
            return process.probe()
    return benchmark(args.root, against=args.against, seconds=args.seconds, memory_limit_bytes=args.memory_limit)


if __name__ == "__main__":
    sys.exit(main())
