"""A small residual network on scikit-learn's handwritten digits (1,797 real images of 8 x 8 pixels).

`python digits.py` trains it in seconds and writes `digits.safetensors` and `cal.npz` beside itself, or into the
folder named as the first argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

_EPOCHS = 8
_CALIBRATION_SAMPLES = 256


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Student(nn.Module):
    """Images (N, 1, 8, 8), 0 to 1, to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 3, padding=1)
        self.blocks = nn.Sequential(Residual(64, 64, 1), Residual(64, 128, 2), Residual(128, 256, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.blocks(functional.relu(self.stem(x)))), 1))


def student() -> nn.Module:
    """The network as recipes name it; its weights come from `digits.safetensors`."""
    return Student()


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, evaluation images, training labels, evaluation labels. The split never changes."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return tuple(train_test_split(images, labels.astype(np.int64), test_size=0.3, random_state=0, stratify=labels))  # type: ignore[return-value]


def evaluation() -> dict[str, np.ndarray]:
    """540 images the network was not trained on."""
    _, x, _, y = split()
    return {"x": x, "target": y}


def train(folder: Path) -> None:
    """Train, and write `digits.safetensors` and `cal.npz` into `folder`."""
    torch.manual_seed(0)
    x_train, _, y_train, _ = split()
    x, y = torch.from_numpy(x_train), torch.from_numpy(y_train)
    model = Student()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = _EPOCHS * (len(x) // 64 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(_EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(x)).split(64):
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}/{_EPOCHS}: loss {total / len(x):.4f}", file=sys.stderr)
    save_file(model.state_dict(), folder / "digits.safetensors")
    np.savez(folder / "cal.npz", x=x_train[:_CALIBRATION_SAMPLES], y=y_train[:_CALIBRATION_SAMPLES])


if __name__ == "__main__":
    train(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
