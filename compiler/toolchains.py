"""The cloud side of the targets: each one's `lower`, `quantize` and `package`, imported when it is needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from edgewright.contracts.errors import UserError
from edgewright.targets import TARGETS
from edgewright.targets.protocol import Lower, Package, Quantize


@dataclass(frozen=True)
class Toolchain:
    """One target's functions."""

    lower: Lower
    quantize: Quantize
    package: Package


def load_toolchain(target: str) -> Toolchain:
    """The functions of `target`, a key of TARGETS.

    Raises:
        UserError: `extra-not-installed` when a package that they need is missing.
    """
    return Toolchain(*(_load(target, part) for part in ("lower", "quantize", "package")))


def _load(target: str, part: str) -> Any:
    try:
        return getattr(importlib.import_module(f"{TARGETS[target].package}.{part}"), part)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("edgewright"):
            raise
        raise UserError(
            "extra-not-installed",
            f"target {target} needs the Python package '{error.name}', which is not installed",
            next_step="pip install 'edgewright[compile]'",
        ) from None
