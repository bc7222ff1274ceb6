"""What goes in and out of a target's `lower`, `quantize` and `package` (cloud side)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgewright.contracts.findings import Finding
from edgewright.contracts.hardware import HardwareProfile
from edgewright.contracts.manifest import Option, Requirements, TensorSpec

if TYPE_CHECKING:
    import torch

Samples = Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]
"""Input arrays by name, in the order of the model's arguments; axis 0 counts samples."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` from long work."""


@dataclass(frozen=True)
class SourceModel:
    """The trained float model, as every target takes it. Exactly one of `module` and `onnx_path` is set.

    Attributes:
        module: in eval mode, float32, on the CPU; `forward` takes `inputs` in order, positionally. Targets must not
            change it.
        onnx_path: when the user brought ONNX.
        inputs: with -1 for the batch dimension.
        outputs: names are ``output_0``, ``output_1``, … for a module, or the ONNX graph's own.
        example: one sample of each input (batch 1), real data.
    """

    name: str
    module: torch.nn.Module | None
    onnx_path: Path | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: Samples


@dataclass(frozen=True)
class Lowered:
    """A model in a runtime's own format: `path` is its main file; files beside it with the same stem belong to it."""

    path: Path
    precision: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Packaged:
    """What a device gets. `files` lie below the folder given to `package`; `entry` is the one the runtime opens."""

    files: tuple[Path, ...]
    entry: str
    requirements: Requirements
    options: dict[str, Option] = field(default_factory=dict)
    toolchain: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class Lower(Protocol):
    """`lower.lower`."""

    def __call__(self, source: SourceModel, profile: HardwareProfile, work: Path) -> Lowered:
        """The model in float32, written below `work`.

        Raises:
            CompileError: `unsupported-op` (names the operator, and the layer's path in the module where it is known)
                or `lower-failed`.
        """
        ...


class Quantize(Protocol):
    """`quantize.quantize`."""

    def __call__(
        self,
        source: SourceModel,
        lowered: Lowered,
        calibration: Samples,
        profile: HardwareProfile,
        work: Path,
        progress: Progress,
    ) -> Lowered:
        """The model in INT8, calibrated on all of `calibration`, written below `work`. `lowered` stays as it is.

        Raises:
            CompileError: `quantize-failed`.
        """
        ...


class Package(Protocol):
    """`package.package`."""

    def __call__(self, source: SourceModel, lowered: Lowered, profile: HardwareProfile, dest: Path) -> Packaged:
        """Put into `dest` (an existing, empty folder) the files a device needs.

        Raises:
            CompileError: `package-failed`.
        """
        ...
