"""`edgewright compile` around the compile itself: what it checks before, what it writes and which status it gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright.cli import main
from edgewright.compiler import pipeline
from edgewright.compiler.report import ArtifactReport, Baseline, CompileReport
from edgewright.contracts import wire
from edgewright.contracts.errors import CompileError
from edgewright.contracts.ids import ProfileId, digest_of

RECIPE = """\
model: nothing:here
name: digits
data: {calibrate: "nothing:data", evaluate: "nothing:data"}
metric: accuracy
goals: {accuracy: {max-degradation: 0.01}}
passes: []
profiles: [raspberry-pi-4]
"""
ARTIFACT = ArtifactReport(
    profile=ProfileId("raspberry-pi-4"),
    target="tflite",
    precision="int8",
    path="raspberry-pi-4",
    digest=digest_of(b""),
    size_bytes=1000,
    metric="accuracy",
    value=0.985,
    latency_us=None,
    goals_met=True,
    findings=(),
)
REPORT = CompileReport(
    model="digits", baseline=Baseline(metric="accuracy", value=0.99, size_bytes=4000), artifacts=(ARTIFACT,)
)


@pytest.fixture
def made(monkeypatch, tmp_path):
    """`made(report or error)`: what the compile itself gives; returns a list of its calls."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    calls: list[Path] = []

    def make(result: CompileReport | Exception) -> list[Path]:
        def compile_recipe(recipe, profiles, out, log):
            calls.append(out)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(pipeline, "compile_recipe", compile_recipe)
        return calls

    return make


def old(**changes) -> str:
    Path("old.json").write_bytes(wire.encode(replace(REPORT, artifacts=(replace(ARTIFACT, **changes),))))
    return "old.json"


def test_no_regression_exits_0_and_says_so_in_the_document(made, capfd):
    made(REPORT)
    assert main(["compile", "recipe.yaml", "--json", "--check", old()]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document.pop("regressions") == []
    assert document == json.loads(wire.encode(REPORT))


def test_a_regression_exits_3_with_one_document_and_a_coded_error(made, capfd):
    made(REPORT)
    assert main(["compile", "recipe.yaml", "--json", "--check", old(size_bytes=500)]) == 3
    shown = capfd.readouterr()
    (regression,) = json.loads(shown.out)["regressions"]
    assert (regression["code"], regression["before"], regression["after"]) == ("size-growth", 500, 1000)
    assert "error[regressed]" in shown.err
    assert "500 to 1,000 bytes" in shown.err


def test_without_check_the_document_is_the_report(made, capfd):
    made(REPORT)
    assert main(["compile", "recipe.yaml", "--json"]) == 0
    assert capfd.readouterr().out == wire.encode(REPORT).decode() + "\n"


def test_the_document_with_regressions_can_be_checked_against_again(made, capfd):
    made(REPORT)
    main(["compile", "recipe.yaml", "--json", "--check", old(size_bytes=500)])
    Path("again.json").write_text(capfd.readouterr().out)
    assert main(["compile", "recipe.yaml", "--json", "--check", "again.json"]) == 0


def test_an_unreadable_old_report_is_told_before_anything_is_compiled(made, capfd):
    calls = made(REPORT)
    Path("old.json").write_text("{}")
    assert main(["compile", "recipe.yaml", "--json", "--check", "old.json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "check-unreadable"
    assert calls == []


def test_profiles_that_were_not_asked_for_are_not_missing(made):
    made(REPORT)
    other = replace(REPORT, artifacts=(ARTIFACT, replace(ARTIFACT, profile=ProfileId("intel-n100"))))
    Path("old.json").write_bytes(wire.encode(other))
    assert main(["compile", "recipe.yaml", "--check", "old.json", "--profile", "raspberry-pi-4"]) == 0
    assert main(["compile", "recipe.yaml", "--check", "old.json"]) == 3


def test_junit_is_written_with_goals_and_regressions(made):
    made(REPORT)
    assert main(["compile", "recipe.yaml", "--junit", "results/junit.xml", "--check", old(size_bytes=500)]) == 3
    written = Path("results/junit.xml").read_text()
    assert 'name="accuracy: max-degradation 0.01"' in written
    assert '<failure type="size-growth"' in written
    assert [path.name for path in Path("results").iterdir()] == ["junit.xml"]


def test_a_failed_compile_is_in_the_junit_file(made):
    made(CompileError("unsupported-op", "an operation is not supported"))
    assert main(["compile", "recipe.yaml", "--junit", "junit.xml"]) == 4
    assert '<error type="unsupported-op"' in Path("junit.xml").read_text()


def test_a_recipe_that_cannot_be_read_is_in_the_junit_file(made):
    made(REPORT)
    assert main(["compile", "none.yaml", "--junit", "junit.xml"]) == 2
    assert '<error type="recipe-missing"' in Path("junit.xml").read_text()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("edgewright-out/recipe/junit.xml", "file-in-out"),
        (".", "file-not-writable"),
        ("recipe.yaml/junit.xml", "file-not-writable"),
    ],
)
def test_a_junit_file_that_cannot_be_written_is_told_before_the_work(made, capfd, path, code):
    calls = made(REPORT)
    assert main(["compile", "recipe.yaml", "--junit", path, "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["code"] == code
    assert calls == []


def test_people_are_told_where_the_pictures_are(made, capfd):
    made(REPORT)
    main(["compile", "recipe.yaml", "--out", "build"])
    assert "build/report.html" in capfd.readouterr().out
