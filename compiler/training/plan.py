"""A training's plan and what comes of it: the learning rate of every step, when to give up, what to tell. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes.model_pass import PassContext
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.findings import Finding

_WARM_UP = 0.1

AfterStep = Callable[[torch.nn.Module], None]
"""Called with the module that is trained, on its device, without gradients, after every step."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train.

    Attributes:
        epochs: times that the data is seen; a fraction ends in the middle of an epoch.
        learning_rate: the highest.
        batch_size: samples in a step, over all processes.
        patience: epochs without a better score before it stops; None: never.
        augment: whether images are shifted and mirrored at random.
        mixed_precision: whether to compute in 16 bits where the device does so faster. Not for a module that rounds to
            a grid finer than theirs, as fake quantization does.
    """

    epochs: float
    learning_rate: float = 1e-3
    batch_size: int = 128
    patience: int | None = 5
    augment: bool = False
    mixed_precision: bool = True


@dataclass(frozen=True)
class Epoch:
    """An epoch: the mean of its losses, the selection score after it, and the learning rate it ended with."""

    number: int
    loss: float
    score: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """What training made.

    Attributes:
        module: the best, by the selection score.
        history: the epochs, in order.
        start_score: the score before the first step.
        best_score: the score of `module`.
        best_epoch: its number; 0: the start.
        stopped_early: whether patience or budget ended it.
        findings: what a person should know: `training-budget-spent`, `training-without-gain`.
    """

    module: torch.nn.Module
    history: tuple[Epoch, ...]
    start_score: float
    best_score: float
    best_epoch: int
    stopped_early: bool
    findings: tuple[Finding, ...]


def training_data(context: PassContext, who: str) -> tuple[Dataset, Dataset]:
    """The data that `who`, a pass, trains on, and the data that chooses.

    Raises:
        UserError: `training-data-missing`.
    """
    if context.train is None or context.selection is None:
        raise UserError(
            "training-data-missing",
            f"pass '{who}' trains the model, and the recipe gives it no data to train on",
            expected="data.train, samples with labels",
            found="data.calibrate and data.evaluate only",
            next_step=f"add data.train to the recipe, or leave out '{who}'",
        )
    return context.train, context.selection


def one_cycle(done: int, total: int) -> float:
    """The share of the highest learning rate in step `done`, counted from 1, of `total`."""
    part = done / total
    if part <= _WARM_UP:
        return part / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (part - _WARM_UP) / (1 - _WARM_UP)))


def has_stalled(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs were no better than those before them."""
    if patience is None or len(history) <= patience:
        return False
    return max(epoch.score for epoch in history[-patience:]) <= max(epoch.score for epoch in history[:-patience])


def findings(start: float, best: float, is_spent: bool, epochs: int, plan: Plan) -> Iterator[Finding]:
    """What a person should know of a training of `epochs` epochs, whole or begun, from score `start` to `best`."""
    if is_spent:
        yield Finding(
            code="training-budget-spent",
            message=f"the budget ended training after {epochs} of {plan.epochs:g} epochs",
            next_step="raise --budget, or plan fewer epochs, so that the learning rate comes down in time",
        )
    if best <= start:
        yield Finding(
            code="training-without-gain",
            message=f"no epoch was better than the start, {start:.4f} on the selection data; the start was kept",
            next_step="try another learning rate, or more epochs",
        )


def diverged(loss: float, gradient: float, where: str, plan: Plan) -> CompileError:
    """The error of a training that ran away."""
    return CompileError(
        "training-diverged",
        "training diverged: its loss or gradient is no longer a number",
        expected="finite numbers",
        found=f"loss {loss:g}, gradient {gradient:g} in {where}",
        next_step=f"lower learning_rate (it is {plan.learning_rate:g}) to a tenth, and check the scale of the inputs",
    )
