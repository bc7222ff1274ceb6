"""What a layer's input looks like, and what INT8 does to the layer by itself: two runs over the samples.

The first run finds the ranges, the second one measures within them; both look on while the float model computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from edgewright.compiler.explain.fake_quantize import Range, decibel, int8_activation, int8_weight, int32_bias
from edgewright.compiler.explain.simulate import Compute

_BINS = 2048
NEAR = 8
"""A value is near the edge of its range when it reaches an eighth of it."""


@dataclass
class RangeWatch:
    """The first run: smallest and largest input, and the largest absolute value of each of its channels."""

    channel_axis: int
    low: float = 0.0
    high: float = 0.0
    macs: int = 0
    channel_max: torch.Tensor = field(default_factory=lambda: torch.zeros(()))  # grows to (channels,)

    def __call__(
        self,
        compute: Compute,  # noqa: ARG002 - one signature for both runs
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,  # noqa: ARG002
        output: torch.Tensor,
    ) -> None:
        """Take one batch in."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.macs += output.numel() * weight[0].numel()
        largest = by_channel(values, self.channel_axis).abs().amax(1)
        self.channel_max = torch.maximum(self.channel_max, largest)

    @property
    def limits(self) -> Range:
        """The range that holds all values."""
        return Range.around(self.low, self.high)


class NoiseWatch:
    """The second run: what the layer's output loses when its input, its weights, or both are in INT8."""

    def __init__(self, first: RangeWatch) -> None:
        self.channel_axis = first.channel_axis
        self.limits = first.limits
        self.channel_max = first.channel_max
        self.histogram = torch.zeros(_BINS, dtype=torch.float64)
        self._near = torch.zeros(())
        self._count = 0
        self._powers: list[torch.Tensor] = []

    def __call__(
        self,
        compute: Compute,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        output: torch.Tensor,
    ) -> None:
        """Take one batch in."""
        coarse, coarse_weight = int8_activation(values, self.limits), int8_weight(weight)
        coarse_bias = None if bias is None else int32_bias(bias, self.limits, weight)
        axis = self.channel_axis
        powers = [by_channel(output, axis).double().square().sum(1)]
        for other in (
            compute(coarse, coarse_weight, coarse_bias),
            compute(coarse, weight, bias),
            compute(values, coarse_weight, bias),
        ):
            powers.append((by_channel(other, axis).double() - by_channel(output, axis)).square().sum(1))
        self._powers.append(torch.stack(powers))
        bounds = (self.limits.low, self.limits.high) if not self.limits.is_empty else (0.0, 1.0)
        self.histogram += torch.histc(values.float(), _BINS, *bounds).double()
        channels = by_channel(values, axis).abs()
        self._near = self._near + (channels > self.channel_max[:, None] / NEAR).sum(1)
        self._count += channels.shape[1]

    def noise(self) -> tuple[float, float, float]:
        """SQNR in dB of the output with input, weights and bias in INT8, with the input alone, with the weights alone.

        The mean over the output's channels of noise to signal, each at most 1, so that no large channel hides others.
        """
        signal, *noises = torch.stack(self._powers).sum(0)
        alive = signal > signal.max() * 1e-10
        both, inputs, weights = (
            decibel(float((noise[alive] / signal[alive]).clamp_max(1).mean())) if alive.any() else decibel(0.0)
            for noise in noises
        )
        return both, inputs, weights

    def near_share(self) -> torch.Tensor:
        """For each channel of the input, the share of its values that come near the channel's largest."""
        return self._near / self._count

    def percentile(self, share: float) -> Range:
        """The range without the `share` of values that are the most extreme, half of it at either end."""
        total = self.histogram.sum()
        below = self.histogram.cumsum(0) / total
        width = (self.limits.high - self.limits.low) / _BINS
        # Values of ReLU pile up at zero, where nothing is to be cut off.
        low = int((below < share / 2).sum()) if self.limits.low < 0 else 0
        cut = share / 2 if self.limits.low < 0 else share
        high = int((below < 1 - cut).sum()) + 1
        return Range.around(self.limits.low + low * width, self.limits.low + min(high, _BINS) * width)


def by_channel(values: torch.Tensor, axis: int) -> torch.Tensor:
    """`values` as (channels, all the rest)."""
    return values.movedim(axis, 0).flatten(1)
