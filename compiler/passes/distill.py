"""Distillation: fine-tuning that also learns from a teacher, the float model before other passes made it smaller.

    loss = labels + `logits` · soft + `features` · mean over layers of the relative squared error

The soft loss is the divergence of the scores at `temperature` or, for outputs that are no classes, the error against
the teacher's (`training/losses.py`); the layers are `layers` or chosen (`training/features.py`). Plain fine-tuning with
the same plan and seed always runs first, as the control, in at most a third of the time left; the better by the
selection score is kept, the control where they are equal, and the model as it was where neither gained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from edgewright.compiler.passes.model_pass import Budget, ModelPass, PassContext, PassResult, TorchModel
from edgewright.compiler.training import (
    Batch,
    Plan,
    Task,
    Trained,
    clone,
    fine_tune,
    first_output,
    join_world,
    labels_loss,
    read_task,
    training_data,
)
from edgewright.compiler.training.features import Adapter, Pair, pair_layers, recorded
from edgewright.compiler.training.losses import labels_of, relative_error
from edgewright.compiler.training.workers import World, shard
from edgewright.contracts.errors import CompileError, UserError
from edgewright.contracts.findings import Finding, Severity

_CONTROL_SHARE = 1 / 3


@dataclass(frozen=True)
class Config:
    """Options of the pass.

    Attributes:
        temperature: softens the scores of both models; above 0.
        logits: weight of the soft loss.
        features: weight of the layers' loss.
        layers: names of the layers; none: some are chosen.
        epochs: of each of the two trainings, at most.
        learning_rate: the highest.
        batch_size: samples in a step.
        patience: epochs without a better score before a training stops.
        augment: whether images are shifted and mirrored at random.
        shard_teacher: whether to split the teacher over the processes (FSDP2); of use with more than one only.
    """

    temperature: float = 4.0
    logits: float = 1.0
    features: float = 1.0
    layers: tuple[str, ...] = ()
    epochs: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 128
    patience: int = 5
    augment: bool = False
    shard_teacher: bool = False


_RANGES: Mapping[str, tuple[str, Callable[[Config], bool]]] = {
    "temperature": ("above 0", lambda config: config.temperature > 0),
    "logits": ("0 or above", lambda config: config.logits >= 0),
    "features": ("0 or above, not 0 where logits is 0", lambda c: c.features >= 0 and c.features + c.logits > 0),
    "epochs": ("1 or above", lambda config: config.epochs >= 1),
    "learning_rate": ("above 0", lambda config: config.learning_rate > 0),
    "batch_size": ("2 or above", lambda config: config.batch_size >= 2),
    "patience": ("1 or above", lambda config: config.patience >= 1),
}


class DistillLoss(torch.nn.Module):
    """The loss of the module's docstring. The adapters are its parameters; the teacher is no part of it.

    Args:
        task: what the labels are.
        teacher: in eval mode, on the training device.
        config: the weights and the temperature.
        pairs: the layers to hold against each other.
        seed: of the adapters' start.
    """

    def __init__(
        self, task: Task, teacher: torch.nn.Module, config: Config, pairs: tuple[Pair, ...], seed: int
    ) -> None:
        super().__init__()
        self._task, self._config, self._names = task, config, [pair.name for pair in pairs]
        self._teacher = (teacher,)  # in a tuple, so that its weights are not taken for the loss's own
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapters = torch.nn.ModuleList(Adapter(pair) for pair in pairs)

    def forward(self, student: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of `student` on `batch`, one number."""
        with torch.no_grad(), recorded(self._teacher[0], self._names) as wanted:
            teacher = first_output(self._teacher[0](*batch.inputs))
        with recorded(student, self._names) as given:
            output = first_output(student(*batch.inputs))
        loss = self._config.logits * self._task.soft(output, teacher, self._config.temperature)
        if self._task.kind != "unlabelled":
            loss = loss + self._task.hard(output, labels_of(batch))
        for name, adapter in zip(self._names, self.adapters, strict=True):
            error = relative_error(adapter(given[name]), wanted[name])
            loss = loss + self._config.features / len(self._names) * error
        return loss


def requires(model: TorchModel, config: Config, context: PassContext) -> None:
    """Check options, data, teacher and layers.

    Raises:
        UserError: `pass-option-range`, `training-data-missing`, `distill-without-teacher`,
            `distill-teacher-does-not-fit`, `distill-layer-unknown`, `distill-layer-does-not-fit`, `labels-do-not-fit`,
            `labels-out-of-range`.
    """
    for option, (expected, holds) in _RANGES.items():
        if not holds(config):
            raise UserError(
                "pass-option-range",
                f"option '{option}' of pass 'distill' is out of its range",
                expected=expected,
                found=str(getattr(config, option)),
            )
    train, _ = training_data(context, "distill")
    teacher = _teacher(context)
    example = model.example_tensors()
    with torch.inference_mode():
        ours, theirs = (first_output(module(*example)).shape for module in (model.module, teacher))
    if ours != theirs:
        raise UserError(
            "distill-teacher-does-not-fit",
            "the teacher's first output is not like the student's",
            expected=f"shape {tuple(ours)}",
            found=f"shape {tuple(theirs)}",
            next_step="distill from a model for the same task",
        )
    read_task(model.module, train)
    _pairs(model, config, teacher)


