"""What is learned from labels and from a teacher. Everything is computed in float32 on a model's first output.

| labels        | hard loss (labels)     | soft loss (teacher)                          |
| ------------- | ---------------------- | -------------------------------------------- |
| whole numbers | cross-entropy          | Kullback-Leibler divergence at a temperature |
| fractions     | relative squared error | relative squared error                       |
| none          | none                   | relative squared error                       |

A relative squared error is the mean of the squared differences over the mean of the yardstick's squares: 0 where they
agree, 1 for an output of zeros, whatever the unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from edgewright.compiler.data import Dataset
from edgewright.compiler.training.batches import Batch
from edgewright.contracts.errors import UserError

Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]
"""``loss(module, batch)``: runs the module, and gives one number to make smaller. Where it is a module itself, its
parameters are trained too. What it needs beside the batch must be on the training device."""

_LOOKED_AT = 64  # samples whose outputs tell what kind of model it is


@dataclass(frozen=True)
class Task:
    """What the labels are, and so what is to be learned.

    Attributes:
        kind: ``classes`` (whole numbers), ``values`` (fractions) or ``unlabelled``.
        gives_probabilities: whether the model ends in a softmax, so that its scores are the logarithms of its outputs.
    """

    kind: str
    gives_probabilities: bool = False

    def hard(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How far `output`, (N, classes, …) or as `target`, is from the labels."""
        if self.kind == "classes":
            return F.cross_entropy(self._scores(output), target)
        return relative_error(output.reshape(target.shape), target)

    def soft(self, output: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """How far `output` is from the teacher's.

        For classes T² · KL(softmax(teacher / T) ‖ softmax(output / T)), the mean over the samples (Hinton, Vinyals,
        Dean: Distilling the Knowledge in a Neural Network, 2015); T² keeps the gradient's size as T grows.
        """
        if self.kind != "classes":
            return relative_error(output, teacher)
        ours, theirs = (
            F.log_softmax(self._scores(scores).movedim(1, -1).flatten(0, -2) / temperature, dim=-1)
            for scores in (output, teacher)
        )
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2

    def _scores(self, output: torch.Tensor) -> torch.Tensor:
        return output.float().clamp_min(1e-12).log() if self.gives_probabilities else output.float()


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the mean square of `theirs`; both of one shape."""
    ours, theirs = ours.float(), theirs.float()
    return (ours - theirs).square().mean() / theirs.square().mean().clamp_min(1e-12)


def first_output(outputs: Any) -> torch.Tensor:
    """The output that metrics judge: the first of several, or the only one."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    return next(iter(outputs.values() if isinstance(outputs, dict) else outputs))


def read_task(module: torch.nn.Module, data: Dataset) -> Task:
    """What `module`, in eval mode and on the CPU, has to learn from the labels of `data`.

    Raises:
        UserError: `labels-do-not-fit`, `labels-out-of-range`.
    """
    if data.target is None:
        return Task("unlabelled")
    inputs = [torch.from_numpy(np.array(array[:_LOOKED_AT])) for array in data.inputs.values()]
    with torch.inference_mode():
        output = first_output(module(*inputs))
    one, label = tuple(output.shape[1:]), data.target.shape[1:]
    if data.target.dtype.kind == "f" and math.prod(one) == math.prod(label):
        return Task("values")
    if data.target.dtype.kind != "f" and one and one[1:] == label:
        _check_range(data, classes=one[0])
        total = output.float().sum(1)
        return Task("classes", bool((output >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3)))
    raise UserError(
        "labels-do-not-fit",
        f"the model cannot be trained towards the labels of {data.origin}",
        expected=f"whole numbers, one for each {one[1:] or 'sample'}, or fractions of shape (samples, *{one})",
        found=f"{data.target.dtype} of shape {data.target.shape}",
        next_step="give labels of that form, or leave them out to train towards the float model's outputs",
    )


def labels_loss(task: Task, teacher: torch.nn.Module | None) -> Loss:
    """The plain loss: towards the labels or, where there are none, towards the outputs of `teacher`.

    Args:
        task: what `read_task` gave for the training data.
        teacher: in eval mode, on the training device; not used where there are labels.

    Raises:
        UserError: `training-without-yardstick`.
    """
    if task.kind != "unlabelled":
        return lambda module, batch: task.hard(first_output(module(*batch.inputs)), labels_of(batch))
    if teacher is None:
        raise UserError(
            "training-without-yardstick",
            "the training data has no labels, and there is no float model to train towards",
            expected="labels, or a model before the passes that changed it",
            next_step="add labels to the training data",
        )

    def towards_teacher(module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            theirs = first_output(teacher(*batch.inputs))
        return relative_error(first_output(module(*batch.inputs)), theirs)

    return towards_teacher


def labels_of(batch: Batch) -> torch.Tensor:
    """The labels of a batch of labelled data."""
    if batch.target is None:
        raise RuntimeError("the data has no labels, and the task says that it has")
    return batch.target


def _check_range(data: Dataset, classes: int) -> None:
    labels = np.asarray(data.target).ravel()
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            "labels-out-of-range",
            f"{len(wrong)} of {len(labels)} labels of {data.origin} are no class of the model",
            expected=f"0 to {classes - 1}",
            found=f"{labels[wrong[0]]}, label {wrong[0]}",
            next_step="check that model and data belong together, and that labels count from 0",
        )
