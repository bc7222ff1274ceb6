"""Profiles as files: what is shipped holds what it promises, and a mistake in a file is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import edgewright.hardware_profiles
from edgewright.contracts.errors import UserError
from edgewright.hardware_profiles.schema import FACTS, get_profile, load_profiles, parse_profile
from edgewright.targets import TARGETS

FOLDER = Path(edgewright.hardware_profiles.__file__).parent
PROFILES = load_profiles()

GOOD = """
id = "board"
name = "A board"

machine = { value = "aarch64", reason = "so it is" }
cores = { value = 4, source = "manual", note = "page 3" }
cpu_flags = { value = ["asimd"], source = "manual" }
targets = { value = ["tflite"], reason = "one file" }
precisions = { value = ["int8", "fp32"], reason = "smaller first" }
threads = { value = 4, reason = "one for each core" }
channel_multiple = { value = 16, source = "manual" }

[sources.manual]
title = "The manual"
where = "https://example.org/manual"
"""


def broken(old: str, new: str, *, code: str) -> UserError:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        parse_profile(GOOD.replace(old, new), "board")
    assert caught.value.code == code
    assert "board.toml" in caught.value.what
    return caught.value


# The hardware as its makers describe it: architecture, cores, memory in GiB, what INT8 counts on, compute capability.
HARDWARE = {
    "aarch64":            ("aarch64", 2, None, "asimd",       None),
    "intel-n100":         ("x86_64",  4, None, "avx_vnni",    None),
    "jetson-orin-nano":   ("aarch64", 6, 4,    "asimddp",     87),
    "raspberry-pi-3":     ("aarch64", 4, 1,    "asimd",       None),
    "raspberry-pi-4":     ("aarch64", 4, 1,    "asimd",       None),
    "raspberry-pi-5":     ("aarch64", 4, 1,    "asimddp",     None),
    "rtx-4060":           ("x86_64",  4, None, "fma",         89),
    "x86-64-avx2":        ("x86_64",  2, None, "fma",         None),
    "x86-64-avx512-vnni": ("x86_64",  2, None, "avx512_vnni", None),
}  # fmt: skip


def test_profiles_are_the_promised_ones_with_their_hardware() -> None:
    found = {
        profile.id: (
            profile.machine,
            profile.cores,
            profile.memory_bytes and profile.memory_bytes / 1024**3,
            profile.cpu_flags[-1],
            profile.sm,
        )
        for profile in PROFILES.values()
    }
    assert found == HARDWARE


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_every_stated_fact_has_its_source(profile) -> None:  # type: ignore[no-untyped-def]
    stated = {name for name in FACTS if getattr(profile, name) not in (None, ())}
    assert set(profile.sources) == stated
    assert all(source.strip() for source in profile.sources.values())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_facts_of_a_board_or_gpu_come_from_a_document(profile) -> None:  # type: ignore[no-untyped-def]
    facts = {"boards", "gpu", "sm", "memory_bytes"} | ({"cores", "cpu_flags"} if profile.boards else set())
    for name in facts & set(profile.sources):
        assert "<https://" in profile.sources[name], name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_listed_document_is_used_and_can_be_found(path: Path) -> None:
    document = tomllib.loads(path.read_text())
    used = {fact["source"] for fact in document.values() if isinstance(fact, dict) and "source" in fact}
    assert used == set(document["sources"])
    assert all(re.fullmatch(r"https://\S+", entry["where"]) for entry in document["sources"].values())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_targets_are_ones_that_edgewright_compiles_for(profile) -> None:  # type: ignore[no-untyped-def]
    assert set(profile.targets) <= set(TARGETS)


def test_generic_classes_prefer_the_portable_artifact() -> None:
    for name in ("x86-64-avx2", "aarch64"):
        assert get_profile(name).targets[0] == "tflite"


def test_source_and_reason_are_told_apart() -> None:
    profile = parse_profile(GOOD, "board")
    assert profile.sources["cores"] == "The manual <https://example.org/manual> (page 3)"
    assert profile.sources["threads"] == "our choice: one for each core"


def test_what_is_left_out_is_not_there() -> None:
    profile = parse_profile(GOOD, "board")
    assert (profile.memory_bytes, profile.boards, profile.gpu, profile.sm) == (None, (), None, None)


def test_unknown_key_names_the_nearest() -> None:
    error = broken("threads =", "treads =", code="profile-unknown-key")
    assert (error.found, error.next_step) == ("'treads'", "did you mean 'threads'?")


def test_unknown_key_inside_a_fact_names_the_nearest() -> None:
    error = broken('note = "page 3"', 'notes = "page 3"', code="profile-unknown-key")
    assert error.next_step == "did you mean 'note'?"
    assert "cores" in error.what


def test_unknown_key_of_a_document_is_refused() -> None:
    broken('title = "The manual"', 'title = "The manual"\nurl = "x"', code="profile-unknown-key")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{ value = 4, source = "manual", note = "page 3" }', "4"),
        ('{ value = 4, source = "manual", note = "page 3" }', "{ value = 4 }"),
        ('{ value = 4, source = "manual", note = "page 3" }', '{ value = 4, source = "manual", reason = "both" }'),
        ('{ value = 4, source = "manual", note = "page 3" }', '{ value = 4, reason = "so", note = "page 3" }'),
        ('source = "manual", note', 'source = "manuel", note'),
    ],
    ids=["bare value", "neither", "both", "note without source", "unlisted document"],
)
def test_fact_without_its_source_is_refused(old: str, new: str) -> None:
    error = broken(old, new, code="profile-source-missing")
    assert "cores" in error.what


def test_unlisted_document_names_the_nearest() -> None:
    error = broken('source = "manual", note', 'source = "manuel", note', code="profile-source-missing")
    assert error.next_step == "did you mean 'manual'?"


@pytest.mark.parametrize("fact", ["id", "name", "machine", "cores", "cpu_flags", "targets", "threads"])
def test_missing_fact_is_named(fact: str) -> None:
    line = next(line for line in GOOD.splitlines() if line.startswith(f"{fact} ="))
    assert broken(line, "", code="profile-fact-missing").what == f"board.toml does not say {fact}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "board"', 'id = "bord"'),
        ("value = 4, source", "value = 0, source"),
        ("value = 4, reason", "value = 5, reason"),
        ("value = 16", "value = 0"),
        ('value = ["tflite"]', "value = []"),
        ('value = ["tflite"]', 'value = ["tflite", "tflite"]'),
        ('name = "A board"', 'name = "A board"\nsm = { value = 89, reason = "a GPU without a name" }'),
        ('name = "A board"', 'name = "A board"\nboards = { value = [" "], reason = "matches everything" }'),
    ],
    ids=["id", "cores", "more threads than cores", "multiple", "no target", "target twice", "sm alone", "blank board"],
)
def test_value_that_cannot_be_is_refused(old: str, new: str) -> None:
    broken(old, new, code="profile-value-wrong")


@pytest.mark.parametrize("value", ['"4"', "4.5", "true", "[4]"])
def test_value_of_the_wrong_type_is_refused(value: str) -> None:
    error = broken("value = 4, source", f"value = {value}, source", code="document-malformed")
    assert error.found is not None
    assert "$.cores" in error.found


def test_broken_toml_is_refused() -> None:
    broken('id = "board"', "id = ", code="profile-not-toml")


def test_id_that_is_no_name_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(GOOD.replace('id = "board"', 'id = "../board"'), "../board")
    assert caught.value.code == "profile-malformed"


def test_unknown_profile_names_the_nearest_and_all() -> None:
    with pytest.raises(UserError) as caught:
        get_profile("raspberry-pi4")
    assert caught.value.code == "profile-unknown"
    assert caught.value.next_step == "did you mean 'raspberry-pi-4'?"
    assert all(name in str(caught.value.expected) for name in PROFILES)


def test_one_callers_changes_do_not_reach_another() -> None:
    load_profiles().clear()
    assert load_profiles() == PROFILES
