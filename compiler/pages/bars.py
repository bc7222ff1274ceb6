"""Bars in rows: how the size shrank step by step, and which layers take the time and make the error.

Each row is a row of a real table with its bar drawn in percent of the column, so that names wrap, numbers can be
copied and read aloud, and one drawing fits every width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgewright.compiler.pages.markup import Html, join, tag
from edgewright.compiler.pages.model import Figure, Layer, Outcome, SizeStep, Unit
from edgewright.compiler.pages.numbers import compare, digits, show, show_change

_SHOWN = 12


@dataclass(frozen=True)
class Bar:
    """A row: a bar of `length` over a pale one of `before`, both parts of one; `kind` colours it."""

    name: str
    value: str
    length: float
    before: float = 0.0
    about: str = ""
    note: str = ""
    tooltip: str = ""
    kind: str = ""


def size_bars(outcomes: Sequence[Outcome]) -> Html:
    """The waterfall: the steps that all profiles share once, then each profile's own; empty without steps."""
    falls: dict[tuple[SizeStep, ...], list[str]] = {}
    for outcome in outcomes:
        if len(outcome.sizes) > 1:
            falls.setdefault(outcome.sizes, []).append(outcome.profile)
    if not falls:
        return Html()
    largest = max(step.size_bytes for steps in falls for step in steps)
    first = next(iter(falls))
    if len(falls) == 1:
        return _table(_fall(first, 0, largest))
    shared = _shared(list(falls))
    bars = _fall(first[:shared], 0, largest)
    if all(len(steps) == shared + 1 for steps in falls):
        for steps, profiles in falls.items():
            (bar,) = _fall(steps, shared, largest)
            bars.append(replace(bar, name=", ".join(profiles), about=bar.name))
        return _table(bars)
    parts = [_table(bars)] if shared else []
    for steps, profiles in falls.items():
        parts += [tag("h3", ", ".join(profiles)), _table(_fall(steps, shared, largest))]
    return join(parts)


def _shared(falls: list[tuple[SizeStep, ...]]) -> int:
    """How many steps at the beginning all have in common; each keeps one of its own."""
    same = 0
    while all(len(steps) > same + 1 and steps[same] == falls[0][same] for steps in falls):
        same += 1
    return same


def _fall(steps: tuple[SizeStep, ...], start: int, largest: float) -> list[Bar]:
    bars = []
    for index in range(start, len(steps)):
        step, before = steps[index], steps[max(index - 1, 0)].size_bytes
        size = Figure(value=step.size_bytes, unit=Unit.BYTES)
        ratio = steps[0].size_bytes / step.size_bytes if step.size_bytes > 0 else 0.0
        change = (step.size_bytes / before - 1) * 100 if before > 0 else 0.0
        note = "" if index == 0 else " ".join(compare(ratio, "smaller", "larger"))
        told = f"{step.name}: {step.size_bytes:,.0f} bytes" + (f", {change:+.1f} % in this step" if index else "")
        bars.append(
            Bar(
                step.name,
                show(size),
                step.size_bytes / largest if largest > 0 else 0.0,
                before / largest if largest > 0 else 0.0,
                step.note,
                note,
                told,
                "first" if index == 0 else "",
            )
        )
    return bars


def layer_bars(outcome: Outcome, metric: Unit) -> Html:
    """Latency and sensitivity of the layers, worst first; empty without layers."""
    latency = _ranked([layer for layer in outcome.layers if _is_time(layer.latency_us)], lambda layer: layer.latency_us)
    noise = _ranked(outcome.layers, lambda layer: None if layer.sqnr_db is None else _error(layer.sqnr_db))
    parts = []
    if latency:
        total = sum(value for value, _ in latency) or 1.0
        bars = [_latency_bar(layer, value, latency[0][0], total) for value, layer in latency]
        parts.append(_panel("Time of each layer", f"{len(bars)} layers, slowest first", bars))
    if noise:
        largest = max((value for value, _ in noise if math.isfinite(value)), default=0.0)
        bars = [_noise_bar(layer, value, largest, metric) for value, layer in noise]
        about = "error that quantizing makes in the layer's output; SQNR in dB, most sensitive first"
        parts.append(_panel("Sensitivity of each layer", about, bars))
    return tag("div", *parts, class_="pair") if parts else Html()


def _is_time(value: float | None) -> bool:
    return value is not None and 0 <= value < math.inf


def _ranked(layers: Sequence[Layer], of: Callable[[Layer], float | None]) -> list[tuple[float, Layer]]:
    found = [(value, layer) for layer in layers if (value := of(layer)) is not None and not math.isnan(value)]
    return sorted(found, key=lambda pair: -pair[0])


def _error(sqnr_db: float) -> float:
    """The error's effective value as a part of the signal's."""
    try:
        return 10.0 ** (-sqnr_db / 20)
    except OverflowError:
        return math.inf


def _latency_bar(layer: Layer, value: float, largest: float, total: float) -> Bar:
    shown = show(Figure(value=value, unit=Unit.MICROSECONDS))
    share = f"{value / total * 100:.1f}\u00a0%"
    told = f"{layer.name}: {shown}, {share} of all"
    return Bar(layer.name, shown, value / (largest or 1.0), 0.0, _kind(layer), share, told)


def _noise_bar(layer: Layer, value: float, largest: float, metric: Unit) -> Bar:
    decibels = layer.sqnr_db if layer.sqnr_db is not None else math.nan
    shown = (f"{decibels:.1f}" if math.isfinite(decibels) else "∞" if decibels > 0 else "−∞").replace("-", "−")
    told = f"{layer.name}: the error is {digits(value * 100)} % of the signal" if math.isfinite(value) else layer.name
    note = ""
    if layer.recovered is not None:
        zero = Figure(value=0.0, unit=metric)
        note = show_change(Figure(value=layer.recovered, unit=metric), zero) + " in float"
    length = min(value / largest, 1.0) if largest > 0 else 0.0
    return Bar(layer.name, shown + "\u00a0dB", length, 0.0, _kind(layer), note, told, "noise")


def _kind(layer: Layer) -> str:
    return ", ".join(part for part in (layer.kind, layer.precision) if part)


def _panel(title: str, about: str, bars: list[Bar]) -> Html:
    rest = bars[_SHOWN:]
    more = [tag("details", tag("summary", f"{len(rest)} more"), _table(rest))] if rest else []
    return tag("div", tag("h4", title), tag("p", about, class_="quiet"), _table(bars[:_SHOWN]), *more)


def _table(bars: Sequence[Bar]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", bar.name, *([tag("span", f" {bar.about}", class_="quiet")] if bar.about else []), scope="row"),
            tag("td", _drawing(bar), class_="bar"),
            tag("td", bar.value, class_="num"),
            tag("td", bar.note, class_="note"),
        )
        for bar in bars
    ]
    return tag("table", tag("tbody", *rows), class_="bars")


def _drawing(bar: Bar) -> Html:
    parts = [tag("title", bar.tooltip)]
    if bar.before > bar.length:
        parts.append(tag("rect", width=f"{bar.before * 100:.2f}%", height=14, rx=3, class_="before"))
    # What is there is never drawn as nothing.
    width = "0" if bar.length <= 0 else f"max(1.5px, {bar.length * 100:.2f}%)"
    parts.append(tag("rect", style=f"width:{width}", height=14, rx=3, class_=f"now {bar.kind}".rstrip()))
    return tag("svg", *parts, width="100%", height=14, role="img")
