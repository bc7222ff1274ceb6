"""What a loaded artifact can do, the same for every runtime. Imported on devices: nothing heavy here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

Arrays = Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]
"""Arrays by tensor name; axis 0 is the batch."""


class Session(Protocol):
    """A loaded artifact.

    Attributes:
        runtime: the runtime's name, as a fingerprint names it.
        runtime_version: its version.
        how: ``measured`` if this is the runtime the artifact is for, ``simulated`` if another stands in.
    """

    runtime: str
    runtime_version: str
    how: str

    def infer(self, inputs: Arrays) -> Arrays:
        """Outputs for `inputs`, by the manifest's names. Takes any number of samples.

        Raises:
            UserError: `input-mismatch` when a name, a shape or a dtype is not the manifest's.
        """
        ...

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """A function that runs one inference on `inputs` (one native batch), copying them in each time, as a caller
        with a new frame would. This is what benchmarks time.
        """
        ...
