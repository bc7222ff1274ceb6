"""Names of a model's inputs inside runtime formats whose names must be those of Python arguments."""

from __future__ import annotations

import keyword

from edgewright.contracts.manifest import TensorSpec


def argument_names(inputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """The inputs' own names where all of them can name an argument, else ``input_0``, ``input_1``, …"""
    names = tuple(spec.name for spec in inputs)
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        return names
    return tuple(f"input_{i}" for i in range(len(names)))
