import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from edgewright import targets
from edgewright.compiler.build import Builder
from edgewright.compiler.latency import why_not
from edgewright.compiler.pipeline import choose_profiles
from edgewright.compiler.progress import showing
from edgewright.compiler.report import ArtifactReport, Baseline, CompileReport, show
from edgewright.compiler.user_code import importable
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.findings import Finding
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import digest_of, parse_profile_id
from edgewright.contracts.manifest import Requirements
from edgewright.hardware_profiles.schema import get_profile


class FakeRecipe:
    profiles = ("raspberry-pi-4", "raspberry-pi-5")


def ids(*wanted: str) -> list[str]:
    return [profile.id for profile in choose_profiles(FakeRecipe(), wanted)]


def test_profiles_of_the_command_line_replace_the_recipes():
    assert ids() == ["raspberry-pi-4", "raspberry-pi-5"]
    assert ids("intel-n100", "raspberry-pi-3", "intel-n100") == ["intel-n100", "raspberry-pi-3"]


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(UserError) as caught:
        ids("rasberry-pi-4")
    assert caught.value.code == "profile-unknown"
    assert "raspberry-pi-4" in str(caught.value.next_step)


def test_no_profile_at_all_is_told():
    recipe = FakeRecipe()
    recipe.profiles = ()
    with pytest.raises(UserError) as caught:
        choose_profiles(recipe, ())
    assert caught.value.code == "profiles-missing"


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_targets_declare_what_they_read_of_a_profile(name):
    """Profiles that agree in the declared facts share one lowered model, so no other fact may be looked at."""
    folder = Path(targets.__file__).parent / name
    code = (folder / "lower.py").read_text() + (folder / "quantize.py").read_text()
    read = set(re.findall(r"\bprofile\.(\w+)", code))
    assert read <= set(targets.TARGETS[name].profile_facts)


BOARD = get_profile("raspberry-pi-4")
HOST = Fingerprint(
    machine="aarch64",
    cpu_model="Cortex-A72",
    cores=4,
    cpu_flags=("asimd",),
    memory_bytes=4 << 30,
    board="Raspberry Pi 4 Model B Rev 1.4",
    gpu=None,
    os="Debian 12",
    glibc="2.36",
    python="3.11",
    runtimes={"tflite": "2.3.0"},
)


class FakeManifest:
    requirements = Requirements(machine=("aarch64",), runtimes={"tflite": ">=2.3,<2.4"})


def test_a_host_measures_for_the_board_that_it_is():
    assert why_not(FakeManifest(), BOARD, HOST) == ()


@pytest.mark.parametrize(
    "other",
    [
        {"board": "Raspberry Pi 5 Model B", "cpu_model": "Cortex-A76"},
        {"machine": "x86_64", "board": None, "cpu_model": "AMD EPYC"},
        {"runtimes": {}},
    ],
    ids=["another-board", "another-machine", "no-runtime"],
)
def test_a_host_does_not_measure_for_a_board_that_it_is_not(other):
    assert why_not(FakeManifest(), BOARD, dataclasses.replace(HOST, **other))


class Picky(Builder):
    """Builds for the targets that `refusals` does not name."""

    def __init__(self, **refusals: CompileError) -> None:
        self.refusals = refusals

    def _build(self, profile, target, dest, steps, findings):
        (dest / target).touch()
        if target in self.refusals:
            raise self.refusals[target]
        return target, [finding.code for finding in findings]


REFUSAL = CompileError("unsupported-op", "no aten::foo", found="layer 3", next_step="replace it")


def test_a_target_that_refuses_the_model_is_followed_by_the_next(tmp_path):
    profile = get_profile("x86-64-avx2")
    first, second = profile.targets
    assert Picky().build(profile, tmp_path, None) == (first, [])
    assert Picky(**{first: REFUSAL}).build(profile, tmp_path, None) == (second, ["target-fell-back"])
    assert [path.name for path in tmp_path.iterdir()] == [second]


def test_refusals_of_all_targets_are_listed(tmp_path):
    profile = get_profile("x86-64-avx2")
    with pytest.raises(CompileError) as caught:
        Picky(**dict.fromkeys(profile.targets, REFUSAL)).build(profile, tmp_path, None)
    assert caught.value.code == "no-target-fits"
    assert all(f"{target}: no aten::foo" in str(caught.value.found) for target in profile.targets)


def test_another_failure_is_not_hidden_behind_the_next_target(tmp_path):
    profile = get_profile("x86-64-avx2")
    broken = CompileError("quantize-failed", "out of memory")
    with pytest.raises(CompileError) as caught:
        Picky(**{profile.targets[0]: broken}).build(profile, tmp_path, None)
    assert (caught.value.code, caught.value.what) == ("quantize-failed", "x86-64-avx2: out of memory")


def test_progress_away_from_a_terminal_is_a_line_a_step():
    log = io.StringIO()
    with showing(log, total=4) as steps:
        for title in ("first", "second"):
            with steps.step(title, 2) as progress:
                progress("half", 1, 2)
    lines = log.getvalue().splitlines()
    assert [re.sub(r", about.*", "", line) for line in lines] == ["[  0%] first", "[ 50%] second"]
    assert "left" in lines[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_at_a_terminal_ends_without_a_trace():
    log = Terminal()
    with showing(log, total=1) as steps, steps.step("only", 1) as progress:
        progress("half", 1, 2)
    assert "\x1b[2K" in log.getvalue()  # the bar's line is erased


def report(**changes) -> CompileReport:
    item = {
        "profile": parse_profile_id("raspberry-pi-4"),
        "target": "tflite",
        "precision": "int8",
        "path": "raspberry-pi-4",
        "digest": digest_of(b""),
        "size_bytes": 1024,
        "metric": "accuracy",
        "value": 0.97,
        "latency_us": None,
        "goals_met": True,
        "findings": (Finding(code="a", message="[odd] markup", next_step="do [this]"),),
    }
    return CompileReport(
        model="net",
        baseline=Baseline(metric="accuracy", value=0.98, size_bytes=4096),
        artifacts=(ArtifactReport(**item), ArtifactReport(**{**item, "profile": "raspberry-pi-5", **changes})),
    )


def shown(document: CompileReport) -> str:
    stream = io.StringIO()
    show(document, Console(file=stream, width=120))
    return stream.getvalue()


def test_the_table_says_size_score_and_goals():
    text = shown(report(goals_met=False))
    assert "1.0 KiB (4.00x smaller)" in text
    assert "0.9700 (-0.0100)" in text
    assert text.count("met") == 1
    assert "missed" in text


def test_a_finding_of_several_profiles_is_told_once_with_its_brackets():
    text = shown(report())
    assert text.count("[odd] markup") == 1
    assert "raspberry-pi-4, raspberry-pi-5: [odd] markup" in text
    assert "next: do [this]" in text


def test_one_missed_goal_is_the_reports():
    assert report().goals_met
    assert not report(goals_met=False).goals_met


def test_the_recipes_folder_is_importable_only_inside(tmp_path):
    (tmp_path / "only_here.py").write_text("value = 1\n")
    before = list(sys.path)
    with importable(tmp_path):
        assert __import__("only_here").value == 1
    assert sys.path == before
    assert "only_here" not in sys.modules


def test_modules_of_one_name_in_two_folders_are_not_mixed_up(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"value = {name!r}\n")
        with importable(tmp_path / name):
            assert __import__("same").value == name


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom edgewright.cli import main\n"
        "try:\n    main(['compile', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join({'torch', 'numpy', 'yaml', 'rich', 'openvino'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "RECIPE.yaml" in done.stdout
    assert done.stderr == ""
