"""What a report's page can show, as plain data. Everything but the model's name may be missing.

A figure always says how it was got. One that is missing says why: a page never guesses and never leaves a hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgewright.contracts.findings import Finding


class Unit(StrEnum):
    """What a figure counts. `SHARE` is a metric from 0 to 1 that people read in percent, `SCORE` any other metric."""

    BYTES = "bytes"
    MICROSECONDS = "microseconds"
    SHARE = "share"
    SCORE = "score"
    RATIO = "ratio"
    COUNT = "count"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        value: None: it could not be had; `note` says why.
        how: ``measured``, ``simulated``, ``emulated`` or ``estimated``.
        low, high: the 95 % confidence interval, where there is one.
        where: on which machine or data.
    """

    value: float | None
    unit: Unit
    how: str = ""
    low: float | None = None
    high: float | None = None
    where: str = ""
    note: str = ""


class Role(StrEnum):
    """What became of a variant."""

    BASELINE = "baseline"
    CHOSEN = "chosen"
    TRIED = "tried"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to build the model for a profile. `note` says what happened to it, e.g. why it was refused."""

    name: str
    metric: Figure
    size_bytes: Figure
    latency_us: Figure
    role: Role = Role.TRIED
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SizeStep:
    """The model's size after a step: the float model, a pass, the artifact's files, the compressed artifact."""

    name: str
    size_bytes: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of the artifact.

    Attributes:
        latency_us: its part of one inference.
        sqnr_db: power of its float output over the power of the error that quantizing it makes, in decibels.
        recovered: what the metric gains when this layer alone stays in float.
    """

    name: str
    kind: str = ""
    precision: str = ""
    latency_us: float | None = None
    sqnr_db: float | None = None
    recovered: float | None = None


@dataclass(frozen=True, kw_only=True)
class GoalLine:
    """A goal, what it needs and what was reached."""

    name: str
    needed: Figure
    reached: Figure
    is_met: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one profile got.

    Attributes:
        board: the profile's name for people.
        is_met: whether every goal is met; None: there is none.
        speedup: how many times faster than the float model on the same runtime.
        variants: all that were tried, the chosen one and the float baseline among them.
        sizes: from the float model to what is sent, in order.
        layers_how: how the layers' figures were got.
        why: why this variant was chosen, a sentence each.
        figures: named figures of passes and measurements beside the ones above.
    """

    profile: str
    metric: Figure
    size_bytes: Figure
    latency_us: Figure
    speedup: Figure
    board: str = ""
    target: str = ""
    precision: str = ""
    is_met: bool | None = None
    goals: tuple[GoalLine, ...] = ()
    variants: tuple[Variant, ...] = ()
    sizes: tuple[SizeStep, ...] = ()
    layers: tuple[Layer, ...] = ()
    layers_how: str = ""
    why: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    figures: tuple[tuple[str, Figure], ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The float model."""

    metric: Figure
    size_bytes: Figure


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """The page. `metric` is the metric's name; `provenance` what all outcomes have in common."""

    model: str
    metric: str = ""
    baseline: Baseline | None = None
    outcomes: tuple[Outcome, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
