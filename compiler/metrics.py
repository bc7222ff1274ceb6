"""Metrics: how good outputs are, as one number that is better when it is higher. Pure NumPy.

A model's first output is judged. Where the float model's outputs are the yardstick (cosine), no labels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import UserError

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Metric:
    """A metric: `compute(outputs, yardstick)`, the yardstick being labels or, where `is_relative`, float outputs."""

    compute: Callable[[Array, Array], float]
    is_relative: bool = False


def accuracy(outputs: Array, labels: Array) -> float:
    """Share of samples whose highest score is the label's. `outputs` (N, classes), `labels` (N,), whole numbers."""
    _check_labels(outputs, labels, "accuracy", classes=2)
    return float(np.mean(outputs.argmax(axis=1) == labels))


def top5(outputs: Array, labels: Array) -> float:
    """Share of samples whose label is among the five highest scores. Shapes as in `accuracy`, five classes or more."""
    _check_labels(outputs, labels, "top5", classes=5)
    best = np.argsort(-outputs.astype(np.float64), axis=1, kind="stable")[:, :5]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def cosine(outputs: Array, reference: Array) -> float:
    """Mean over the samples of the cosine between an output and the float model's. Both (N, …), of one shape."""
    ours = outputs.reshape(len(outputs), -1).astype(np.float64)
    theirs = reference.reshape(len(reference), -1).astype(np.float64)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    equal = (ours == theirs).all(axis=1)
    dots = (ours * theirs).sum(axis=1)
    # Two vectors of zeros are the same, one of zeros and another are not.
    return float(np.mean(np.where(equal, 1.0, dots / np.where(norms == 0, np.inf, norms))))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy),
    "top5": Metric(top5),
    "cosine": Metric(cosine, is_relative=True),
}


def _check_labels(outputs: Array, labels: Array, metric: str, classes: int) -> None:
    if outputs.ndim != 2 or outputs.shape[1] < classes:
        raise UserError(
            "metric-does-not-fit",
            f"{metric} cannot be computed from the model's first output",
            expected=f"shape (samples, classes), {classes} classes or more",
            found=f"shape {outputs.shape}",
            next_step="use the metric cosine, which takes any output",
        )
    if labels.shape != (len(outputs),) or labels.dtype.kind not in "iu":
        raise UserError(
            "labels-malformed",
            f"the labels of the evaluation data are not what {metric} needs",
            expected=f"whole numbers, of shape ({len(outputs)},)",
            found=f"{labels.dtype} of shape {labels.shape}",
            next_step="give class numbers of an integer type, not one-hot vectors or probabilities",
        )
    numbers = labels.astype(np.int64)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= outputs.shape[1]))
    if len(wrong):
        raise UserError(
            "labels-out-of-range",
            f"{len(wrong)} of {len(labels)} labels of the evaluation data are no class of the model",
            expected=f"0 to {outputs.shape[1] - 1}",
            found=f"{labels[wrong[0]]}, the label of sample {wrong[0]}",
            next_step="check that model and data belong together, and that labels count from 0",
        )
