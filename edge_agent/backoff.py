"""How long to wait before the next try: full jitter, so that a fleet that lost its server does not return as one.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """A uniform draw from 0 to ``min(cap_s, base_s * 2**tries)``."""

    base_s: float = 1.0
    cap_s: float = 60.0
    uniform: Callable[[float, float], float] = random.uniform

    def delay_s(self, tries: int) -> float:
        """Seconds to wait after `tries` tries (from 0) have failed in a row."""
        # The exponent is bounded: after days of tries 2**tries would not fit a float.
        return self.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(tries, 32)))
