"""Where an artifact comes from, as far as its bytes depend on it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from edgewright.compiler.recipe import Recipe
from edgewright.contracts.ids import Digest
from edgewright.contracts.manifest import Provenance

_ALWAYS = ("edgewright", "numpy", "torch")


def provenance(recipe: Recipe, source: Digest, toolchain: Mapping[str, str]) -> Provenance:
    """The record for an artifact made from `source` with `recipe` by the target's `toolchain`."""
    versions = {name: found for name in _ALWAYS if (found := _version(name)) is not None}
    return Provenance(
        source=source,
        recipe=recipe.digest,
        passes=tuple(map(str, recipe.passes)),
        seed=recipe.seed,
        toolchain=dict(sorted({**versions, **toolchain}.items())),
    )


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch: the same recipe on the same machine makes the same bytes."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # toolchains draw from the global generator
    torch.manual_seed(seed)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
