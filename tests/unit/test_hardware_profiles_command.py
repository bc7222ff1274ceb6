"""`edgewright profiles` as a person and as a program reads it."""

from __future__ import annotations

import json

import pytest

from edgewright.cli import main
from edgewright.contracts.hardware import Fingerprint, Gpu
from edgewright.hardware_profiles import command
from edgewright.hardware_profiles.schema import load_profiles

PROFILES = load_profiles()
STRANGE = Fingerprint(
    machine="riscv64",
    cpu_model="[bold]SiFive[/bold]",
    cores=4,
    cpu_flags=(),
    memory_bytes=0,
    board=None,
    gpu=Gpu(name="A GPU [N/A]", sm=89, driver="1", memory_bytes=1024**3),
    os="Linux 6.1",
    glibc=None,
    python="3.11.2",
)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found["schema"] == 1
    return found  # type: ignore[no-any-return]


def test_list_shows_every_profile_in_100_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["profiles", "list"]) == 0
    shown = lines(capsys)
    assert {line.split(" ")[0] for line in shown} >= set(PROFILES)
    assert max(map(len, shown)) <= 100
    assert not any("…" in line for line in shown)


def test_show_gives_each_fact_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    for profile in PROFILES.values():
        assert main(["profiles", "show", profile.id]) == 0
        shown = " ".join("".join(lines(capsys)).split())
        for name, source in profile.sources.items():
            assert name in shown
            # A long address is broken at the margin.
            assert source.replace(" ", "") in shown.replace(" ", "")


def test_match_puts_what_fits_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "match"]) == 0
    shown = lines(capsys)
    assert "does not fit" in "\n".join(shown)
    assert shown[0].startswith("This machine ")


def test_match_of_a_machine_that_fits_nothing_says_so_and_shows_names_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "take_fingerprint", lambda: STRANGE)
    assert main(["profiles", "match"]) == 0
    shown = "\n".join(lines(capsys))
    assert shown.startswith("This machine fits no profile.")
    assert "A GPU [N/A], SM 89" in shown
    assert "[bold]SiFive[/bold], 4 cores, riscv64" in shown
    assert "machine is riscv64, not x86_64" in shown


def test_json_of_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "list", "--json"]) == 0
    profiles = document(capsys)["profiles"]
    assert isinstance(profiles, list)
    assert [profile["id"] for profile in profiles] == list(PROFILES)


def test_json_of_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "show", "rtx-4060", "--json"]) == 0
    profile = document(capsys)["profile"]
    assert isinstance(profile, dict)
    assert profile["sm"] == 89
    assert set(profile["sources"]) >= {"sm", "gpu", "targets"}


def test_json_of_match(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "take_fingerprint", lambda: STRANGE)
    assert main(["profiles", "match", "--json"]) == 0
    found = document(capsys)
    assert isinstance(found["fingerprint"], dict)
    assert found["fingerprint"]["machine"] == "riscv64"
    assert isinstance(found["matches"], list)
    assert {entry["profile"] for entry in found["matches"]} == set(PROFILES)
    assert not any(entry["fits"] for entry in found["matches"])


def test_unknown_profile_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "show", "raspberry-pi4", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "profile-unknown"
    assert "did you mean 'raspberry-pi-4'?" in err
