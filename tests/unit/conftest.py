"""Small trained models, and the samples they were trained on, for tests that run a real toolchain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.protocol import Samples, SourceModel

if TYPE_CHECKING:
    import torch

CLASSES = 10


def _samples(count: int) -> tuple[Samples, np.ndarray]:
    """Noisy gratings, one direction and frequency a class, shape (count, 1, 8, 8), and the classes."""
    random = np.random.default_rng(0)
    classes = random.integers(CLASSES, size=count)
    angle, frequency = np.pi * (classes % 5) / 5, 1 + 1.5 * (classes // 5)
    along = frequency[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    phase = 2 * np.pi * np.einsum("nk,kij->nij", along, np.indices((8, 8)) / 8)
    x = np.sin(phase)[:, None] + 0.1 * random.normal(size=(count, 1, 8, 8))
    return {"x": x.astype(np.float32)}, classes


def _trained(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    samples, classes = _samples(256)
    x, y = torch.from_numpy(samples["x"]), torch.from_numpy(classes)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    module.train()
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module.eval().requires_grad_(requires_grad=False)


def _source(name: str, module: torch.nn.Module, calibration: Samples) -> SourceModel:
    return SourceModel(
        name=name,
        module=module,
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 1, 8, 8)),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1, CLASSES)),),
        example={"x": calibration["x"][:1]},
    )


@pytest.fixture(scope="session")
def calibration() -> Samples:
    """64 samples of input ``x``, shape (64, 1, 8, 8)."""
    return _samples(64)[0]


@pytest.fixture(scope="session")
def tiny_cnn_source(calibration: Samples) -> SourceModel:
    """Convolution with BatchNorm, a depthwise separable block with a residual, average pooling, a linear head."""
    import torch
    from torch import nn

    class TinyCnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
            self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.pointwise = nn.Conv2d(16, 16, 1)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            x = x + torch.relu(self.pointwise(self.depthwise(x)))
            return self.head(torch.flatten(self.pool(x), 1))

    torch.manual_seed(0)
    return _source("tiny-cnn", _trained(TinyCnn()), calibration)


@pytest.fixture(scope="session")
def tiny_mlp_source(calibration: Samples) -> SourceModel:
    """Two linear layers."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    return _source("tiny-mlp", _trained(module), calibration)
