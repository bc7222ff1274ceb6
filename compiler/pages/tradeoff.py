"""The chart of variants: what each costs from left to right, how good it is from below, and the front of the best.

A variant is on the front when no other is both cheaper and better. The chart is drawn twice, for a narrow and for a
wide page, because scaled-down letters cannot be read; the style sheet shows one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from edgewright.compiler.pages.axis import Axis, score_axis, size_axis
from edgewright.compiler.pages.labels import Box, Wanted, place, shorten, text_width
from edgewright.compiler.pages.markup import Html, join, tag
from edgewright.compiler.pages.model import Figure, Role, Unit, Variant
from edgewright.compiler.pages.numbers import show, show_interval

# The scale follows the better half once the rest is this many times as far below it as it is wide.
_FAR_BELOW = 4.0
# A goal is within the scale when it is at least this part of the best score.
_GOAL_NEAR = 0.9
_ABSURD = 1e15
_RADIUS = {Role.CHOSEN: 7.0, Role.BASELINE: 6.0, Role.TRIED: 4.5, Role.REFUSED: 4.5}


@dataclass(frozen=True)
class Point:
    """The variants that lie at one place; the first is the most important."""

    variants: tuple[Variant, ...]
    cost: Figure
    is_front: bool = False

    @property
    def variant(self) -> Variant:
        """The most important one."""
        return self.variants[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(variant.name for variant in self.variants)

    @property
    def x(self) -> float:
        """What it costs."""
        return float(self.cost.value or 0.0)

    @property
    def y(self) -> float:
        """How good it is."""
        return float(self.variant.metric.value or 0.0)


@dataclass(frozen=True)
class Layout:
    """The chart's size in pixels, and the longest label that fits it."""

    name: str
    width: float
    height: float
    ticks: int
    longest: int


LAYOUTS = (Layout("narrow", 340, 330, 4, 22), Layout("wide", 640, 400, 6, 30))


def by_latency(variants: Sequence[Variant]) -> bool:
    """Whether the chart can show latency: two variants or more have it; else it shows size."""
    return sum(_is_number(variant.latency_us) for variant in variants) > 1


def points(variants: Sequence[Variant]) -> list[Point]:
    """The variants that the chart can show, cheapest first, those that coincide as one, the front marked."""
    latency = by_latency(variants)
    places: dict[tuple[float | None, float | None, bool], list[Variant]] = {}
    for variant in variants:
        cost = variant.latency_us if latency else variant.size_bytes
        if _is_number(cost) and _is_number(variant.metric):
            places.setdefault((cost.value, variant.metric.value, variant.role is Role.REFUSED), []).append(variant)
    importance = list(_RADIUS)
    found = []
    for there in places.values():
        there.sort(key=lambda variant: importance.index(variant.role))
        found.append(Point(tuple(there), there[0].latency_us if latency else there[0].size_bytes))
    best = -math.inf
    marked = []
    for point in sorted(found, key=lambda point: (point.x, -point.y)):
        is_front = point.variant.role is not Role.REFUSED and point.y > best
        best = max(best, point.y) if is_front else best
        marked.append(replace(point, is_front=is_front))
    return marked


def chart(variants: Sequence[Variant], metric: str, needed: Figure | None) -> Html:
    """The chart in both layouts; empty where fewer than two variants have the figures.

    Args:
        variants: what was tried.
        metric: its name.
        needed: the value that the goals ask for.
    """
    shown = points(variants)
    if len(shown) < 2:
        return Html()
    if needed is not None and not _is_number(needed):
        needed = None
    cost = "latency, median" if by_latency(variants) else "size"
    return join(_draw(shown, layout, metric, cost, needed) for layout in LAYOUTS)


def _draw(shown: list[Point], layout: Layout, metric: str, cost: str, needed: Figure | None) -> Html:
    frame, x, y = _axes(shown, layout, needed)
    unit = f", {x.unit}" if x.unit else ""
    front, taken = _front(shown, frame, x, y)
    goal, room = _goal(needed, shown, frame, x, y)
    taken += room
    marks = [_mark(point, x, y) for point in reversed(shown)]
    return tag(
        "svg",
        tag("title", f"{metric} against {cost} of {sum(len(point.names) for point in shown)} variants"),
        _grid(frame, x, y),
        _text(frame.left, 14, f"{shorten(metric, 30)}{', %' if y.unit == '%' else ''} ↑ better", "axis"),
        _text(frame.right, layout.height - 6, f"← better  {cost}{unit}", "axis end"),
        goal,
        front,
        *marks,
        *_labels(shown, layout, frame, x, y, taken),
        class_=f"chart {layout.name}",
        viewBox=f"0 0 {layout.width:g} {layout.height:g}",
        role="img",
    )


