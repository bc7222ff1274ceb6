"""`edgewright profiles list | show ID | match`: what hardware edgewright knows, and which of it this machine is.

With `--json` a command prints one document with `schema` on stdout, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgewright.contracts.hardware import Fingerprint, HardwareProfile
from edgewright.contracts.wire import encode
from edgewright.hardware_profiles.fingerprint import take_fingerprint
from edgewright.hardware_profiles.matching import Match, match
from edgewright.hardware_profiles.schema import FACTS, get_profile, load_profiles

JSON_SCHEMA = 1
_GIB = 1024**3
_PIPE_WIDTH = 100  # columns, where no terminal says how many it has


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    leaves: tuple[tuple[str, str, Callable[[argparse.Namespace], int]], ...] = (
        ("list", "all hardware profiles", _list),
        ("show", "one profile: its facts, and where each was read", _show),
        ("match", "which profile is the machine I am on", _match),
    )
    for name, help_text, handler in leaves:
        leaf = commands.add_parser(name, help=help_text, description=help_text)
        if name == "show":
            leaf.add_argument("id", metavar="ID", help="a profile's id, such as raspberry-pi-4")
        leaf.add_argument("--json", action="store_true", help="print one JSON document")
        leaf.set_defaults(handler=handler)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand that was given; its exit status.

    Raises:
        UserError: `profile-unknown`.
    """
    handler: Callable[[argparse.Namespace], int] = args.handler
    return handler(args)


def _list(args: argparse.Namespace) -> int:
    profiles = load_profiles()
    if args.json:
        return _print_json(profiles=tuple(profiles.values()))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("profile", "machine", "cores", "memory", "CPU flags", "GPU", "targets"):
        table.add_column(
            title,
            style="bold cyan" if title == "profile" else "",
            justify="right" if title in ("cores", "memory") else "left",
            no_wrap=title != "CPU flags",
            overflow="fold",
            min_width=12 if title == "CPU flags" else None,
        )
    for profile in profiles.values():
        table.add_row(*map(Text, _row(profile)))
    console = _console()
    console.print(table)
    console.print(Text("\n`edgewright profiles show ID` says where each fact was read.", style="dim"))
    return 0


def _row(profile: HardwareProfile) -> tuple[str, ...]:
    return (
        profile.id,
        profile.machine,
        str(profile.cores),
        _gib(profile.memory_bytes) if profile.memory_bytes is not None else "-",
        " ".join(profile.cpu_flags),
        f"SM {profile.sm}" if profile.sm is not None else "-",
        ", ".join(profile.targets),
    )


def _show(args: argparse.Namespace) -> int:
    profile = get_profile(args.id)
    if args.json:
        return _print_json(profile=profile)
    console = _console()
    console.print(Text.assemble((profile.id, "bold cyan"), "  ", profile.name))
    for name in FACTS:
        value = _value(name, getattr(profile, name))
        if value is None:
            continue
        console.print()
        console.print(Text.assemble((f"{name:<17}", "bold"), value))
        console.print(Padding(Text(profile.sources[name], style="dim"), (0, 0, 0, 17)), soft_wrap=False)
    return 0


def _value(name: str, value: object) -> str | None:
    """A fact as a person reads it; None where the profile does not state it."""
    if value is None or value == ():
        return None
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return _gib(value) if name == "memory_bytes" and isinstance(value, int) else str(value)


def _match(args: argparse.Namespace) -> int:
    fingerprint = take_fingerprint()
    profiles = load_profiles()
    matches = match(fingerprint, profiles)
    if args.json:
        return _print_json(fingerprint=fingerprint, matches=tuple(asdict(found) for found in matches))
    best = matches[0]
    answer = (
        Text.assemble("This machine is ", (best.profile, "bold green"), f": {profiles[best.profile].name}.")
        if best.fits
        else Text("This machine fits no profile.", style="bold yellow")
    )
    console = _console()
    console.print(answer, end="\n\n")
    console.print(_fingerprint_table(fingerprint))
    for fits in (True, False):
        if group := [found for found in matches if found.fits is fits]:
            console.print()
            console.print(_match_table(group, fits))
    return 0


def _fingerprint_table(fingerprint: Fingerprint) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, value in _facts_in_short(fingerprint):
        table.add_row(label, Text(value))
    return table


def _facts_in_short(fingerprint: Fingerprint) -> Iterator[tuple[str, str]]:
    if fingerprint.board is not None:
        yield "board", fingerprint.board
    yield "CPU", f"{fingerprint.cpu_model or 'unknown'}, {fingerprint.cores} cores, {fingerprint.machine}"
    # Of the hundred flags that a CPU may have, those that some profile asks about.
    asked = dict.fromkeys(flag for profile in load_profiles().values() for flag in profile.cpu_flags)
    yield "CPU flags", " ".join(flag for flag in asked if flag in fingerprint.cpu_flags) or "none that matter"
    yield "memory", _gib(fingerprint.memory_bytes) if fingerprint.memory_bytes else "unknown"
    gpu = fingerprint.gpu
    yield "GPU", f"{gpu.name}, SM {gpu.sm}, {_gib(gpu.memory_bytes)}, driver {gpu.driver}" if gpu else "no CUDA GPU"
    libc = f", glibc {fingerprint.glibc}" if fingerprint.glibc else ""
    yield "system", f"{fingerprint.os}{libc}, Python {fingerprint.python}"
    runtimes = ", ".join(f"{name} {version}" for name, version in fingerprint.runtimes.items())
    yield "runtimes", runtimes or "none installed"


def _match_table(matches: list[Match], fits: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("fits" if fits else "does not fit", style="green" if fits else "", no_wrap=True, min_width=18)
    table.add_column("score" if fits else "", justify="right", no_wrap=True, min_width=5)
    table.add_column("because", style="" if fits else "dim")
    for found in matches:
        score = f"{found.score:g}" if fits else ""
        table.add_row(Text(found.profile), score, Text("; ".join(found.reasons if fits else found.blockers)))
    return table


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.3g} GiB"


def _console() -> Console:
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width)


def _print_json(**document: object) -> int:
    sys.stdout.write(encode({"schema": JSON_SCHEMA, **document}).decode() + "\n")
    return 0
