"""Fine-tuning: the one training loop of all passes.

Rules that it keeps:

- The module that it is given stays as it is. What comes back is in eval mode, float32, on the CPU.
- Never worse: the selection score is taken before the first step, after every epoch and after the last step, and the
  best is returned; the start where nothing was better.
- AdamW under one cycle: the learning rate rises over the first tenth of the steps and falls along a cosine to 0. Only
  weights of two axes or more decay. Gradients are clipped to a norm of 1.
- BatchNorm normalizes by the batch, over all processes, and its running statistics follow; a batch has two samples or
  more. In a module of torch.export the statistics are part of the graph and stay as they are.
- It stops when `Plan.patience` epochs in a row gave no better score than an earlier epoch, and at the budget's end,
  after a last score.
  An epoch below the start does not count against it: a rate that rises first loses what it wins later.
- The same seed gives the same bits on the same machine with the same number of threads and processes.
- Mixed precision: on CUDA bfloat16, or float16 with a scaled loss where the GPU lacks it; on a CPU bfloat16 if it has
  instructions for it (a step of a small CNN then takes a third to all of the time that float32 takes), else float32.
  Parameters are float32 always.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn.parallel import DistributedDataParallel

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes.model_pass import PassContext
from edgewright.compiler.training.batches import Batch, Batches
from edgewright.compiler.training.losses import Loss
from edgewright.compiler.training.plan import (
    AfterStep,
    Epoch,
    Plan,
    Trained,
    diverged,
    findings,
    has_stalled,
    one_cycle,
    training_data,
)
from edgewright.compiler.training.state import clone, fast_dtype, layout, put, seeded, tensors_of
from edgewright.compiler.training.workers import World, join_world, sync_batch_norms
from edgewright.compiler.user_code import user_code
from edgewright.contracts.errors import CompileError

_WEIGHT_DECAY = 0.01
_MAX_GRADIENT_NORM = 1.0


def fine_tune(
    module: torch.nn.Module, context: PassContext, *, loss: Loss, plan: Plan, after_step: AfterStep | None = None
) -> Trained:
    """Train a copy of `module` on ``context.train``; see the module's rules.

    Args:
        module: float32, on the CPU.
        context: its data, score, seed, budget and progress are used.
        loss: what to make smaller, e.g. `labels_loss`.
        plan: how long and how fast.
        after_step: called with the copy, on the training device, after every step, to put masks on again.

    Raises:
        UserError: `training-data-missing`, `training-too-few-samples`, `training-processes-not-joined`.
        CompileError: `training-diverged`, `training-out-of-memory`, `metric-not-finite`, `user-code-failed`.
    """
    train, selection = training_data(context, "training")
    world = join_world()
    batches = Batches(train, plan.batch_size, context.seed, world, augment=plan.augment)
    with seeded(context.seed + world.rank, world.device):
        run = _Run(module, context, selection, loss, plan, world, after_step or _nothing)
        return run(batches)


class _Run:
    """One training: the copy that is trained, and a copy on the CPU that is scored and kept."""

    def __init__(
        self,
        module: torch.nn.Module,
        context: PassContext,
        selection: Dataset,
        loss: Loss,
        plan: Plan,
        world: World,
        after_step: AfterStep,
    ) -> None:
        self._context, self._selection, self._plan, self._world = context, selection, plan, world
        self._after_step = after_step
        self._kept = clone(module).eval().requires_grad_(False)
        self._trained = _trainable(module).to(world.device)
        sync_batch_norms(self._trained, world)
        self._objective: torch.nn.Module = _Objective(self._trained, loss).to(world.device)
        self._weights = [weight for weight in self._objective.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(_groups(self._weights))
        self._dtype = fast_dtype(world.device) if plan.mixed_precision else None
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=self._dtype == torch.float16)

    def __call__(self, batches: Batches) -> Trained:
        """Train. The module's rules say when it ends."""
        total = max(1, round(self._plan.epochs * batches.per_epoch))
        best_tensors, best_epoch = tensors_of(self._trained), 0
        start = best = self._score(best_tensors)
        history: list[Epoch] = []
        losses: list[float] = []
        is_spent, is_stalled = self._world.decide(self._context.budget.is_spent), False
        stream = self._prepared(batches, total)
        while not (is_spent or is_stalled) and (item := next(stream, None)) is not None:
            done, batch = item
            rate = self._plan.learning_rate * one_cycle(done, total)
            value, is_spent = self._step(batch, rate, f"step {done} of {total}")
            losses.append(value)
            self._tell(f"epoch {(done - 1) // batches.per_epoch + 1}", done, total)
            if done % batches.per_epoch and done != total and not is_spent:
                continue
            tensors = tensors_of(self._trained)
            history.append(Epoch(len(history) + 1, sum(losses) / len(losses), self._score(tensors), rate))
            losses.clear()
            if history[-1].score > best:
                best, best_tensors, best_epoch = history[-1].score, tensors, history[-1].number
            is_stalled = done != total and has_stalled(history, self._plan.patience)
        put(best_tensors, self._kept)
        self._world.spread(itertools.chain(self._kept.parameters(), self._kept.buffers()))
        return Trained(
            module=self._kept,
            history=tuple(history),
            start_score=start,
            best_score=best,
            best_epoch=best_epoch,
            stopped_early=is_spent or is_stalled,
            findings=tuple(findings(start, best, is_spent, len(history), self._plan)),
        )

    def _prepared(self, batches: Batches, total: int) -> Iterator[tuple[int, Batch]]:
        """The steps' numbers and batches, the model made ready for them: memory format, processes."""
        stream = batches.stream()
        first = next(stream)
        fastest = layout(self._trained, first)
        self._trained.to(memory_format=fastest)
        if self._world.size > 1:
            # With a static graph, parameters that no output depends on are found once.
            self._objective = DistributedDataParallel(self._objective, static_graph=True)
        for done, batch in enumerate(itertools.islice(itertools.chain([first], stream), total), 1):
            inputs = (x.contiguous(memory_format=fastest) if x.ndim == 4 else x for x in batch.inputs)
            yield done, Batch(tuple(inputs), batch.target)

    def _step(self, batch: Batch, rate: float, where: str) -> tuple[float, bool]:
        """One step. The loss over all processes, and whether the budget is spent in any of them."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._trained.train()
        loss = self._backward(batch)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._weights, _MAX_GRADIENT_NORM)
        spent = torch.tensor(float(self._context.budget.is_spent()), device=loss.device)
        value, gradient, any_spent = self._world.average(loss, norm, spent)
        # A scaled loss may overflow in the gradients; the scaler leaves such a step out.
        if not math.isfinite(value) or not (math.isfinite(gradient) or self._scaler.is_enabled()):
            raise diverged(value, gradient, where, self._plan)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        with torch.no_grad():
            self._after_step(self._trained)
        return value, any_spent > 0

    def _backward(self, batch: Batch) -> torch.Tensor:
        with user_code("a training step"):
            try:
                with torch.autocast(self._world.device.type, self._dtype, enabled=self._dtype is not None):
                    loss: torch.Tensor = self._objective(batch.inputs, batch.target)
                self._scaler.scale(loss).backward()
            except torch.OutOfMemoryError as error:
                raise CompileError(
                    "training-out-of-memory",
                    f"a training step needs more memory than {self._world.device} has",
                    found=f"{len(batch.inputs[0])} samples at once: {str(error).splitlines()[0][:300]}",
                    next_step="lower batch_size",
                ) from None
        return loss

    def _score(self, tensors: Sequence[torch.Tensor]) -> float:
        put(tensors, self._kept)
        score = self._world.decide(lambda: self._context.score(self._kept, self._selection))
        if math.isnan(score):
            raise CompileError("metric-not-finite", "the metric of the selection data is not a number", found="nan")
        return score

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._world.decides:
            self._context.progress(what, done, total)


class _Objective(torch.nn.Module):
    """Module and loss as one module, so that all that is trained is split over the processes together."""

    def __init__(self, module: torch.nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, inputs: tuple[torch.Tensor, ...], target: torch.Tensor | None) -> torch.Tensor:
        return self.loss(self.module, Batch(inputs, target))


def _trainable(module: torch.nn.Module) -> torch.nn.Module:
    copied = clone(module)
    for weight in copied.parameters():
        weight.requires_grad_(weight.is_floating_point())
    return copied


def _groups(weights: list[torch.Tensor]) -> list[dict[str, object]]:
    """Weights that decay, and biases, scales and norms, which do not."""
    return [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def _nothing(module: torch.nn.Module) -> None:
    """After a step of a module that has no masks."""
