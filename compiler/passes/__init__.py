"""The passes a recipe may name: a table, and reading a pass's options.

A recipe's passes run in its order. There are two kinds, told apart by what they work on:

    model passes   take and give a float torch model; they run before any target sees it, so they come first
    target passes  take and give one target's lowered model; they run once a target, so they come last

`ptq` is a target pass. Each pass is a module with a frozen `Config` of its options and a function
``run(model, config)``, put together in one object that the table names.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.compiler.yaml_document import Document, Key
from edgewright.contracts.errors import UserError, did_you_mean
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.protocol import Lowered, Progress, Quantize, Samples, SourceModel

PASSES: Mapping[str, str] = {
    "ptq": "edgewright.compiler.passes.ptq:PTQ",
}


@dataclass(frozen=True)
class TargetModel:
    """What a target pass works on: a lowered model, and what is needed to make another of it.

    `quantize` is the target's own quantizer; `work` a folder for the pass's files.
    """

    source: SourceModel
    lowered: Lowered
    quantize: Quantize
    calibration: Samples
    profile: HardwareProfile
    work: Path
    progress: Progress


@dataclass(frozen=True)
class TargetPass:
    """A pass on one target's lowered model. `config` is the frozen dataclass of its options."""

    config: type
    run: Callable[[TargetModel, Any], Lowered]


@dataclass(frozen=True)
class PassStep:
    """One pass of a recipe, with its options."""

    name: str
    config: Any

    def run(self, model: TargetModel) -> Lowered:
        """Run the pass on `model`."""
        return load_pass(self.name).run(model, self.config)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in dataclasses.asdict(self.config).items())
        return f"{self.name}({options})"


def load_pass(name: str) -> TargetPass:
    """The pass that `name`, a key of PASSES, stands for."""
    module, _, attribute = PASSES[name].partition(":")
    found: TargetPass = getattr(importlib.import_module(module), attribute)
    return found


def parse_step(document: Document, path: Key, name: str, options: object) -> PassStep:
    """One entry of a recipe's `passes`.

    Raises:
        UserError: `pass-unknown`, `pass-option-unknown`; `recipe-malformed` for a value that an option does not take.
    """
    if name not in PASSES:
        raise UserError(
            "pass-unknown",
            f"{document.where(path)}: there is no pass '{name}'",
            expected="one of " + ", ".join(PASSES),
            found=repr(name),
            next_step=did_you_mean(name, PASSES, "choose one of these"),
        )
    path = (*path, name)
    config = load_pass(name).config
    allowed = {
        field.name: typing.get_args(typing.get_type_hints(config)[field.name]) for field in dataclasses.fields(config)
    }
    if not isinstance(options, dict):
        raise document.malformed(
            path, f"the options of pass '{name}' are not a mapping", expected=_options(allowed), found=options
        )
    for option, value in options.items():
        if option not in allowed:
            raise UserError(
                "pass-option-unknown",
                f"{document.where((*path, str(option)))}: pass '{name}' has no option '{option}'",
                expected=_options(allowed),
                found=repr(option),
                next_step=did_you_mean(str(option), allowed, "remove it"),
            )
        if value not in allowed[option]:
            raise document.malformed(
                (*path, option),
                f"option '{option}' of pass '{name}' does not take this value",
                expected="one of " + ", ".join(map(str, allowed[option])),
                found=value,
            )
    return PassStep(name, config(**options))


def _options(allowed: Mapping[str, tuple[object, ...]]) -> str:
    return "{" + ", ".join(f"{option}: {'|'.join(map(str, values))}" for option, values in allowed.items()) + "}"
