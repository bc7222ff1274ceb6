"""Metrics: how good outputs are, as one number that is better when it is higher. Pure NumPy.

A model's first output is judged. No labels are needed where the float model's outputs are the yardstick (cosine, sqnr).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import UserError

Array = NDArray[np.generic]

MAX_SQNR_DB = 140.0
"""What equal outputs have: about what float32 can tell apart. A finite one, since metrics are written to JSON."""


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


def sqnr(outputs: Array, reference: Array) -> float:
    """Signal to quantization noise in dB, the float model's outputs being the signal; at most `MAX_SQNR_DB`.

    20 dB: the noise is a tenth of the signal, in amplitude. Shapes as in `cosine`.
    """
    signal = float(np.square(reference.astype(np.float64)).sum())
    noise = float(np.square(outputs.astype(np.float64) - reference.astype(np.float64)).sum())
    if noise == 0:
        return MAX_SQNR_DB
    return min(MAX_SQNR_DB, 10 * math.log10(signal / noise)) if signal else -MAX_SQNR_DB


def f1(outputs: Array, labels: Array) -> float:
    """Mean over the classes of F1, the harmonic mean of precision and recall (macro F1). Shapes as in `accuracy`.

    A class counts when it is the label or the highest score of any sample.
    """
    _check_labels(outputs, labels, "f1", classes=2)
    predicted, classes = outputs.argmax(axis=1), outputs.shape[1]
    right = np.bincount(predicted[predicted == labels], minlength=classes)
    either = np.bincount(predicted, minlength=classes) + np.bincount(labels.astype(np.int64), minlength=classes)
    return float(np.mean(2 * right[either > 0] / either[either > 0]))


def auc(outputs: Array, labels: Array) -> float:
    """Area under the ROC curve; of more than two classes the mean over each against the rest. Shapes as in `accuracy`.

    Equal scores count half. A class without samples, or with all of them, is left out. Scores of more than two classes
    that are no probabilities go through softmax, for those of one class are compared over the samples.
    """
    _check_labels(outputs, labels, "auc", classes=2)
    present = np.unique(labels)
    if len(present) < 2:
        raise UserError(
            "labels-malformed",
            "auc needs labels of two classes at least",
            expected="samples of two classes or more",
            found=f"only class {present[0]}",
            next_step="evaluate on data with samples of several classes",
        )
    scores = outputs.astype(np.float64)
    if outputs.shape[1] == 2:
        return _area(scores[:, 1] - scores[:, 0], labels == 1)
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    return float(np.mean([_area(scores[:, number], labels == number) for number in present]))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy),
    "top5": Metric(top5),
    "f1": Metric(f1),
    "auc": Metric(auc),
    "cosine": Metric(cosine, is_relative=True),
    "sqnr": Metric(sqnr, is_relative=True),
}


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The share of pairs, one positive and one not, of which the positive one scores higher (Mann and Whitney)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # equal scores share the mean of their ranks, from 1
    ours = int(positive.sum())
    above = float(ranks[positive].sum()) - ours * (ours + 1) / 2
    return above / (ours * (len(scores) - ours))


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
