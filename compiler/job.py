"""What all artifacts of one compile have in common: the model, the data, and what the float model makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgewright.compiler.data import Dataset
from edgewright.compiler.golden import choose_samples
from edgewright.compiler.metrics import METRICS
from edgewright.compiler.model import FloatModel
from edgewright.compiler.recipe import Recipe
from edgewright.compiler.report import Baseline
from edgewright.contracts.errors import CompileError, UserError
from edgewright.targets.protocol import Samples


@dataclass(frozen=True)
class Job:
    """A recipe with everything it names loaded.

    `reference` are the float model's outputs on `evaluation`, `probe_outputs` those on `probe_inputs`.
    """

    recipe: Recipe
    model: FloatModel
    calibration: Dataset
    evaluation: Dataset
    reference: Samples
    probe_inputs: Samples
    probe_outputs: Samples
    baseline: Baseline

    @classmethod
    def prepare(cls, recipe: Recipe, model: FloatModel, calibration: Dataset, evaluation: Dataset) -> Job:
        """Run the float model on all data that artifacts are held against.

        Raises:
            UserError: what the metric says of outputs or labels that it cannot take.
            CompileError: `model-output-nan`, `metric-not-finite`.
        """
        probe_inputs = choose_samples(calibration.inputs)
        probe_outputs = model.infer(probe_inputs, f"the golden probe's samples from {calibration.origin}")
        reference = model.infer(evaluation.inputs, evaluation.origin)
        value = score(recipe.metric, reference, reference, evaluation)
        baseline = Baseline(metric=recipe.metric, value=value, size_bytes=model.loaded.size_bytes)
        return cls(recipe, model, calibration, evaluation, reference, probe_inputs, probe_outputs, baseline)


def score(metric: str, outputs: Samples, reference: Samples, data: Dataset) -> float:
    """The metric of the first output.

    Raises:
        UserError: `data-without-target`, and what the metric raises.
        CompileError: `metric-not-finite`.
    """
    row = METRICS[metric]
    first = next(iter(reference))
    yardstick = reference[first] if row.is_relative else data.target
    if yardstick is None:
        raise UserError(
            "data-without-target",
            f"the metric {metric} needs labels, and {data.origin} has none",
            expected="labels: target: NAME for an npz file, the key 'target' or the last of a tuple for a callable",
            next_step="add labels, or use the metric cosine",
        )
    value = row.compute(outputs[first], yardstick)
    if not np.isfinite(value):
        raise CompileError("metric-not-finite", f"the metric {metric} is not a number", found=str(value))
    return value
