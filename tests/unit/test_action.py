"""The GitHub Action: its script is run as a runner does, with a command in edgewright's place that notes arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
FAKE = """\
#!/bin/sh
for argument; do printf '%s\\n' "$argument" >>arguments; done
[ "$STATUS" = 4 ] || { mkdir -p build && touch build/report.json; }
echo "the table"
exit "$STATUS"
"""


@pytest.fixture
def run(tmp_path):
    """`run(status, **inputs)` runs the step `Compile`; returns the process, the arguments and the outputs."""

    def run_step(status: int = 0, **inputs: str):
        (tmp_path / "edgewright").write_text(FAKE)
        (tmp_path / "edgewright").chmod(0o755)
        step = STEPS["Compile"]
        values = {name: given.get("default", "") for name, given in ACTION["inputs"].items()} | inputs
        expressions = {f"${{{{ inputs.{name} }}}}": value for name, value in values.items()}
        environment = {name: expressions[text] for name, text in step["env"].items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=tmp_path,
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "STATUS": str(status),
                "RUNNER_TEMP": str(tmp_path),
                "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
                "GITHUB_OUTPUT": str(tmp_path / "output"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        arguments = (tmp_path / "arguments").read_text().splitlines()
        outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
        return done, arguments, outputs

    return run_step


def test_inputs_become_arguments_and_the_result_outputs(run, tmp_path):
    (tmp_path / "old.json").touch()
    profiles = "intel-n100\n raspberry-pi-4\n"
    done, arguments, outputs = run(recipe="r.yaml", profiles=profiles, out="build", check="old.json")
    assert done.returncode == 0, done.stderr
    assert arguments == [
        *("compile", "--out", "build", "--junit", "edgewright-junit.xml"),
        *("--profile", "intel-n100", "--profile", "raspberry-pi-4"),
        *("--check", "old.json", "--", "r.yaml"),
    ]
    assert outputs == {"status": "0", "report": "./build/report.json", "page": "./build/report.html"}
    assert "the table" in (tmp_path / "summary").read_text()
    assert "the table" in done.stdout


def test_without_an_old_report_nothing_is_compared(run):
    done, arguments, _ = run(recipe="r.yaml", out="build", check="none.json")
    assert "--check" not in arguments
    assert "::notice::none.json does not exist" in done.stdout


def test_the_status_of_the_compile_is_the_steps(run):
    done, _, outputs = run(3, recipe="r.yaml", out="build")
    assert (done.returncode, outputs["status"]) == (3, "3")
    assert outputs["report"] == "./build/report.json"


def test_a_failed_compile_has_no_report(run):
    done, _, outputs = run(4, recipe="r.yaml", out="build")
    assert done.returncode == 4
    assert outputs == {"status": "4"}


def test_an_input_cannot_become_a_command(run, tmp_path):
    evil = '$(touch pwned) `touch pwned`"; touch pwned; "'
    _, arguments, _ = run(recipe=evil, profiles="*", out="build")
    assert arguments[-1] == evil
    assert arguments[arguments.index("--profile") + 1] == "*"
    assert not (tmp_path / "pwned").exists()


def test_no_script_holds_an_expression():
    assert not [name for name, step in STEPS.items() if "${{" in step.get("run", "")]


def test_every_input_is_used_and_every_used_one_is_declared():
    text = (ROOT / "action.yml").read_text()
    used = {name for name in ACTION["inputs"] if f"inputs.{name}" in text}
    assert used == ACTION["inputs"].keys()


def test_the_documented_inputs_are_the_actions():
    page = (ROOT / "docs" / "ci.md").read_text()
    assert {name for name in ACTION["inputs"] if f"| `{name}` |" in page} == ACTION["inputs"].keys()
    for block in page.split("```yaml\n")[1:]:
        document = yaml.safe_load(block.partition("```")[0])
        for job in document.get("jobs", {}).values():
            for step in job["steps"]:
                if "edgewright@" in step.get("uses", ""):
                    assert step["with"].keys() <= ACTION["inputs"].keys()