def _axes(shown: list[Point], layout: Layout, needed: Figure | None) -> tuple[Box, Axis, Axis]:
    scores = _without_far_below(shown)
    if needed is not None and needed.value is not None and needed.value > max(scores) * _GOAL_NEAR:
        scores.append(needed.value)
    bottom = layout.height - 46
    y = score_axis(shown[0].variant.metric.unit, scores, bottom, 30, 5)
    left = max((text_width(label) for _, label in y.ticks), default=0) + 12
    frame = Box(left, 26, layout.width - 14, bottom)
    x = size_axis(shown[0].cost.unit, [point.x for point in shown], frame.left, frame.right, layout.ticks)
    return frame, x, y


def _without_far_below(shown: list[Point]) -> list[float]:
    """The scores that the scale is made for: a variant that lost everything must not flatten all the others."""
    scores = [point.y for point in shown]
    kept = [point.y for point in shown if point.variant.role in (Role.CHOSEN, Role.BASELINE)]
    floor = min([median(scores), *kept])
    ceiling = max(scores)
    if floor - min(scores) <= _FAR_BELOW * max(ceiling - floor, 1e-9):
        return scores
    return [score for score in scores if score >= floor - (ceiling - floor)]


def _grid(frame: Box, x: Axis, y: Axis) -> Html:
    parts = [_line(frame.left, y.at(value), frame.right, y.at(value), "grid") for value, _ in y.ticks]
    parts += [_text(frame.left - 8, y.at(value) + 4, label, "tick end") for value, label in y.ticks]
    parts.append(_line(frame.left, frame.bottom, frame.right, frame.bottom, "base"))
    last = -math.inf
    for value, label in x.ticks:
        half = text_width(label) / 2
        parts.append(_line(x.at(value), frame.bottom, x.at(value), frame.bottom + 5, "base"))
        if x.at(value) - half > last:
            parts.append(_text(x.at(value), frame.bottom + 19, label, "tick middle"))
            last = x.at(value) + half
    return join(parts)


def _goal(needed: Figure | None, shown: list[Point], frame: Box, x: Axis, y: Axis) -> tuple[Html, list[Box]]:
    """The line that the goals draw, with its label where the fewest marks are, and the room that the label takes."""
    if needed is None or needed.value is None:
        return Html(), []
    if needed.value < y.low:
        label = f"goal {show(needed)}, below"
        box = Box(frame.right - text_width(label), frame.bottom - 18, frame.right, frame.bottom - 2)
        return _text(frame.right, frame.bottom - 6, label, "goal-label end"), [box]
    level, label = y.at(needed.value), f"goal {show(needed)}"
    width = text_width(label)
    lefts = [frame.right - width, frame.left + 4, (frame.left + frame.right - width) / 2]
    boxes = [Box(left, top, left + width, top + 16) for top in (level + 2, level - 18) for left in lefts]
    boxes = [box for box in boxes if box.within(frame)] or boxes[:1]
    marks = [Box(x.at(point.x) - 9, y.at(point.y) - 9, x.at(point.x) + 9, y.at(point.y) + 9) for point in shown]
    box = min(boxes, key=lambda box: sum(box.overlaps(mark) for mark in marks))
    line = _line(frame.left, level, frame.right, level, "goal")
    middle = (box.left + box.right) / 2
    return join([line, _text(middle, box.top + 12, label, "goal-label middle")]), [box]


def _front(shown: list[Point], frame: Box, x: Axis, y: Axis) -> tuple[Html, list[Box]]:
    """The steps of the front, from the cheapest to the right edge, and the room that they take."""
    places = [(x.at(point.x), y.at(point.y)) for point in shown if point.is_front]
    if not places:
        return Html(), []
    path, taken = f"M{places[0][0]:.1f} {places[0][1]:.1f}", []
    for (left, level), (right, above) in pairwise([*places, (frame.right, places[-1][1])]):
        path += f"H{right:.1f}V{above:.1f}"
        taken += [Box(left, level - 1, right, level + 1), Box(right - 1, above, right + 1, level)]
    return tag("path", d=path, class_="front"), taken


