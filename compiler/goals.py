"""Goals: what an artifact's metric must reach, by Olive's names. Pure.

Every metric of edgewright is better when it is higher, so that each goal has one reading:

    threshold                value >= limit
    min-improvement          value >= baseline + limit
    max-degradation          value >= baseline - limit
    percent-min-improvement  value >= baseline * (1 + limit / 100)
    percent-max-degradation  value >= baseline * (1 - limit / 100)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# A goal must not be missed by the rounding of a subtraction: 0.98 - 0.97 is a little more than 0.01.
_ROUNDING = 1e-9

KINDS: Mapping[str, Callable[[float, float], float]] = {
    "threshold": lambda baseline, limit: limit,  # noqa: ARG005 - one signature for all rows
    "min-improvement": lambda baseline, limit: baseline + limit,
    "max-degradation": lambda baseline, limit: baseline - limit,
    "percent-min-improvement": lambda baseline, limit: baseline * (1 + limit / 100),
    "percent-max-degradation": lambda baseline, limit: baseline * (1 - limit / 100),
}
"""For each kind of goal, the lowest value that meets it, from the baseline's value and the goal's limit."""


@dataclass(frozen=True)
class Goal:
    """One goal for one metric; `kind` is a key of KINDS."""

    metric: str
    kind: str
    limit: float

    def needed(self, baseline: float) -> float:
        """The lowest value that meets it, where the float model scored `baseline`."""
        return KINDS[self.kind](baseline, self.limit)

    def is_met(self, value: float, baseline: float) -> bool:
        """Whether `value` meets it."""
        return value >= self.needed(baseline) - _ROUNDING

    def __str__(self) -> str:
        return f"{self.metric}: {self.kind} {self.limit:g}"