def run(model: TorchModel, config: Config, context: PassContext) -> PassResult:
    """Train `model` twice, plainly and with the teacher, and keep the better.

    Raises:
        CompileError, UserError: what `requires` and `fine_tune` raise.
    """
    train, selection = training_data(context, "distill")
    world = join_world()
    task = read_task(model.module, train)
    original = _teacher(context)
    pairs = _pairs(model, config, original)
    plan = Plan(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        patience=config.patience,
        augment=config.augment,
    )
    teacher_score = world.decide(lambda: context.score(original, selection))
    teacher = _on_device(original, world, is_sharded=config.shard_teacher)
    control = fine_tune(model.module, _part(context, 0), loss=labels_loss(task, teacher), plan=plan)
    loss = DistillLoss(task, teacher, config, pairs, context.seed)
    distilled = fine_tune(model.module, _part(context, 1), loss=loss, plan=plan)
    best = distilled if distilled.best_score > control.best_score else control
    return PassResult(
        module=best.module,
        findings=tuple(_findings(control, distilled, pairs, config)),
        figures={
            "teacher_score": teacher_score,
            "start_score": control.start_score,
            "control_score": control.best_score,
            "distilled_score": distilled.best_score,
            "control_epochs": len(control.history),
            "distilled_epochs": len(distilled.history),
        },
    )


def ensures(model: TorchModel, result: PassResult, config: Config, context: PassContext) -> None:  # noqa: ARG001
    """Check that the result is the same network with other, finite numbers.

    Raises:
        CompileError: `distill-changed-the-model`.
    """
    before, after = (
        {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for module in (model.module, result.module)
    )
    broken = sorted(name for name, value in result.module.state_dict().items() if not bool(value.isfinite().all()))
    if before != after or broken:
        raise CompileError(
            "distill-changed-the-model",
            "pass 'distill' did not give the same network with other numbers",
            expected="the tensors of the model that it was given, finite",
            found=f"not finite: {', '.join(broken[:5])}" if broken else "other tensors",
            next_step="leave the pass out of the recipe, and report this",
        )


def _teacher(context: PassContext) -> torch.nn.Module:
    if context.teacher is None:
        raise UserError(
            "distill-without-teacher",
            "pass 'distill' was given the model as it was trained, and there is no other to learn from",
            expected="a pass before it that makes the model smaller",
            next_step="put 'distill' after such a pass, as prune_channels",
        )
    return context.teacher


def _pairs(model: TorchModel, config: Config, teacher: torch.nn.Module) -> tuple[Pair, ...]:
    return pair_layers(model.module, teacher, model.example_tensors(), config.layers) if config.features else ()


def _on_device(teacher: torch.nn.Module, world: World, *, is_sharded: bool) -> torch.nn.Module:
    """The teacher where the training runs; a copy, unless it is there already."""
    if is_sharded and world.size > 1:
        copied = clone(teacher).eval()
        shard(copied, world)
        return copied
    return teacher if world.device.type == "cpu" else clone(teacher).eval().to(world.device)


def _part(context: PassContext, part: int) -> PassContext:
    """The context of the first or the second of two trainings."""

    def progress(what: str, done: int, total: int) -> None:
        context.progress(f"{('plain', 'with the teacher')[part]}, {what}", done + part * total, 2 * total)

    budget, now = context.budget, time.monotonic()
    if part == 0 and budget.deadline is not None:
        budget = Budget(now + _CONTROL_SHARE * (budget.deadline - now))
    return replace(context, progress=progress, budget=budget)


def _findings(control: Trained, distilled: Trained, pairs: tuple[Pair, ...], config: Config) -> Iterator[Finding]:
    gain = distilled.best_score - control.best_score
    scores = f"{distilled.best_score:.4f} with the teacher, {control.best_score:.4f} without, start "
    scores += f"{control.start_score:.4f}, on the selection data"
    if max(control.best_score, distilled.best_score) <= control.start_score:
        yield Finding(
            code="distill-without-gain",
            message=f"neither fine-tuning nor the teacher made the model better; it was left as it was: {scores}",
            next_step="leave out 'distill', or try another learning_rate",
        )
    elif gain > 0:
        yield Finding(code="distill-won", message=f"the teacher won by {gain:.4f}: {scores}", severity=Severity.INFO)
    else:
        yield Finding(
            code="distill-control-won",
            message=f"plain fine-tuning won by {abs(gain):.4f} and was kept: {scores}",
            severity=Severity.INFO,
        )
    if config.features and not pairs:
        yield Finding(
            code="distill-without-features",
            message="no layer inside the model could be held against the teacher's; only its outputs were",
            severity=Severity.INFO,
        )
    for where, trained in (("plain fine-tuning", control), ("distillation", distilled)):
        yield from (replace(finding, where=where) for finding in trained.findings if finding.code.endswith("-spent"))


DISTILL = ModelPass(config=Config, run=run, requires=requires, ensures=ensures)
