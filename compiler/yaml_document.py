"""YAML with line numbers, read strictly: what is misspelt, missing or mistyped is an error that names its line.

Nothing here knows what a recipe is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from edgewright.contracts.errors import UserError, did_you_mean

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file. `lines` maps a key's path in it to its line, counted from 1."""

    file: str
    value: Any
    lines: dict[Key, int]

    def where(self, path: Key) -> str:
        """``recipe.yaml:7``, of the key at `path` or of the nearest one around it whose line is known."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}"
        return self.file

    def malformed(self, path: Key, what: str, *, expected: str, found: object) -> UserError:
        """The error `recipe-malformed` for the key at `path`."""
        return UserError(
            "recipe-malformed",
            f"{self.where(path)}: {what}",
            expected=expected,
            found=_brief(found),
            next_step="see the recipe reference in the documentation",
        )


def parse(text: str, file: str) -> Document:
    """Read `text`; `file` is its name, for messages.

    Raises:
        UserError: `recipe-malformed` when it is not YAML, or a mapping has a key twice.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Key, int] = {}
        if node is not None:
            _collect_lines(node, (), lines, set(), file)
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(
            "recipe-malformed",
            f"{file}{f':{mark.line + 1}' if mark else ''}: not YAML",
            expected="a YAML mapping",
            found=str(error.problem or error.context),
            next_step="mend the line",
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            "recipe-malformed", f"{file}: not YAML", expected="a YAML mapping", found=_brief(error)
        ) from None
    return Document(file, value, lines)


def _collect_lines(node: yaml.Node, path: Key, lines: dict[Key, int], seen: set[int], file: str) -> None:
    # Aliases make a node turn up again, and may even nest it in itself: each is walked once.
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if (*path, name) in lines:
                raise UserError(
                    "recipe-malformed",
                    f"{file}:{line}: the key '{name}' stands here for the second time",
                    expected="each key once",
                    found=f"also in line {lines[(*path, name)]}",
                )
            lines[(*path, name)] = line
            _collect_lines(value, (*path, name), lines, seen, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, index), lines, seen, file)


class Section:
    """One mapping of a document whose keys are all known.

    Raises:
        UserError: `recipe-malformed` when it is no mapping, `recipe-unknown-key` when it has a key not in `known`.
    """

    def __init__(self, document: Document, path: Key, value: object, known: Iterable[str]) -> None:
        self.document = document
        self.path = path
        known = tuple(known)
        if not isinstance(value, dict):
            raise document.malformed(
                path, f"{describe(path)} is not a mapping", expected="a mapping with " + ", ".join(known), found=value
            )
        for key in value:
            if key not in known:
                raise UserError(
                    "recipe-unknown-key",
                    f"{document.where((*path, str(key)))}: unknown key '{key}' in {describe(path)}",
                    expected="one of " + ", ".join(known),
                    found=_brief(key),
                    next_step=did_you_mean(str(key), known, "remove the key, or see the recipe reference"),
                )
        self._values: dict[str, object] = value

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def at(self, key: str) -> Key:
        """The path of `key`."""
        return (*self.path, key)

    def raw(self, key: str, expected: str) -> object:
        """The value of a key that must be there; `expected` says what it should be. Raises `recipe-malformed`."""
        if self._values.get(key) is None:
            section, stands = describe(self.path), key in self._values
            raise self.document.malformed(
                self.at(key) if stands else self.path,
                f"'{key}' in {section} has no value" if stands else f"{section} lacks the key '{key}'",
                expected=f"{key}: {expected}",
                found="nothing",
            )
        return self._values[key]

    def text(self, key: str, expected: str) -> str:
        """A text that is not empty."""
        value = self.raw(key, expected)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, expected, value)
        return value

    def texts(self, key: str, expected: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.raw(key, expected)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, expected, value)
        return tuple(value)

    def number(self, key: str, expected: str) -> float:
        """A finite number."""
        value = self.raw(key, expected)
        if not is_number(value):
            raise self._wrong(key, expected, value)
        return float(value)  # type: ignore[arg-type]  # is_number has looked

    def numbers(self, key: str, expected: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers."""
        value = self.raw(key, expected)
        if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
            raise self._wrong(key, expected, value)
        return tuple(float(item) for item in value)

    def integer(self, key: str, expected: str, *, minimum: int, maximum: int | None = None) -> int:
        """A whole number, `minimum` or above, and not above `maximum`."""
        value = self.raw(key, expected)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= (maximum or math.inf):
            raise self._wrong(key, expected, value)
        return value

    def integers(self, key: str, expected: str, *, count: int, minimum: int) -> tuple[int, ...]:
        """A list of `count` whole numbers, each `minimum` or above."""
        value = self.raw(key, expected)
        whole = isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        if not isinstance(value, list) or not whole or len(value) != count or min(value) < minimum:
            raise self._wrong(key, expected, value)
        return tuple(value)

    def _wrong(self, key: str, expected: str, value: object) -> UserError:
        return self.document.malformed(
            self.at(key), f"'{key}' in {describe(self.path)} is not as it should be", expected=expected, found=value
        )


def is_number(value: object) -> bool:
    """Whether `value` is a finite number (YAML's true and false are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe(path: Key) -> str:
    """A key's path as words for a message, e.g. ``data.calibrate``."""
    return ".".join(map(str, path)) if path else "the recipe"


def _brief(value: object) -> str:
    text = "nothing" if value is None or value == "nothing" else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
