"""Which layers INT8 breaks, in a stated number of evaluations: cheap figures for all layers, proof for the likely ones.

1. Two runs of the float model over all calibration samples see every layer's ranges, as the targets find them, and what
   INT8 does to the layer's own output (local SQNR).
2. All layers in INT8: what is to be explained.
3. The layers with the worst local SQNR are tried on the model's output: each alone in INT8, then each alone in float.
4. Remedies for the whole model are tried, and what is wrong with the likely layers is told from their ranges.

An evaluation is one run over some of the samples. `plan` counts them beforehand, the progress tells each, and none is
started after the budget's deadline: what is known by then is the result, which says that it is not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from edgewright.compiler.explain.diagnosis import Observed, suspect
from edgewright.compiler.explain.fake_quantize import Range, bias_codes
from edgewright.compiler.explain.observe import NoiseWatch, RangeWatch
from edgewright.compiler.explain.origin import Origins
from edgewright.compiler.explain.result import Fault, LayerSensitivity, Remedy, Sensitivity
from edgewright.compiler.explain.simulate import Simulation, choose
from edgewright.compiler.passes.equalize import Config as EqualizeConfig
from edgewright.compiler.passes.equalize import equalize, find_pairs
from edgewright.compiler.passes.model_pass import Budget, TorchModel
from edgewright.compiler.torch_graph import Layer, TracedModel, column_ranges, trace
from edgewright.compiler.training.state import clone
from edgewright.contracts.errors import UserError
from edgewright.targets.protocol import Progress, Samples

SAMPLES = 64
CANDIDATES = 5
"""In trials the guilty layer was nearly always among the three of the worst local SQNR."""
PERCENTILE = 1e-4
"""The share of an activation's values that percentile calibration cuts off; NNCF's default."""
_ORIGIN_SAMPLES = 4
_LOOK = "what INT8 does to each layer by itself"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Study:
    """A model made ready to be analysed; everything by the layers' paths.

    Attributes:
        calibration: what ranges come from.
        samples: what evaluations use.
        limits: the range of every layer's input.
        percentile: the same without the most extreme values.
        layers: what was measured of each layer by itself.
        observed: what its diagnosis goes by.
    """

    model: TorchModel
    traced: TracedModel
    calibration: Samples
    samples: Samples
    simulation: Simulation
    limits: Mapping[str, Range]
    percentile: Mapping[str, Range]
    layers: Mapping[str, LayerSensitivity]
    observed: Mapping[str, Observed]


def prepare(model: TorchModel, calibration: Samples, progress: Progress, samples: int = SAMPLES) -> Study:
    """Trace the model and look at every layer: two runs over all of `calibration`.

    Args:
        model: the float model.
        calibration: typical samples, inputs by name in the order of the model's arguments.
        progress: told after each run.
        samples: at most so many of them are used for evaluations.

    Raises:
        UserError: `nothing-to-quantize` for a model without convolutions and linear layers.
        CompileError: `export-refused`.
    """
    traced = trace(model)
    if not traced.layers:
        raise UserError(
            "nothing-to-quantize",
            "the model has no layer that INT8 is about",
            expected="a convolution or a linear layer with weights of its own",
            found="none",
            next_step="build it in fp32 with passes: []",
        )
    chosen = choose(calibration, samples)
    simulation = Simulation(traced, chosen)
    progress(_LOOK, 0, 2)
    ranges = _ranges(traced, simulation, calibration)
    progress(_LOOK, 1, 2)
    noises = {path: NoiseWatch(watch) for path, watch in ranges.items()}
    simulation.watch(noises, calibration)
    progress(_LOOK, 2, 2)
    count = len(next(iter(calibration.values())))
    layers = {path: _measured(path, ranges[path].macs // count, noise) for path, noise in noises.items()}
    return Study(
        model=model,
        traced=traced,
        calibration=calibration,
        samples=chosen,
        simulation=simulation,
        limits={path: watch.limits for path, watch in ranges.items()},
        percentile={path: watch.percentile(PERCENTILE) for path, watch in noises.items()},
        layers=layers,
        observed={layer.path: _observed(traced, layer, noises[layer.path]) for layer in traced.layers},
    )


def plan(study: Study, candidates: int = CANDIDATES) -> int:
    """How many evaluations `analyse` does at most."""
    whole, remedies = 1, 3
    return whole + 2 * min(len(study.layers), candidates) + remedies


def analyse(study: Study, *, budget: Budget, progress: Progress, candidates: int = CANDIDATES) -> Sensitivity:
    """Find the layers that INT8 breaks, what is wrong with them, and what helps.

    Args:
        study: from `prepare`.
        budget: no evaluation but the first is started after its deadline.
        progress: told after each evaluation.
        candidates: how many layers are tried on the model's output.
    """
    whole = study.simulation.sqnr_db(study.limits)
    evaluate = Evaluations(budget, progress, "which layers INT8 breaks", plan(study, candidates), done=1)
    layers = dict(study.layers)
    likely = sorted(layers, key=lambda path: layers[path].local_sqnr_db)[:candidates]
    for path in likely:
        layers[path] = replace(layers[path], alone_sqnr_db=evaluate(study.simulation, {path: study.limits[path]}))
    for path in likely:
        rest = {other: limits for other, limits in study.limits.items() if other != path}
        layers[path] = replace(layers[path], restored_sqnr_db=evaluate(study.simulation, rest))
    remedies = _remedies(study, evaluate)
    for path, fault in _faults(study):
        layers[path] = replace(layers[path], fault=fault)
    return Sensitivity(
        int8_sqnr_db=whole,
        layers=tuple(sorted(layers.values(), key=_by_guilt)),
        remedies=remedies,
        samples=len(next(iter(study.samples.values()))),
        evaluations=evaluate.done,
        is_complete=not evaluate.was_cut,
    )


class Evaluations:
    """Evaluations that are counted, told, and stopped by the budget."""

    def __init__(self, budget: Budget, progress: Progress, what: str, planned: int, done: int = 0) -> None:
        self.done = done
        self.was_cut = False
        self._budget, self._progress, self._what, self._planned = budget, progress, what, planned
        self._tell()

    def __call__(self, simulation: Simulation, limits: Mapping[str, Range]) -> float | None:
        """SQNR in dB of the model's output, as `Simulation.sqnr_db`; None: the budget is spent."""
        return self.run(lambda: simulation.sqnr_db(limits))

    def run(self, evaluate: Callable[[], Result]) -> Result | None:
        """What `evaluate` returns; None: the budget is spent."""
        if self.was_cut or self._budget.is_spent():
            self.was_cut = True
            return None
        result = evaluate()
        self.done += 1
        self._tell()
        return result

    def _tell(self) -> None:
        self._progress(self._what, min(self.done, self._planned), self._planned)


