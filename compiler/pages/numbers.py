"""Figures as a person reads them: three significant digits, the unit that fits, a true minus sign."""

from __future__ import annotations

import math
from dataclasses import replace

from edgewright.compiler.pages.model import Figure, Unit

MISSING = "–"
_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    Unit.BYTES: ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB")),
    Unit.MICROSECONDS: ((1, "µs"), (1e3, "ms"), (1e6, "s")),
    Unit.SHARE: ((0.01, "%"),),
    Unit.SCORE: ((1, ""),),
    Unit.RATIO: ((1, "×"),),
    Unit.COUNT: ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")),
}


def scale_for(unit: Unit, largest: float) -> tuple[float, str]:
    """The size of the unit that a value such as `largest` is read in, and the unit's name."""
    # 1000 KiB are read as 0.98 MiB, so that no figure has four digits before its point.
    least = 1000 / 1024 if unit is Unit.BYTES else 1.0
    fitting = [row for row in _SCALES[unit] if row[0] * least <= abs(largest)]
    return fitting[-1] if fitting else _SCALES[unit][0]


def show(figure: Figure) -> str:
    """The figure with its unit, e.g. ``1.25 MiB``, ``98.71 %``, ``3.9×``."""
    if figure.value is None:
        return MISSING
    if not math.isfinite(figure.value):
        return "not a number" if math.isnan(figure.value) else ("∞" if figure.value > 0 else "−∞")
    size, name = scale_for(figure.unit, figure.value)
    number = figure.value / size
    if figure.unit in (Unit.SHARE, Unit.SCORE):
        text = f"{number:.{2 if figure.unit is Unit.SHARE else 4}f}"
    elif name == "B" or (figure.unit is Unit.COUNT and not name and number == int(number)):
        text = f"{number:.0f}"
    else:
        text = digits(number)
    return _minus(text + ("" if name in ("×", "") else "\u00a0") + name)


def show_interval(figure: Figure) -> str:
    """The 95 % interval, e.g. ``45.5 to 46.0 µs``; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    low, high = (show(replace(figure, value=value)) for value in (figure.low, figure.high))
    unit = low.rpartition("\u00a0")[2]
    if unit != low and high.endswith("\u00a0" + unit):
        low = low.removesuffix("\u00a0" + unit)
    return f"{low} to {high}"


def show_change(value: Figure, base: Figure) -> str:
    """How far a metric is from the baseline's: in points for a share, else as a plain difference."""
    if value.value is None or base.value is None or not math.isfinite(value.value - base.value):
        return MISSING
    change = value.value - base.value
    text = f"{change * 100:+.2f}\u00a0pt" if value.unit is Unit.SHARE else f"{change:+.4f}"
    return "±0" + text[5:] if text.startswith(("-0.00\u00a0", "+0.00\u00a0")) else _minus(text)


def digits(number: float) -> str:
    """Three significant digits, and all of the whole ones."""
    size = abs(number)
    return f"{number:.0f}" if size >= 99.95 else f"{number:.1f}" if size >= 9.995 else f"{number:.2f}"


def times(ratio: float) -> str:
    """A ratio, e.g. ``3.87×``."""
    return digits(ratio) + "×" if math.isfinite(ratio) else MISSING


def compare(ratio: float, better: str, worse: str) -> tuple[str, str]:
    """A ratio as people say it: the factor, which is 1 or more, and one of the two words for it."""
    if not 0 < ratio < math.inf:
        return MISSING, better
    return times(max(ratio, 1 / ratio)), better if ratio >= 1 else worse


def _minus(text: str) -> str:
    return text.replace("-", "−")
