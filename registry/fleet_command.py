"""`edgewright fleet status`."""

from __future__ import annotations

import argparse
import sys
import time

from edgewright.contracts import wire
from edgewright.registry.client import RegistryClient
from edgewright.registry.display import fleet_table
from edgewright.registry.options import add_common, results


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_common(actions.add_parser("status", help="which device runs what, with the latency it measured"))


def run(args: argparse.Namespace) -> int:
    """Show the fleet."""
    with RegistryClient(args.registry) as client:
        fleet = client.fleet()
    if args.json:
        sys.stdout.write(wire.encode(fleet).decode() + "\n")
    elif fleet.devices:
        console = results()
        console.print(fleet_table(fleet, time.time(), console.width))
    else:
        results().print("no devices yet; start one: [bold]edgewright-agent run --config agent.toml[/]")
    return 0
