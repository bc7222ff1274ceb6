"""The one entry point: finds a command's module, loads only that, and turns errors into messages and exit statuses.

Exit statuses: 0 done, 2 the user's mistake, 3 goals not met, 4 compile failed, 5 transport failed, 6 the device could
not do it, 130 interrupted, 129 and 143 ended by SIGHUP and SIGTERM, 1 a defect in edgewright itself.

With `--json`, stdout carries exactly one JSON document, of an error too; everything else goes to stderr.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from edgewright import __version__
from edgewright.contracts.errors import EdgewrightError, UserError, did_you_mean


class Command(NamedTuple):
    """A command: the module with its `configure(parser)` and `run(args) -> int`, and one line of help."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "compile": Command("edgewright.compiler.command", "compile a trained model for hardware profiles"),
    "profiles": Command("edgewright.hardware_profiles.command", "list, show and match hardware profiles"),
    "registry": Command("edgewright.registry.command", "serve the registry"),
    "publish": Command("edgewright.registry.publish_command", "publish compiled artifacts as a release"),
    "rollout": Command("edgewright.registry.rollout_command", "bring a release to devices"),
    "fleet": Command("edgewright.registry.fleet_command", "show which device runs what, and how fast"),
}
AGENT_COMMANDS: Mapping[str, Command] = {
    "run": Command("edgewright.edge_agent.main", "run the agent until it is stopped"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The `edgewright` command."""
    return _main("edgewright", COMMANDS, sys.argv[1:] if argv is None else argv)


def agent_main(argv: Sequence[str] | None = None) -> int:
    """The `edgewright-agent` command."""
    return _main("edgewright-agent", AGENT_COMMANDS, sys.argv[1:] if argv is None else argv)


def _main(program: str, commands: Mapping[str, Command], argv: Sequence[str]) -> int:
    wants_json = "--json" in argv
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _terminate)
    try:
        return _dispatch(program, commands, argv)
    except EdgewrightError as error:
        _show_error(error, wants_json)
        return error.exit_status
    except KeyboardInterrupt:
        _show_error(UserError("interrupted", "interrupted; nothing was left half-written"), wants_json)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("EDGEWRIGHT_TRACEBACK"):
            raise
        _show_error(
            EdgewrightError(
                "internal",
                f"a defect in edgewright: {type(error).__name__}: {error}",
                next_step="run it again with EDGEWRIGHT_TRACEBACK=1 and report what it prints",
            ),
            wants_json,
        )
        return 1


def _dispatch(program: str, commands: Mapping[str, Command], argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_help(program, commands))
        return 0
    if argv[0] in ("-V", "--version"):
        sys.stdout.write(f"{program} {__version__}\n")
        return 0
    name = argv[0]
    if name not in commands:
        raise UserError(
            "command-unknown",
            f"{program} has no command {name!r}",
            expected="one of " + ", ".join(commands),
            next_step=did_you_mean(name, commands, f"see `{program} --help`"),
        )
    module = _load(commands[name].module)
    # Only now: `--help` is to answer at once.
    from edgewright.arguments import Parser

    parser = Parser(prog=f"{program} {name}", description=commands[name].help)
    module.configure(parser)
    status: int = module.run(parser.parse_args(argv[1:]))
    return status


def _load(name: str):  # type: ignore[no-untyped-def]  # a module: its attributes are looked up by name
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("edgewright"):
            raise
        extra = {"compiler": "compile", "registry": "registry", "edge_agent": "agent"}.get(name.split(".")[1], "all")
        raise UserError(
            "extra-not-installed",
            f"this command needs the Python package {error.name!r}, which is not installed",
            next_step=f"pip install 'edgewright[{extra}]'",
        ) from None


def _help(program: str, commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands))
    rows = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in commands.items())
    return (
        f"usage: {program} COMMAND [OPTIONS]\n\n{rows}\n\n"
        f"`{program} COMMAND --help` tells more; every command takes --json.\n"
        "exit status: 0 done, 2 your input, 3 goals not met, 4 compile failed, 5 transport failed, 6 device\n"
    )


def _show_error(error: EdgewrightError, wants_json: bool) -> None:
    sys.stderr.write(f"{error}\n")
    if wants_json:
        import json

        sys.stdout.write(json.dumps({"schema": 1, "error": error.to_dict()}) + "\n")


def _terminate(signum: int, _frame: object) -> NoReturn:
    # As an exception, so that every `finally` and context manager cleans up as it does for Ctrl-C.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
