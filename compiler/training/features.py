"""What layers inside two models give, side by side: which layers to hold against each other, and how to read them.

A pair is a layer of one name in both models whose outputs differ in one axis at most, that of the channels. Where they
differ there, an adapter (a convolution of 1x1, or what it is for other shapes: a linear map of the channels) brings the
student's channels to the teacher's number while it trains, and is thrown away after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from edgewright.compiler.training.losses import first_output
from edgewright.contracts.errors import UserError, did_you_mean

_MOST_PAIRS = 4

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Pair:
    """A layer of both models. `axis` is that of the channels, `student` and `teacher` are its lengths."""

    name: str
    axis: int
    student: int
    teacher: int


class Adapter(torch.nn.Module):
    """Brings the student's channels of a pair to the teacher's number; nothing where they are as many."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._axis = pair.axis
        differs = pair.student != pair.teacher
        self.map = torch.nn.Linear(pair.student, pair.teacher, bias=False) if differs else torch.nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`features` of the student, with the teacher's number of channels."""
        return self.map(features.movedim(self._axis, -1)).movedim(-1, self._axis)


@contextmanager
def recorded(module: torch.nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Inside the block, what the layers `names` of `module` gave last, in the order in which they finished.

    Layers that give something else than one tensor are left out.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            outputs.pop(name, None)  # a layer used twice counts where it was used last
            outputs[name] = output

    layers = dict(module.named_modules())
    hooks = [
        layers[name].register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name in names
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def pair_layers(
    student: torch.nn.Module, teacher: torch.nn.Module, example: Tensors, names: Sequence[str]
) -> tuple[Pair, ...]:
    """The layers to hold against each other: `names`, or where there are none, a few that are chosen.

    Chosen are the last layer of every resolution, at most four and the latest of these; of models with one
    resolution, as encoders are, the layers at a third, two thirds and the end.

    Args:
        student: in eval mode, on the CPU.
        teacher: likewise.
        example: one sample of each input.
        names: layers as `named_modules` calls them.

    Raises:
        UserError: `distill-layer-unknown`, `distill-layer-does-not-fit`.
    """
    ours, theirs = _outputs(student, example), _outputs(teacher, example)
    pairs = {name: pair for name in ours if name in theirs and (pair := _pair(name, ours[name], theirs[name]))}
    for name in names:
        if name not in ours or name not in theirs:
            known = [other for other in ours if other in theirs]
            raise UserError(
                "distill-layer-unknown",
                f"'{name}' is no layer that both models run and that gives one tensor",
                expected="a name as named_modules gives it",
                found=", ".join(known[:8]) or "no such layer in the two models",
                next_step=did_you_mean(name, known, "name one of these, or none, to have some chosen"),
            )
        if name not in pairs:
            raise UserError(
                "distill-layer-does-not-fit",
                f"layer '{name}' of the student and of the teacher cannot be held against each other",
                expected="shapes that differ in the channels only",
                found=f"{tuple(ours[name].shape)} and {tuple(theirs[name].shape)}",
                next_step="name another layer",
            )
    return tuple(pairs[name] for name in names) if names else _chosen(pairs, ours)


def _outputs(module: torch.nn.Module, example: Tensors) -> dict[str, torch.Tensor]:
    """What each layer gives, but for those that give the model's own output."""
    names = [name for name, _ in module.named_modules() if name]
    with torch.no_grad(), recorded(module, names) as outputs:
        final = first_output(module(*example))
    return {name: output for name, output in outputs.items() if output is not final}


def _pair(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> Pair | None:
    if ours.ndim != theirs.ndim or ours.ndim < 2 or not ours.is_floating_point():
        return None
    differing = [axis for axis in range(ours.ndim) if ours.shape[axis] != theirs.shape[axis]]
    if len(differing) > 1 or 0 in differing:
        return None
    # Channels are the second axis of images and the last of tokens; where they differ, the models say which.
    axis = differing[0] if differing else 1 if ours.ndim > 3 else ours.ndim - 1
    return Pair(name, axis, ours.shape[axis], theirs.shape[axis])


def _chosen(pairs: dict[str, Pair], outputs: dict[str, torch.Tensor]) -> tuple[Pair, ...]:
    maps = [pair for pair in pairs.values() if outputs[pair.name].ndim > 2] or list(pairs.values())
    groups: dict[tuple[int, ...], list[Pair]] = {}
    for pair in maps:
        shape = outputs[pair.name].shape
        groups.setdefault((*shape[: pair.axis], *shape[pair.axis + 1 :]), []).append(pair)
    if len(groups) != 1:
        return tuple(group[-1] for group in groups.values())[-_MOST_PAIRS:]
    (alone,) = groups.values()
    places = dict.fromkeys((len(alone) * third - 1) // 3 for third in (1, 2, 3))
    return tuple(alone[place] for place in places if place >= 0)
