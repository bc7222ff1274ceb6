"""What a model pass is: a float torch model in, a float torch model out, before any target sees it.

Rules that every pass keeps:

- It never changes the module it is given; it works on a copy.
- What it needs is checked by `requires` before any model runs; what it promises by `ensures` after it ran.
- It states how much work it will do, tells its progress, and stops at `Budget.deadline`, giving the best it has.
- Randomness comes from `seed` alone: the same input gives the same module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from edgewright.compiler.data import Dataset
from edgewright.contracts.findings import Finding
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.protocol import Progress, Samples


@dataclass(frozen=True)
class Budget:
    """How long a pass may take. `deadline` is `time.monotonic()` seconds; None: as long as it needs."""

    deadline: float | None = None

    def is_spent(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline


@dataclass(frozen=True)
class TorchModel:
    """A float model.

    Attributes:
        module: eval mode, float32, CPU; takes the inputs positionally.
        example: one sample of each input, in the order of the arguments.
    """

    module: torch.nn.Module
    example: Samples

    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """The example as tensors, batch 1."""
        return tuple(torch.from_numpy(array) for array in self.example.values())


@dataclass(frozen=True)
class PassContext:
    """What a pass may use beside the model.

    Attributes:
        train: samples with labels to train on; None: the recipe gave none.
        selection: held-out samples with labels that choose between checkpoints; never the evaluation data. None where
            `train` is.
        calibration: typical samples, labels not needed.
        score: the recipe's metric of a module on a dataset, higher is better.
        profile: the hardware that the model is made for.
        seed: for everything random.
        budget: when to stop.
        progress: called as ``progress(what, done, total)``.
        teacher: the float model before any pass changed it; None where the pass is given that one.
    """

    train: Dataset | None
    selection: Dataset | None
    calibration: Dataset
    score: Callable[[torch.nn.Module, Dataset], float]
    profile: HardwareProfile
    seed: int
    budget: Budget
    progress: Progress
    teacher: torch.nn.Module | None = None


@dataclass(frozen=True)
class PassResult:
    """What a pass made.

    Attributes:
        module: eval mode, float32, CPU.
        findings: what a person should know.
        figures: what the report shows of the pass, by name, e.g. ``{"parameters": 31000, "macs": 2.1e6}``.
    """

    module: torch.nn.Module
    findings: tuple[Finding, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


Check = Callable[[TorchModel, Any, PassContext], None]


@dataclass(frozen=True)
class ModelPass:
    """One row behind the table of passes.

    Attributes:
        config: the frozen dataclass of its options; every option has a default.
        run: does the work.
        requires: raises UserError or CompileError when the model, the options or the data do not fit the pass.
        ensures: raises CompileError when the result is not what the pass promises.
        profile_facts: fields of HardwareProfile that change the result; profiles that agree in them share it.
    """

    config: type
    run: Callable[[TorchModel, Any, PassContext], PassResult]
    requires: Check
    ensures: Callable[[TorchModel, PassResult, Any, PassContext], None]
    profile_facts: tuple[str, ...] = ()