def _mark(point: Point, x: Axis, y: Axis) -> Html:
    role, left, top = point.variant.role, x.at(point.x), y.at(point.y)
    radius = _RADIUS[role]
    title = tag("title", _tooltip(point))
    kind = f"mark {role}{' on-front' if point.is_front else ''}"
    parts = [title, _interval(point, x, top)]
    if point.y < y.low:
        parts.append(tag("path", d=f"M{left - 5:.1f} {top - 9:.1f}h10l-5 8z", class_="shape"))
    elif role is Role.BASELINE:
        r = radius + 1
        parts.append(tag("path", d=f"M{left:.1f} {top - r:.1f}l{r} {r}l-{r} {r}l-{r} -{r}z", class_="shape"))
    elif role is Role.REFUSED:
        parts.append(tag("path", d=f"M{left - 4:.1f} {top - 4:.1f}l8 8m0 -8l-8 8", class_="shape"))
    else:
        parts.append(tag("circle", cx=left, cy=top, r=radius, class_="shape"))
    if role is Role.CHOSEN:
        parts.append(tag("circle", cx=left, cy=top, r=radius + 4, class_="ring"))
    # A finger or a shaking hand gets the tooltip as well.
    parts.append(tag("circle", cx=left, cy=top, r=12, class_="touch"))
    return tag("g", *parts, class_=kind)


def _interval(point: Point, x: Axis, top: float) -> Html:
    if point.cost.low is None or point.cost.high is None or math.isnan(point.cost.low + point.cost.high):
        return Html()
    return _line(x.at(point.cost.low), top, x.at(point.cost.high), top, "whisker")


def _labels(shown: list[Point], layout: Layout, frame: Box, x: Axis, y: Axis, taken: list[Box]) -> list[Html]:
    wanted = []
    for point in shown:
        role = point.variant.role
        more = f" +{len(point.names) - 1}" if len(point.names) > 1 else ""
        name, height = shorten(point.names[0], layout.longest) + more, y.at(point.y)
        if point.y < y.low:
            name, height = f"▼ {show(point.variant.metric)}", height - 6
        worth = role in (Role.CHOSEN, Role.BASELINE) or point.is_front or point.y < y.low or len(shown) <= 8
        radius = _RADIUS[role] + (4 if role is Role.CHOSEN else 0)
        must = role in (Role.CHOSEN, Role.BASELINE)
        wanted.append(Wanted(name if worth else "", x.at(point.x), height, radius, must))
    drawn = []
    for label in place(wanted, Box(frame.left + 2, frame.top - 6, frame.right, frame.bottom - 2), taken):
        if label.is_far:
            end = min(max(label.wanted.x, label.box.left), label.box.right)
            height = label.box.top if label.box.top > label.wanted.y else label.box.bottom
            drawn.append(_line(label.wanted.x, label.wanted.y, end, height, "leader"))
        drawn.append(_text(label.x, label.y, label.wanted.text, "label must" if label.wanted.must else "label"))
    return drawn


def _tooltip(point: Point) -> str:
    variant = point.variant
    lines = [", ".join(point.names), f"{show(variant.metric)} ({variant.metric.how or 'unknown'})"]
    for name, figure in (("latency", variant.latency_us), ("size", variant.size_bytes)):
        if figure.value is not None:
            interval = show_interval(figure)
            lines.append(f"{name} {show(figure)}" + (f", 95 %: {interval}" if interval else ""))
    lines.append(str(variant.role) + (f": {variant.note}" if variant.note else ""))
    return "\n".join(lines)


def _is_number(figure: Figure) -> bool:
    # A latency or a size below zero is a fault of whoever measured, and so is an absurd one; no chart breaks on it.
    if figure.value is None or not abs(figure.value) < _ABSURD:
        return False
    return figure.value >= 0 or figure.unit in (Unit.SHARE, Unit.SCORE)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(x: float, y: float, text: str, kind: str) -> Html:
    return tag("text", text, x=x, y=y, class_=kind)
