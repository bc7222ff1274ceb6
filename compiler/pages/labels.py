"""Where the labels of points go: beside their point, within the chart, and over nothing else.

Greedy: labels that must be there are placed first, and a label for which there is no room is left out; what it says
stands in the point's tooltip and in the list beside the chart.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of a system font at 12 px; the widest common ones (DejaVu Sans, Verdana) need almost all of it.
_CHARACTER = 7.4
_HEIGHT = 15.0
_GAPS = (6.0, 16.0, 28.0, 42.0, 58.0)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether `other` holds all of it."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Wanted:
    """A label for the point at `x`, `y`. `radius` is of the point's mark."""

    text: str
    x: float
    y: float
    radius: float
    must: bool = False


@dataclass(frozen=True)
class Placed:
    """A label: `x` is its left end and `y` its base line; `is_far`: it needs a line to its point."""

    wanted: Wanted
    x: float
    y: float
    is_far: bool

    @property
    def box(self) -> Box:
        """The room it takes."""
        return Box(self.x, self.y - 12, self.x + text_width(self.wanted.text), self.y + 3)


def text_width(text: str) -> float:
    """An upper estimate of the width of `text` at 12 px, in pixels."""
    return len(text) * _CHARACTER


def shorten(text: str, longest: int) -> str:
    """`text`, with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 2 // 3
    return text[: longest - 1 - tail] + "…" + text[-tail:]


def place(wanted: list[Wanted], frame: Box, taken: list[Box]) -> list[Placed]:
    """Labels that overlap neither each other nor `taken` nor any point of `wanted`."""
    occupied = taken + [Box(w.x - w.radius, w.y - w.radius, w.x + w.radius, w.y + w.radius) for w in wanted]
    placed: list[Placed] = []
    for label in sorted(wanted, key=lambda label: not label.must):
        if not label.text:
            continue
        spot = _spot(label, frame, occupied)
        if spot is not None:
            placed.append(spot)
            occupied.append(spot.box)
    return placed


def _spot(label: Wanted, frame: Box, occupied: list[Box]) -> Placed | None:
    width = text_width(label.text)
    for gap in _GAPS if label.must else _GAPS[:1]:
        away = label.radius + gap
        right, left, middle = label.x + away, label.x - away - width, label.x - width / 2
        level, above, below = label.y + 4, label.y - away, label.y + away + _HEIGHT - 5
        spots = ((right, level), (left, level), (middle, above), (middle, below))
        corners = ((right, above), (left, above), (right, below), (left, below))
        for x, y in spots + corners:
            found = Placed(label, x, y, is_far=gap > _GAPS[0])
            if found.box.within(frame) and not any(found.box.overlaps(box) for box in occupied):
                return found
    return None
