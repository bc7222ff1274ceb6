"""Small trained networks of five architectures, and faults that leave float as it is and break INT8.

A fault is planted between a maker and its reader, a layer that alone reads the maker's channels, with nothing but ReLU,
pooling and flattening between them. Its strength is drawn at random, from mild to severe:

    outlier-channel        one channel of the maker ranges 20 to 200 times as far as any other, and the reader's weights
                           for it are smaller by as much
    badly-scaled           each channel of the maker scaled by a factor of its own, over two to four decades, and the
                           reader's weights inversely
    saturating-activation  one channel of the maker fires for its rarest values alone (0.1 %, at least two), 20 to 80
                           times as far as the other channels ever do, and the reader's weights for it are as much
                           smaller: nearly the same function, since of eight channels that one is taken whose loss
                           costs the least accuracy

The first two are exactly function-preserving. Nothing here uses the code under test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTS = ("outlier-channel", "badly-scaled", "saturating-activation")
CALIBRATION = 512
_EPOCHS = 8


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """A block of two convolutions beside a skip."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs, stride=stride), conv(outputs, outputs)
        self.skip = conv(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.skip(x))


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand, self.depthwise = (
            conv(channels, 4 * channels, 1),
            conv(4 * channels, 4 * channels, 3, stride, 4 * channels),
        )
        self.project = conv(4 * channels, outputs, 1)
        self.adds = channels == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output."""
        y = self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return x + y if self.adds else y


class Encoder(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v)
        return x + self.fc2(torch.relu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """Patches of 2 x 2 pixels, two blocks, the mean of the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(torch.randn(16, width) * 0.1)
        self.blocks = nn.Sequential(Encoder(width), Encoder(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output."""
        return self.head(self.norm(self.blocks(self.embed(x).flatten(2).transpose(1, 2) + self.position)).mean(1))


def residual(width: int) -> nn.Module:
    """A ResNet of three blocks."""
    return nn.Sequential(
        conv(1, width), nn.ReLU(),
        Residual(width, width, 1), Residual(width, 2 * width, 2), Residual(2 * width, 2 * width, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


def mobile(width: int) -> nn.Module:
    """A MobileNetV2 of three blocks."""
    return nn.Sequential(
        conv(1, width), nn.ReLU(),
        Inverted(width, width, 1), Inverted(width, 2 * width, 2), Inverted(2 * width, 2 * width, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


def vgg(width: int) -> nn.Module:
    """Four convolutions and two linear layers."""
    return nn.Sequential(
        conv(1, width), nn.ReLU(), conv(width, width), nn.ReLU(), nn.MaxPool2d(2),
        conv(width, 2 * width), nn.ReLU(), conv(2 * width, 2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 10),
    )  # fmt: skip


def mlp(width: int) -> nn.Module:
    """Four linear layers."""
    hidden = 4 * width
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """`maker` is scaled in `scaled` (its BatchNorm, its LayerNorm, or itself); `reader` reads its channels."""

    maker: str
    scaled: str
    reader: str

    @property
    def has_relu(self) -> bool:
        """Whether a ReLU follows the maker: a LayerNorm has none."""
        return not self.maker.rpartition(".")[2].startswith("norm")


def _behind_bn(maker: str, reader: str) -> Pair:
    return Pair(f"{maker}.0", f"{maker}.1", reader)


ARCHITECTURES: dict[str, tuple[Callable[[int], nn.Module], tuple[Pair, ...]]] = {
    "residual": (residual, tuple(_behind_bn(f"{i}.conv1", f"{i}.conv2.0") for i in (2, 3, 4))),
    "mobile": (
        mobile,
        tuple(
            pair
            for i in (2, 3, 4)
            for pair in (
                _behind_bn(f"{i}.expand", f"{i}.depthwise.0"),
                _behind_bn(f"{i}.depthwise", f"{i}.project.0"),
            )
        ),
    ),
    "vgg": (
        vgg,
        (
            _behind_bn("0", "2.0"), _behind_bn("2", "5.0"), _behind_bn("5", "7.0"), _behind_bn("7", "11"),
            Pair("11", "11", "13"),
        ),
    ),
    "mlp": (mlp, (Pair("1", "1", "3"), Pair("3", "3", "5"), Pair("5", "5", "7"))),
    "transformer": (
        Vit,
        tuple(
            Pair(f"blocks.{i}.{maker}", f"blocks.{i}.{maker}", f"blocks.{i}.{reader}")
            for i in (0, 1)
            for maker, reader in (("fc1", "fc2"), ("norm1", "qkv"), ("norm2", "fc1"))
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network with at most one fault. Accuracies are of the float model, on images not trained on."""

    name: str
    module: nn.Module
    calibration: np.ndarray
    accuracy_before: float
    accuracy: float
    fault: str | None
    pair: Pair | None


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (1797, 1, 8, 8) from 0 to 1, and classes."""
    images, classes = load_digits(return_X_y=True)
    return torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16, torch.from_numpy(classes)


def make(architecture: str, fault: str | None, seed: int) -> Network:
    """A trained network with a fault at a place chosen by `seed`."""
    images, classes = digits()
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    order = torch.from_numpy(random.permutation(len(images)))
    train, test = order[:1300], order[1300:]
    build, pairs = ARCHITECTURES[architecture]
    module = _train(build(int(random.choice([8, 12, 16]))), images[train], classes[train])
    calibration = images[train[:CALIBRATION]]

    def accuracy(module: nn.Module) -> float:
        with torch.inference_mode():
            return float((module(images[test]).argmax(1) == classes[test]).float().mean())

    before, pair = accuracy(module), None
    if fault is not None:
        usable = [pair for pair in pairs if pair.has_relu] if fault == "saturating-activation" else list(pairs)
        pair = usable[random.integers(len(usable))]
        module = _plant(module, fault, pair, random, calibration, accuracy)
    return Network(f"{architecture}-{seed}", module, calibration.numpy(), before, accuracy(module), fault, pair)


def _train(module: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> nn.Module:
    epochs = _EPOCHS * (3 if isinstance(module, Vit) else 1)
    batches = len(images) // 64 * epochs
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, batches)
    module.train()
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(64)[: len(images) // 64]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[part]), classes[part]).backward()
            optimizer.step()
            schedule.step()
    return module.eval().requires_grad_(requires_grad=False)


def _plant(
    module: nn.Module,
    fault: str,
    pair: Pair,
    random: np.random.Generator,
    calibration: torch.Tensor,
    accuracy: Callable[[nn.Module], float],
) -> nn.Module:
    channels = module.get_submodule(pair.scaled).weight.shape[0]
    if fault == "saturating-activation":
        strength = float(random.uniform(20, 80))
        places = random.permutation(channels)[:8]
        tries = [_spiking(module, pair, int(channel), strength, calibration) for channel in places]
        return max((tried for tried in tries if tried is not None), key=accuracy)
    factor = torch.ones(channels)
    if fault == "outlier-channel":
        ranges = _outputs(module, pair, calibration).abs().amax(1)
        channel = int(random.choice(np.flatnonzero(ranges > ranges.max() / 4)))  # one that is alive
        factor[channel] = float(np.exp(random.uniform(np.log(20), np.log(200))) * ranges.max() / ranges[channel])
    else:
        decades = random.uniform(1, 2)
        factor = torch.from_numpy(10 ** random.uniform(-decades, decades, channels)).float()
    changed = copy.deepcopy(module)
    _scale(changed, pair, factor)
    return changed


def _scale(module: nn.Module, pair: Pair, factor: torch.Tensor) -> None:
    scaled, reader = module.get_submodule(pair.scaled), module.get_submodule(pair.reader)
    scaled.weight.mul_(factor.reshape(-1, *([1] * (scaled.weight.ndim - 1))))
    scaled.bias.mul_(factor)
    _read(reader, 1 / factor)


def _read(reader: nn.Module, factor: torch.Tensor) -> None:
    """Multiply the weights that read each channel by the channel's factor."""
    weight = reader.weight
    if getattr(reader, "groups", 1) > 1:
        weight.mul_(factor.reshape(-1, 1, 1, 1))
    elif weight.ndim == 4:
        weight.mul_(factor.reshape(1, -1, 1, 1))
    else:
        weight.mul_(factor.repeat_interleave(weight.shape[1] // len(factor)))


def _spiking(
    module: nn.Module, pair: Pair, channel: int, strength: float, calibration: torch.Tensor
) -> nn.Module | None:
    """`module` with a channel that only lets its rarest values through, enlarged; None: the channel is constant."""
    values = _outputs(module, pair, calibration)
    own = values[channel].sort().values
    threshold = float(own[-1 - max(2, len(own) // 1000)])  # so many values stay
    excess = float(own[-1]) - threshold
    if excess < 1e-3:
        return None
    changed = copy.deepcopy(module)
    scaled = changed.get_submodule(pair.scaled)
    factor = strength * float(values.amax(1).max()) / excess
    scaled.weight[channel] *= factor
    scaled.bias[channel] = factor * (scaled.bias[channel] - threshold)
    inverse = torch.ones(len(values))
    inverse[channel] = 1 / factor
    _read(changed.get_submodule(pair.reader), inverse)
    return changed


def _outputs(module: nn.Module, pair: Pair, calibration: torch.Tensor) -> torch.Tensor:
    """What the maker makes, (channels, values)."""
    seen: list[torch.Tensor] = []
    layer = module.get_submodule(pair.scaled)
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        module(calibration)
    handle.remove()
    values = seen[0].movedim(1 if seen[0].ndim == 4 else -1, 0).flatten(1)
    return values.clamp_min(0) if pair.has_relu else values
