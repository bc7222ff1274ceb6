"""HTML and SVG from nested calls. A plain string is always text and is escaped; only `Html` is markup.

So a name from a model or a recipe cannot become markup, whatever it holds: there is no other way into the page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What XML 1.0 forbids, and HTML turns into something else: control characters, surrogates, non-characters.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VOID = frozenset({"br", "col", "hr", "meta"})

Attribute = str | float | int | None


class Html(str):
    """Markup: made by `tag` and `join` alone."""

    __slots__ = ()


def printable(text: str) -> str:
    """`text` with every character that XML and HTML cannot carry replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def tag(name: str, /, *children: str, **attributes: Attribute) -> Html:
    """An element.

    Args:
        name: of the element.
        children: its content in order; plain strings are escaped.
        attributes: ``class_`` is written ``class``, ``stroke_width`` ``stroke-width``; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """The parts one after another; plain strings are escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(printable(part)) for part in parts))


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return html.escape(printable(value))
    return f"{value:.2f}".rstrip("0").rstrip(".")
