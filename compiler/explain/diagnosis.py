"""What is wrong with a layer in INT8, told from the ranges of its input's channels and of its weights' columns. Pure.

The faults, and how each is known:

    bias-overflow          a bias code that 32 bits do not hold
    saturating-activation  a channel, or most of them, whose range is set by a handful of rare values
    outlier-channel        one channel of the input, or very few, whose range dwarfs the others'
    badly-scaled           channels that share a range although their own, or those of the weights that read them, are
                           far apart

All but the first are only looked for where the layer loses its signal. An activation has one range for the whole
tensor: whatever takes most of it leaves the other channels a few of the 256 codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgewright.compiler.explain.fake_quantize import ACTIVATION_STEPS, INT32_MAX
from edgewright.compiler.explain.result import HEALTHY_DB, Fault, FaultKind

UNEVEN = 8.0
"""Ranges differ when one is this many times another: three of eight bits lost."""
FEW = 0.1
"""Up to this share of the channels, and always one, is few."""
RARE = 0.01
"""Values are rare when fewer than this share of their channel comes near its range."""

_PERCENTILE = "calibrate by percentile, which cuts rare values off, if they carry no signal"


@dataclass(frozen=True)
class Observed:
    """What is known of one layer.

    Attributes:
        local_sqnr_db: see LayerSensitivity.
        channel_max: largest absolute value of each input channel, (channels,).
        near_share: share of each channel's values that come near its largest, (channels,).
        column_max: largest absolute weight that reads each input channel, (channels,); ones where each output reads
            its own channel, as in a depthwise convolution: there each has its own scale.
        bias_code: the largest bias code that would be needed; 0: no bias.
        bias_channel: which output needs it.
    """

    local_sqnr_db: float
    channel_max: torch.Tensor
    near_share: torch.Tensor
    column_max: torch.Tensor
    bias_code: float
    bias_channel: int


@dataclass(frozen=True)
class Suspicion:
    """A fault before it is known where it comes from. `channel` None: several."""

    kind: FaultKind
    channel: int | None
    evidence: dict[str, float]
    what: str
    next_step: str

    @property
    def is_own(self) -> bool:
        """Whether it is about the layer's own weights and bias, and not about its input."""
        return self.kind is FaultKind.BIAS_OVERFLOW

    def fault(self, origin: str | None) -> Fault:
        """The fault, now that its origin is known (None: the model's input)."""
        made_by = f"made by {origin}" if origin else "the model's own input"
        next_step = self.next_step
        if origin is None:
            next_step = "scale the inputs to like ranges before the model"
        return Fault(
            kind=self.kind,
            origin=origin,
            channel=self.channel,
            evidence=self.evidence,
            message=self.what.format(made_by=made_by),
            next_step=next_step,
        )


def suspect(seen: Observed) -> Suspicion | None:
    """What is wrong with the layer; None: nothing that shows in its ranges."""
    if seen.bias_code > INT32_MAX:
        return _bias_overflow(seen)
    if seen.local_sqnr_db >= HEALTHY_DB or seen.channel_max.numel() < 2:
        return None
    alive = seen.channel_max > 0
    if int(alive.sum()) < 2:
        return None
    ranges = seen.channel_max[alive]
    top = int(seen.channel_max.argmax())
    peers = float(ranges.median())
    uneven = float(ranges.max()) / peers
    if seen.near_share[top] < RARE and uneven >= UNEVEN / 2:
        return _saturating(seen, top, uneven)
    if float(seen.near_share[alive].median()) < RARE:
        return _saturating_everywhere(seen, alive)
    large = ranges > ranges.max() / UNEVEN
    few = int(large.sum()) <= max(1, round(FEW * ranges.numel()))
    if uneven >= UNEVEN and few and _spread(ranges[~large]) < 2 * UNEVEN:
        return _outlier(seen, top, uneven)
    weights = seen.column_max[seen.column_max > 0]
    if max(uneven, _spread(ranges), _spread(weights)) >= UNEVEN:
        return _badly_scaled(_spread(ranges), _spread(weights), uneven)
    return None


def _spread(values: torch.Tensor) -> float:
    """How many times the small among `values`, all positive, the large are: their 9th decile to the 1st."""
    if values.numel() < 2:
        return 1.0
    low, high = torch.quantile(values.float(), torch.tensor([0.1, 0.9])).tolist()
    return float(high / low)


def _outlier(seen: Observed, channel: int, ratio: float) -> Suspicion:
    return Suspicion(
        FaultKind.OUTLIER_CHANNEL,
        channel,
        {"channel_range": float(seen.channel_max[channel]), "ratio_to_median": ratio},
        f"channel {channel} of its input, {{made_by}}, ranges {ratio:.0f} times as far as the median channel, which is "
        f"left {ACTIVATION_STEPS / ratio:.0f} of {ACTIVATION_STEPS} steps",
        "put the pass `equalize` before quantization, which moves the channel's scale into the weights that read it",
    )


def _saturating(seen: Observed, channel: int, ratio: float) -> Suspicion:
    share = float(seen.near_share[channel])
    return Suspicion(
        FaultKind.SATURATING_ACTIVATION,
        channel,
        {"channel_range": float(seen.channel_max[channel]), "near_share": share, "ratio_to_median": ratio},
        f"{share:.2%} of the values of channel {channel} of its input, {{made_by}}, set its range, {ratio:.0f} times "
        "the median channel's: the rest has few codes left, and a smaller range would cut these values off",
        _PERCENTILE,
    )


def _saturating_everywhere(seen: Observed, alive: torch.Tensor) -> Suspicion:
    share = float(seen.near_share[alive].median())
    return Suspicion(
        FaultKind.SATURATING_ACTIVATION,
        None,
        {"channel_range": float(seen.channel_max.max()), "near_share": share},
        f"in most channels of its input, {{made_by}}, few values ({share:.2%}) set the range: the rest has few codes "
        "left, and a smaller range would cut these values off",
        _PERCENTILE,
    )


def _badly_scaled(ranges: float, weights: float, uneven: float) -> Suspicion:
    return Suspicion(
        FaultKind.BADLY_SCALED,
        None,
        {"channel_spread": ranges, "weight_spread": weights, "ratio_to_median": uneven},
        f"the channels of its input, {{made_by}}, differ in range {ranges:.0f} times (9th decile to 1st; the weights "
        f"that read them {weights:.0f} times), and the small ones get few of the {ACTIVATION_STEPS} steps they share",
        "put the pass `equalize` before quantization, which evens the channels out",
    )


def _bias_overflow(seen: Observed) -> Suspicion:
    return Suspicion(
        FaultKind.BIAS_OVERFLOW,
        seen.bias_channel,
        {"bias_code": seen.bias_code},
        f"the bias of its output channel {seen.bias_channel} needs the code {seen.bias_code:.3g}, and 32 bits hold "
        f"{INT32_MAX}: its weights (with BatchNorm folded in) are close to zero",
        "remove the channel by pruning, or retrain it: its scale is close to zero and only its bias is left",
    )