def _ranges(traced: TracedModel, simulation: Simulation, calibration: Samples) -> dict[str, RangeWatch]:
    watches = {layer.path: RangeWatch(layer.channel_axis) for layer in traced.layers}
    simulation.watch(watches, calibration)
    return watches


def _measured(path: str, macs: int, noise: NoiseWatch) -> LayerSensitivity:
    both, inputs, weights = noise.noise()
    return LayerSensitivity(path=path, macs=macs, local_sqnr_db=both, input_sqnr_db=inputs, weight_sqnr_db=weights)


def _observed(traced: TracedModel, layer: Layer, noise: NoiseWatch) -> Observed:
    weight = traced.tensor(layer.node.args[1])
    codes = torch.zeros(1)
    if len(layer.node.args) > 2 and layer.node.args[2] is not None:
        codes = bias_codes(traced.tensor(layer.node.args[2]), noise.limits, weight)
    columns = column_ranges(weight, layer.groups)
    return Observed(
        local_sqnr_db=noise.noise()[0],
        channel_max=noise.channel_max,
        near_share=noise.near_share(),
        # Where each output reads one channel, as in a depthwise convolution, its weights have their own scale.
        column_max=torch.ones_like(columns) if layer.groups == len(columns) else columns,
        bias_code=float(codes.max()),
        bias_channel=int(codes.argmax()),
    )


def _remedies(study: Study, evaluate: Evaluations) -> tuple[Remedy, ...]:
    tried = [
        (
            "percentile",
            evaluate(study.simulation, study.percentile),
            f"calibrate by percentile, which cuts off {PERCENTILE:.2%} of an activation's values",
        )
    ]
    if find_pairs(study.traced):
        module = clone(study.model.module)
        equalize(study.traced, module, EqualizeConfig().rounds)
        traced = trace(replace(study.model, module=module))
        simulation = Simulation(traced, study.samples)
        ranges = evaluate.run(lambda: _ranges(traced, simulation, study.calibration))
        limits = {path: watch.limits for path, watch in (ranges or {}).items()}
        value = evaluate(simulation, limits) if limits else None
        tried.append(("equalize", value, "put the pass `equalize` before quantization"))
    done = [Remedy(name=name, sqnr_db=value, next_step=step) for name, value, step in tried if value is not None]
    return tuple(sorted(done, key=lambda remedy: -remedy.sqnr_db))


def _faults(study: Study) -> list[tuple[str, Fault]]:
    layers = {layer.path: layer for layer in study.traced.layers}
    suspicions = [(path, suspicion) for path, seen in study.observed.items() if (suspicion := suspect(seen))]
    if not suspicions:
        return []
    origins = Origins(study.traced, choose(study.calibration, _ORIGIN_SAMPLES if study.traced.any_batch else 1))
    return [
        (path, suspicion.fault(path if suspicion.is_own else origins.of(layers[path], suspicion.channel)))
        for path, suspicion in suspicions
    ]


def _by_guilt(layer: LayerSensitivity) -> tuple[bool, float]:
    """What was proven on the model's output first, the worst first; then the others by their own output."""
    if layer.alone_sqnr_db is None:
        return True, layer.local_sqnr_db
    return False, layer.alone_sqnr_db
