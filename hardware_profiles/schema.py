"""Loads hardware profiles: one TOML a board or class of machines, beside this file.

Rules: a file is named by its profile's id. Each fact stands beside where it was read (`source`, a document of the
file's `[sources]`, with an optional `note`) or, where it is our choice or a definition, beside its `reason`: exactly
one of the two. A key that is not known is an error, so that a slip of the pen cannot become a default.

    cores = { value = 4, source = "bcm2711" }
    threads = { value = 4, reason = "one for each core" }

    [sources.bcm2711]
    title = "Raspberry Pi documentation, Processors"
    where = "https://..."
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from edgewright.contracts.errors import NotFound, UserError, did_you_mean
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.ids import ProfileId, parse_profile_id
from edgewright.contracts.wire import convert

_FOLDER = Path(__file__).parent

# What a profile may leave out, and what that means: the board or class does not have it, or does not fix it.
_OPTIONAL: Mapping[str, object] = {"memory_bytes": None, "boards": (), "gpu": None, "sm": None}
_NOT_FACTS = ("id", "name", "sources")
FACTS = tuple(field.name for field in dataclasses.fields(HardwareProfile) if field.name not in _NOT_FACTS)
MAX_CPU_FLAGS = 64

_CHECKS: tuple[tuple[str, str, Callable[[HardwareProfile], bool]], ...] = (
    ("machine",          "not empty",                  lambda p: bool(p.machine)),
    ("cores",            "at least 1",                 lambda p: p.cores >= 1),
    ("memory_bytes",     "positive",                   lambda p: p.memory_bytes is None or p.memory_bytes > 0),
    ("cpu_flags",        f"at most {MAX_CPU_FLAGS}",   lambda p: len(p.cpu_flags) <= MAX_CPU_FLAGS),
    ("boards",           "names that are not empty",   lambda p: all(name.strip() for name in p.boards)),
    ("sm",               "there if gpu is, else not",  lambda p: (p.sm is None) == (p.gpu is None)),
    ("targets",          "at least one, each once",    lambda p: _each_once(p.targets)),
    ("precisions",       "at least one, each once",    lambda p: _each_once(p.precisions)),
    ("threads",          "1 to the number of cores",   lambda p: 1 <= p.threads <= p.cores),
    ("channel_multiple", "at least 1",                 lambda p: p.channel_multiple >= 1),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fact:
    value: object
    source: str | None = None
    note: str | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Document:
    title: str
    where: str


def load_profiles() -> dict[ProfileId, HardwareProfile]:
    """All profiles that edgewright brings, by id, in the order of their ids. Read once; each caller gets a new dict."""
    return dict(_load())


@cache
def _load() -> Mapping[ProfileId, HardwareProfile]:
    paths = sorted(_FOLDER.glob("*.toml"), key=lambda path: path.stem)
    profiles = [parse_profile(path.read_text(encoding="utf-8"), path.stem) for path in paths]
    return {profile.id: profile for profile in profiles}


def get_profile(text: str) -> HardwareProfile:
    """The profile with the id `text`.

    Raises:
        UserError: `profile-unknown`, with the nearest id and all of them.
    """
    profiles = load_profiles()
    profile = profiles.get(ProfileId(text))
    if profile is None:
        raise NotFound(
            "profile-unknown",
            "there is no such hardware profile",
            expected="one of " + ", ".join(profiles),
            found=repr(text[:100]),
            next_step=did_you_mean(text, profiles, "see `edgewright profiles list`"),
        )
    return profile


def parse_profile(text: str, stem: str) -> HardwareProfile:
    """Read one profile.

    Args:
        text: the file's TOML.
        stem: the file's name without ``.toml``; the profile's id must be the same.

    Raises:
        UserError: `profile-not-toml`, `profile-unknown-key`, `profile-fact-missing`, `profile-source-missing`,
            `profile-value-wrong`, or `document-malformed` for a value of the wrong type. Each names the file.
    """
    file = f"{stem}.toml"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError("profile-not-toml", f"{file} is not TOML", found=str(error)) from None
    _refuse_unknown(document, (*_NOT_FACTS, *FACTS), file)
    documents = _documents(document.get("sources", {}), file)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name in FACTS:
        if name in document:
            values[name], sources[name] = _fact(name, document[name], documents, file)
        elif name in _OPTIONAL:
            values[name] = _OPTIONAL[name]
        else:
            raise _missing(name, file)
    for name in ("id", "name"):
        if name not in document:
            raise _missing(name, file)
        values[name] = document[name]
    profile = convert(HardwareProfile, {**values, "sources": sources}, what=file)
    _check(profile, stem, file)
    return profile


def _documents(tables: object, file: str) -> dict[str, _Document]:
    documents = {}
    for key, table in convert(dict[str, dict[str, object]], tables, what=f"[sources] of {file}").items():
        place = f"[sources.{key}] of {file}"
        _refuse_unknown(table, [field.name for field in dataclasses.fields(_Document)], place)
        documents[key] = convert(_Document, table, what=place)
    return documents


def _fact(name: str, table: object, documents: Mapping[str, _Document], file: str) -> tuple[object, str]:
    """The value, and where it was read or why it was chosen, in words."""
    place = f"{name} of {file}"
    if not isinstance(table, dict):
        raise UserError(
            "profile-source-missing",
            f"{place} stands alone",
            expected=f'{name} = {{ value = ..., source = "..." }}',
            found=f"{name} = {table!r}"[:200],
            next_step="say where it was read (source), or why it was chosen (reason)",
        )
    _refuse_unknown(table, [field.name for field in dataclasses.fields(_Fact)], place)
    fact = convert(_Fact, table, what=place)
    if (fact.source is None) == (fact.reason is None) or (fact.note is not None and fact.source is None):
        raise UserError(
            "profile-source-missing",
            f"{place} does not say where it comes from",
            expected="either `source` (and, if it helps, `note`) or `reason`",
            found=", ".join(table),
        )
    if fact.source is None:
        return fact.value, f"our choice: {fact.reason}"
    if fact.source not in documents:
        raise UserError(
            "profile-source-missing",
            f"the source of {place} is not listed",
            expected="one of its [sources]: " + ", ".join(documents),
            found=repr(fact.source),
            next_step=did_you_mean(fact.source, documents, f"add a table [sources.{fact.source}] with title and where"),
        )
    document = documents[fact.source]
    note = f" ({fact.note})" if fact.note is not None else ""
    return fact.value, f"{document.title} <{document.where}>{note}"


def _refuse_unknown(table: Mapping[str, object], known: Iterable[str], place: str) -> None:
    known = tuple(known)
    for key in table:
        if key not in known:
            raise UserError(
                "profile-unknown-key",
                f"{place} has a key that is not known",
                expected=", ".join(known),
                found=repr(key),
                next_step=did_you_mean(key, known, "remove it"),
            )


def _check(profile: HardwareProfile, stem: str, file: str) -> None:
    if parse_profile_id(profile.id) != stem:
        raise UserError("profile-value-wrong", f"id of {file} is not the file's name", expected=stem, found=profile.id)
    for name, expected, holds in _CHECKS:
        if not holds(profile):
            found = repr(getattr(profile, name))
            raise UserError("profile-value-wrong", f"{name} of {file} cannot be", expected=expected, found=found)


def _each_once(names: tuple[str, ...]) -> bool:
    return bool(names) and len(set(names)) == len(names)


def _missing(name: str, file: str) -> UserError:
    return UserError("profile-fact-missing", f"{file} does not say {name}", expected=", ".join((*_NOT_FACTS, *FACTS)))
