"""The golden probe of an artifact: some calibration samples, the float model's outputs, and what is close enough.

The tolerances come from what the built artifact showed on this host, with a margin for other kernels on the device:
tight enough that an artifact with other weights fails, wide enough for another rounding. An artifact that is further
off than its precision can explain is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewright.compiler.data import take
from edgewright.contracts.errors import CompileError
from edgewright.contracts.manifest import GoldenProbe
from edgewright.measurement.probe import compare
from edgewright.targets.protocol import Samples

PROBE_NAME = "probe.npz"
_SAMPLES = 8
_MAX_BYTES = 1_000_000
_MARGIN = 4.0


@dataclass(frozen=True)
class Slack:
    """What a precision explains. Errors are in parts of the largest expected output.

    Attributes:
        step: allowed on top of what this host showed: what one rounding step more or less can do.
        max_error, min_cosine: beyond these, the latter over all samples together, the build is wrong, not rounded.
    """

    step: float
    max_error: float
    min_cosine: float


SLACK: Mapping[str, Slack] = {
    # Devices may compute float32 with shorter products (TF32 has 10 bits of mantissa).
    "fp32": Slack(step=2e-3, max_error=1e-2, min_cosine=0.999),
    "fp16": Slack(step=5e-3, max_error=5e-2, min_cosine=0.995),
    # One step of an int8 output is 1/127 of its range.
    "int8": Slack(step=1e-2, max_error=0.5, min_cosine=0.8),
}


def choose_samples(inputs: Samples) -> dict[str, NDArray[np.generic]]:
    """At most eight samples, spread evenly over `inputs`, at most 1 MB of them, at least one."""
    count = len(next(iter(inputs.values())))
    sample_bytes = sum(array.nbytes // count for array in inputs.values())
    wanted = max(1, min(_SAMPLES, count, _MAX_BYTES // max(1, sample_bytes)))
    return take(inputs, np.linspace(0, count - 1, wanted).round().astype(int))


def derive_probe(precision: str, expected: Samples, shown: Samples, artifact: str) -> GoldenProbe:
    """The probe for an artifact that showed `shown` on this host where the float model gives `expected`.

    Args:
        precision: the artifact's, a key of SLACK.
        expected: outputs of the float model, by name.
        shown: outputs of the built artifact, by name.
        artifact: its name, for the message.

    Raises:
        CompileError: `probe-out-of-tolerance` when its outputs are further off than its precision explains.
    """
    slack = SLACK[precision]
    samples = len(next(iter(expected.values())))
    scale = max(float(np.abs(array).max(initial=0.0)) for array in expected.values()) or 1.0
    widest = GoldenProbe(
        path=PROBE_NAME, samples=samples, atol=slack.max_error * scale, rtol=0.0, min_cosine=slack.min_cosine
    )
    seen = compare(widest, _together(expected), _together(shown))
    if not seen.passed:
        raise CompileError(
            "probe-out-of-tolerance",
            f"the artifact built {artifact} is further from the float model than {precision} explains",
            expected=f"errors up to {widest.atol:.4g}, cosine of {widest.min_cosine:g} or more",
            found=seen.detail,
            next_step="try it without quantization (passes: []), and look at the calibration data",
        )
    return GoldenProbe(
        path=PROBE_NAME,
        samples=samples,
        atol=min(_MARGIN * seen.max_abs_error + slack.step * scale, widest.atol),
        rtol=0.0,
        min_cosine=min(_min_cosine(expected[name], shown[name], slack.step * scale) for name in expected),
    )


def _together(outputs: Samples) -> Samples:
    """Each output as one long sample: single samples near zero have no direction to speak of."""
    return {name: array.reshape(1, -1) for name, array in outputs.items()}


def _min_cosine(expected: NDArray[np.generic], shown: NDArray[np.generic], step: float) -> float:
    """The lowest cosine with its expectation that a sample has if its error is within the margin.

    An error of length r turns a vector of length n by at most asin(r / n), and any way if r >= n.
    """
    wanted = expected.reshape(len(expected), -1).astype(np.float64)
    error = np.linalg.norm(shown.reshape(wanted.shape).astype(np.float64) - wanted, axis=1)
    allowed = _MARGIN * error + step * np.sqrt(wanted.shape[1])
    length = np.linalg.norm(wanted, axis=1)
    sine = np.divide(allowed, length, out=np.full_like(length, np.inf), where=length > 0)
    return float(np.where(sine < 1, np.sqrt(1 - np.minimum(sine, 1) ** 2), -1.0).min())
