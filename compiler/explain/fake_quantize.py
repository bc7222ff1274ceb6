"""INT8 as the targets compute it, simulated in float. Pure.

- Weights: symmetric, -127…127, one scale for each output channel.
- Activations: affine, 255 steps over one range for the whole tensor, with zero among the steps.
- Biases: 32-bit integers in steps of (activation step x weight step), which saturate.

This is what TFLite does. OpenVINO does the same but for depthwise convolutions, whose input it scales by channel: an
outlier channel there does no harm. TensorRT's activations are symmetric: one bit less where nothing is below zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgewright.compiler.metrics import MAX_SQNR_DB

WEIGHT_STEPS = 127
ACTIVATION_STEPS = 255
INT32_MAX = 2**31 - 1
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Range:
    """The values that an activation's 256 codes span; always holds zero."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        """The smallest range that holds `low`, `high` and zero."""
        return cls(min(low, 0.0), max(high, 0.0))

    @property
    def is_empty(self) -> bool:
        """Whether it holds zero alone, or nothing that float32 can divide by."""
        return self.high - self.low < _SMALLEST

    @property
    def step(self) -> float:
        """The distance of two codes; 1 for an empty range, as runtimes take it."""
        return 1.0 if self.is_empty else (self.high - self.low) / ACTIVATION_STEPS


def weight_steps(weight: torch.Tensor) -> torch.Tensor:
    """The step of each output channel, shape (outputs,), for `weight` (outputs, …)."""
    largest = weight.abs().flatten(1).amax(1)
    return torch.where(largest > _SMALLEST, largest, 1.0) / WEIGHT_STEPS


def int8_weight(weight: torch.Tensor) -> torch.Tensor:
    """`weight` (outputs, …) rounded to its codes."""
    steps = weight_steps(weight).reshape(-1, *([1] * (weight.ndim - 1)))
    return (weight / steps).round() * steps


def int8_activation(values: torch.Tensor, limits: Range) -> torch.Tensor:
    """`values` rounded to the codes of `limits`, and cut off where they lie beyond."""
    if limits.is_empty:
        return torch.zeros_like(values)
    zero = round(-limits.low / limits.step)
    codes = (values / limits.step).round().clamp(-zero, ACTIVATION_STEPS - zero)
    return codes * limits.step


def int32_bias(bias: torch.Tensor, limits: Range, weight: torch.Tensor) -> torch.Tensor:
    """`bias` (outputs,) rounded to its codes, which saturate."""
    steps = (weight_steps(weight) * limits.step).double()
    return ((bias / steps).round().clamp(-INT32_MAX, INT32_MAX) * steps).to(bias.dtype)


def bias_codes(bias: torch.Tensor, limits: Range, weight: torch.Tensor) -> torch.Tensor:
    """How large the bias codes (outputs,) would have to be."""
    return (bias.abs() / (weight_steps(weight) * limits.step).double()).round()


def decibel(noise_to_signal: float) -> float:
    """SQNR in dB of a ratio of powers, at most MAX_SQNR_DB."""
    if noise_to_signal <= 10 ** (-MAX_SQNR_DB / 10):
        return MAX_SQNR_DB
    return -10 * math.log10(noise_to_signal)
