"""In which order layers should stay in float when INT8 misses a goal: the most signal for the least work first.

Greedy: each step keeps the layer in float whose gain, in dB of the model's output, is the largest for its cost. The
cost is its share of the multiplications and, since every change between INT8 and float takes time, that of one layer.
The gains decide that were measured, beside all layers chosen before; only the few layers are measured in a step that
promise the most, by the noise that each makes alone (noise of different layers adds up, nearly).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import torch

from edgewright.compiler.explain.fake_quantize import decibel
from edgewright.compiler.explain.result import FloatStep, LayerSensitivity, Sensitivity
from edgewright.compiler.explain.sensitivity import Evaluations, Study
from edgewright.compiler.passes.model_pass import Budget
from edgewright.targets.protocol import Progress

STEPS = 5
MEASURED_PER_STEP = 3
WORTH_DB = 0.5
"""A layer that gains less is not worth its float."""
_LEAST_LEFT = 0.01  # of the noise, when a layer's is taken away: estimates are not better than that


def mixed_precision_order(
    study: Study,
    sensitivity: Sensitivity,
    *,
    budget: Budget,
    progress: Progress,
    steps: int = STEPS,
    is_enough: Callable[[torch.nn.Module], bool] | None = None,
) -> tuple[FloatStep, ...]:
    """The layers to keep in float, the best first, with what each step costs. Ends where no layer gains `WORTH_DB`.

    Args:
        study: of the model.
        sensitivity: what `analyse` found.
        budget: no evaluation is started after its deadline.
        progress: told after each evaluation; there are `planned` at most.
        steps: at most so many layers.
        is_enough: whether a module that simulates the model so far meets the goal; the search ends when it does.
    """
    total = sum(layer.macs for layer in sensitivity.layers) or 1
    cost = {layer.path: layer.macs / total + 1 / len(sensitivity.layers) for layer in sensitivity.layers}
    noise = _noise(sensitivity.layers)
    evaluate = Evaluations(budget, progress, "which layers to keep in float", planned(steps))
    chosen: list[FloatStep] = []
    current = sensitivity.int8_sqnr_db
    limits = dict(study.limits)
    while len(chosen) < steps:
        hopes = {path: (_promise(current, noise[path]) - current) / cost[path] for path in limits}
        gains: dict[str, float] = {}
        for path in sorted(hopes, key=lambda path: -hopes[path])[:MEASURED_PER_STEP]:
            reached = evaluate(study.simulation, {other: limits[other] for other in limits if other != path})
            if reached is not None:
                gains[path] = reached - current
        best = max(gains, key=lambda path: gains[path] / cost[path], default=None)
        if best is None or gains[best] < WORTH_DB:
            break
        del limits[best]
        current += gains[best]
        macs_share = 1 - sum(study.layers[path].macs for path in limits) / total
        chosen.append(FloatStep(path=best, sqnr_db=current, gain_db=gains[best], macs_share=macs_share))
        if is_enough is not None and evaluate.run(_asked(is_enough, study, limits)) is not False:
            break
    return tuple(chosen)


def planned(steps: int = STEPS) -> int:
    """How many evaluations `mixed_precision_order` does at most."""
    return steps * (MEASURED_PER_STEP + 1)


def _asked(
    is_enough: Callable[[torch.nn.Module], bool], study: Study, limits: Mapping[str, object]
) -> Callable[[], bool]:
    module = study.simulation.module({path: study.limits[path] for path in limits})
    return lambda: is_enough(module)


def _noise(layers: Sequence[LayerSensitivity]) -> dict[str, float]:
    """Noise to signal of the model's output that each layer makes alone; where not measured, by its own output's."""
    local = {layer.path: 10 ** (-layer.local_sqnr_db / 10) for layer in layers}
    alone = {layer.path: 10 ** (-layer.alone_sqnr_db / 10) for layer in layers if layer.alone_sqnr_db is not None}
    passed_on = statistics.median([alone[path] / local[path] for path in alone]) if alone else 1.0
    return {path: alone.get(path, value * passed_on) for path, value in local.items()}


def _promise(sqnr_db: float, noise: float) -> float:
    now: float = 10 ** (-sqnr_db / 10)
    return decibel(max(now - noise, now * _LEAST_LEFT))
