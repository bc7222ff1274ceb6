"""Batches of a data set: shuffled by the seed, split over the processes, images varied if wanted.

The order and the variation of the samples depend on the seed alone, not on the number of processes: each draws for the
whole batch and takes its own rows. Batches are of one size; what is left over at the end of an epoch is left out of it,
other samples each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from edgewright.compiler.data import Dataset
from edgewright.compiler.training.workers import World
from edgewright.contracts.errors import UserError

Array = NDArray[Any]

# BatchNorm has no variance of a single sample.
_LEAST_SAMPLES = 2


class Batch(NamedTuple):
    """Samples on the training device. `target` is int64 for whole numbers, else float32; None without labels."""

    inputs: tuple[torch.Tensor, ...]
    target: torch.Tensor | None


class Batches:
    """The batches of `data`, for one process of `world`.

    Args:
        data: the samples.
        size: samples in a batch, over all processes; made smaller where there are not as many, and a multiple of the
            number of processes.
        seed: of the order and the variation.
        world: this process.
        augment: whether to shift images (inputs of four axes) by up to an eighth of their size and mirror half of them.

    Raises:
        UserError: `training-too-few-samples`.
    """

    def __init__(self, data: Dataset, size: int, seed: int, world: World, *, augment: bool) -> None:
        least = _LEAST_SAMPLES * world.size
        if len(data) < least:
            raise UserError(
                "training-too-few-samples",
                f"{data.origin} has too few samples to train on",
                expected=f"{least} or more",
                found=str(len(data)),
                next_step="add samples",
            )
        self._data, self._seed, self._world, self._augment = data, seed, world, augment
        self.size = max(least, min(size, len(data)) // world.size * world.size)
        self.per_epoch = len(data) // self.size

    def stream(self) -> Iterator[Batch]:
        """Batches without end, one epoch after the other."""
        random = np.random.default_rng(self._seed)
        mine = slice(self._world.rank, None, self._world.size)
        while True:
            order = random.permutation(len(self._data))
            for start in range(0, self.per_epoch * self.size, self.size):
                chance = random.random((3, self.size))
                yield self._batch(order[start : start + self.size][mine], chance[:, mine])

    def _batch(self, rows: Array, chance: Array) -> Batch:
        arrays = (array[rows] for array in self._data.inputs.values())
        if self._augment:
            arrays = (crop_and_flip(array, *chance) if array.ndim == 4 else array for array in arrays)
        target = self._data.target
        return Batch(
            tuple(torch.from_numpy(array).to(self._world.device) for array in arrays),
            None if target is None else as_target(target[rows]).to(self._world.device),
        )


def as_target(labels: Array) -> torch.Tensor:
    """`labels` as a tensor: whole numbers as int64, others as float32."""
    return torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))


def crop_and_flip(images: Array, down: Array, right: Array, mirror: Array) -> Array:
    """`images`, (N, C, H, W), each shifted by up to an eighth of its size, with zeros for what comes in, or mirrored.

    `down`, `right` and `mirror`, each (N,), are in [0, 1): where in its range a shift lies, and below a half that the
    image is mirrored left to right.
    """
    count, channels, height, width = images.shape
    pad = (max(1, height // 8), max(1, width // 8))
    padded = np.pad(images, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    rows = (down * (2 * pad[0] + 1)).astype(int)[:, None] + np.arange(height)
    columns = (right * (2 * pad[1] + 1)).astype(int)[:, None] + np.arange(width)
    columns = np.where(mirror[:, None] < 0.5, columns[:, ::-1], columns)
    sample, channel = np.arange(count)[:, None, None, None], np.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
