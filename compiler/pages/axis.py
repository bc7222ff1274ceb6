"""Axes: where a value lies in a chart, and the round numbers that are written along it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgewright.compiler.pages.model import Unit
from edgewright.compiler.pages.numbers import scale_for

# Beyond this factor between the ends, equal steps would crowd the small values into a corner.
_LOG_FROM = 10.0
# Nothing that is measured is smaller; below it, arithmetic on an axis loses its digits.
_LEAST = 1e-9
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Values `low` to `high` along pixels `start` to `end`; `ticks` are values with their labels, without the unit."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    ticks: tuple[tuple[float, str], ...]
    unit: str

    def at(self, value: float) -> float:
        """The pixel of `value`; beyond the ends, the end's."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def size_axis(unit: Unit, values: list[float], start: float, end: float, count: int) -> Axis:
    """An axis for positive amounts (bytes, time): from zero, or logarithmic where they differ by an order."""
    low, high = min(values), max(values)
    size, name = scale_for(unit, high)
    if low >= _LEAST and high / low >= _LOG_FROM:
        low, high = low / 1.25, high * 1.25
        return Axis(low, high, start, end, is_log=True, ticks=_log_ticks(low, high, size, count), unit=name)
    high = high * 1.08 if high >= _LEAST else 1.0
    return Axis(0.0, high, start, end, is_log=False, ticks=_even_ticks(0.0, high, size, count), unit=name)


def score_axis(unit: Unit, values: list[float], start: float, end: float, count: int) -> Axis:
    """An axis for a metric: around its values, for small differences matter."""
    low, high = min(values), max(values)
    size, name = scale_for(unit, high)
    margin = max((high - low) * 0.12, 0.005 * max(abs(high), abs(low)), 1e-6)
    ceiling = 1.0 if unit is Unit.SHARE else math.inf
    ticks = tuple(
        tick for tick in _even_ticks(low - margin, high + margin, size, count) if tick[0] <= ceiling * (1 + 1e-9)
    )
    return Axis(low - margin, high + margin, start, end, is_log=False, ticks=ticks, unit=name)


def _even_ticks(low: float, high: float, size: float, count: int) -> tuple[tuple[float, str], ...]:
    step = _round_step((high - low) / size / count)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if _is_quarter(step) else 0))
    first, last = math.ceil(low / size / step - 1e-9), math.floor(high / size / step + 1e-9)
    return tuple((n * step * size, f"{n * step:.{decimals}f}".replace("-", "−")) for n in range(first, last + 1))


def _log_ticks(low: float, high: float, size: float, count: int) -> tuple[tuple[float, str], ...]:
    """Powers of ten, with 2 and 5 times them between where there is room, in units of `size`."""
    powers = range(math.floor(math.log10(low / size)), math.ceil(math.log10(high / size)) + 1)
    chosen: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        chosen = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power * size <= high]
        if len(chosen) <= count:
            break
    chosen = chosen[:: math.ceil(len(chosen) / count)]
    return tuple((value * size, f"{value:g}" if value < 1e5 else f"{value:.0e}") for value in chosen)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(factor for factor in _ROUND if step <= factor * power * (1 + 1e-9))


def _is_quarter(step: float) -> bool:
    return abs(step / 10.0 ** math.floor(math.log10(step) + 1e-9) - 2.5) < 1e-6
