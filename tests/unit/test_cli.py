import json
import signal
import subprocess
import sys
import types

import pytest

from edgewright import cli
from edgewright.cli import Command
from edgewright.contracts.errors import CompileError, GoalsNotMet, TransportError, UserError


@pytest.fixture
def run(monkeypatch, capfd):
    """Run `edgewright it` with the given behaviour; returns (status, stdout, stderr)."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(behaviour, *arguments):
        module = types.ModuleType("fake_command")
        module.configure = lambda parser: parser.add_argument("--json", action="store_true")
        module.run = behaviour
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setattr(cli, "COMMANDS", {"it": Command("fake_command", "does it")})
        status = cli.main(["it", *arguments])
        return status, *capfd.readouterr()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def raises(error):
    def behaviour(_args):
        raise error

    return behaviour


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("a-code", "what"), 2),
        (GoalsNotMet("a-code", "what"), 3),
        (CompileError("a-code", "what"), 4),
        (TransportError("a-code", "what"), 5),
        (KeyboardInterrupt(), 130),
        (RuntimeError("surprise"), 1),
    ],
)
def test_an_error_becomes_a_message_and_its_status(run, error, status):
    got, out, err = run(raises(error))
    assert (got, out) == (status, "")
    assert err.startswith("error[")
    assert "Traceback" not in err


def test_with_json_an_error_is_one_document_on_stdout(run):
    status, out, err = run(raises(UserError("a-code", "what", next_step="do")), "--json")
    assert status == 2
    assert json.loads(out)["error"] == {"code": "a-code", "what": "what", "expected": None, "found": None, "next": "do"}
    assert "a-code" in err


def test_a_defect_shows_its_traceback_to_those_who_ask(run, monkeypatch):
    monkeypatch.setenv("EDGEWRIGHT_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run(raises(RuntimeError("surprise")))


def test_unknown_command_names_the_nearest(capfd):
    assert cli.main(["complie"]) == 2
    assert "did you mean 'compile'?" in capfd.readouterr().err


def test_help_names_every_command(capfd):
    assert cli.main([]) == 0
    out = capfd.readouterr().out
    assert all(f"  {name}" in out for name in cli.COMMANDS)


def test_a_mistake_in_the_arguments_is_an_error_like_any_other(run):
    status, out, err = run(lambda _args: 0, "--jsn", "--json")
    assert status == 2
    assert json.loads(out)["error"]["code"] == "arguments-wrong"
    assert "--jsn" in err
    assert "see `edgewright it --help`" in err


def test_missing_extra_is_named(monkeypatch, capfd):
    monkeypatch.setattr(cli, "COMMANDS", {"it": Command("edgewright.registry.command", "does it")})

    def fail(_name):
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    assert cli.main(["it"]) == 2
    err = capfd.readouterr().err
    assert "'fastapi'" in err
    assert "edgewright[registry]" in err


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m edgewright.cli --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_termination_unwinds_like_an_exception(name, status):
    code = f"""
import signal, sys, types
from edgewright import cli

def behaviour(_args):
    try:
        signal.raise_signal(signal.{name})
    finally:
        print("cleaned up")

sys.modules["fake"] = types.SimpleNamespace(configure=lambda parser: None, run=behaviour)
cli.COMMANDS = {{"it": cli.Command("fake", "does it")}}
sys.exit(cli.main(["it"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "cleaned up\n", "")
