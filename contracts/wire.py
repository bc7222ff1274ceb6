"""The one way documents become bytes and bytes become documents.

Written documents are canonical (sorted keys, no spaces), so that equal documents have equal digests. Unknown fields
are ignored when reading: a newer sender may say more than an older reader knows. A missing or mistyped field is an
error that names the field.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from edgewright.contracts.errors import EdgewrightError, UserError

T = TypeVar("T")


def encode(document: Any) -> bytes:
    """Canonical JSON of a dataclass or of plain containers."""
    # As plain containers first: keys can only be sorted when all of them are strings, and a sketch's are numbers.
    return msgspec.json.encode(msgspec.to_builtins(document, str_keys=True), order="deterministic")


def decode(kind: type[T], data: bytes | str, *, what: str) -> T:
    """Read a `kind` from JSON.

    Args:
        kind: the dataclass to read.
        data: JSON.
        what: the name of the document, for the message, e.g. ``manifest.json``.

    Raises:
        UserError: `document-malformed`, naming the field that is wrong.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except EdgewrightError:
        raise
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UserError(
            "document-malformed",
            f"{what} cannot be read as a {kind.__name__}",
            found=str(error),
            next_step="check that it was written by edgewright and was not changed since",
        ) from None


def convert(kind: type[T], document: Any, *, what: str) -> T:
    """The same for what was parsed already (YAML, TOML). Raises UserError `document-malformed`."""
    try:
        return msgspec.convert(document, kind)
    except EdgewrightError:
        raise
    except msgspec.ValidationError as error:
        raise UserError("document-malformed", f"{what} is not a valid {kind.__name__}", found=str(error)) from None


def to_builtins(document: Any) -> Any:
    """`document` as dicts, lists, strings and numbers."""
    return msgspec.to_builtins(document)
