"""INT8 by ai-edge-quantizer, inputs and outputs left float.

The graph decides the scheme, because the wrong one is several times slower than float, or useless:

- with attention (SOFTMAX and BATCH_MATMUL): dynamic INT8, weights quantized and activations scaled as they come. 3.1
  times faster at a cosine of .998 on a small encoder, where static INT8 gained nothing at .645. Needs no calibration.
- anything else, as CNNs: static INT8, calibrated on all samples. 2.0 to 2.5 times faster on CNNs, where dynamic
  INT8 is up to three times slower than float, since depthwise convolutions leave XNNPACK.

Ranges are the smallest and largest values over all samples. The quantizer's default, a moving average of each sample's,
cuts off about every second sample's peaks: on a separable CNN for digits the worst cosine was .981, with these .999.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import CompileError
from edgewright.contracts.hardware import HardwareProfile
from edgewright.targets.names import argument_names
from edgewright.targets.protocol import Lowered, Progress, Samples, SourceModel
from edgewright.targets.quiet import ThirdPartyError, quiet, require
from edgewright.targets.tflite.run import SIGNATURE

require("ai_edge_litert", "ai_edge_quantizer")

_ATTENTION = frozenset({"SOFTMAX", "BATCH_MATMUL"})


def quantize(
    source: SourceModel,
    lowered: Lowered,
    calibration: Samples,
    profile: HardwareProfile,  # noqa: ARG001 - one file fits all
    work: Path,
    progress: Progress,
) -> Lowered:
    """See `protocol.Quantize`."""
    path = work / "int8.tflite"
    try:
        with quiet() as section:
            from ai_edge_quantizer import quantizer

            from edgewright.targets.tflite import graph

            manager = _recipe(dynamic=graph.operators(lowered.path).keys() >= _ATTENTION)
            statistics = None
            if manager.need_calibration():
                statistics = _calibrate(lowered.path, _Samples(source, calibration, section.aloud(progress)), manager)
            quantizer_ = quantizer.Quantizer(str(lowered.path), manager.get_quantization_recipe())
            result = quantizer_.quantize(statistics, enable_progress_report=False)
            path.write_bytes(result.quantized_model)
    except ThirdPartyError as refusal:
        raise CompileError(
            "quantize-failed",
            f"ai-edge-quantizer could not quantize the model '{source.name}'",
            found=refusal.found,
            next_step="check that the calibration samples are what the model was trained on, or leave `ptq` out",
        ) from refusal
    return Lowered(path, "int8", lowered.findings)


class _Samples:
    """The samples as the signature takes them. The quantizer goes through them twice: to count, then to run them."""

    def __init__(self, source: SourceModel, calibration: Samples, progress: Progress) -> None:
        arguments = zip(argument_names(source.inputs), source.inputs, strict=True)
        self._arrays = {argument: _narrowed(calibration[spec.name]) for argument, spec in arguments}
        self._progress = progress
        self._counted = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        running, self._counted = self._counted, True
        total = len(next(iter(self._arrays.values())))
        for number in range(total):
            yield {argument: array[number : number + 1] for argument, array in self._arrays.items()}
            if running:
                self._progress("calibrating for tflite", number + 1, total)


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """The array as the file takes it: litert-torch makes 64-bit integers 32 bits wide."""
    return array.astype(np.int32) if array.dtype == np.int64 else array


def _calibrate(path: Path, samples: _Samples, manager: Any) -> Any:
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.utils import qsv_utils

    threads = len(os.sched_getaffinity(0))
    work = calibrator.Calibrator(str(path), num_threads=threads, qsv_update_func=qsv_utils.min_max_update)
    work.calibrate({SIGNATURE: samples}, manager)
    return work.get_model_qsvs()


def _recipe(*, dynamic: bool) -> Any:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    operation = qtyping.TFLOperationName
    manager = recipe_manager.RecipeManager()
    if dynamic:
        manager.add_dynamic_config(".*", operation.ALL_SUPPORTED, 8)
        return manager
    manager.add_static_config(".*", operation.ALL_SUPPORTED, 8, 8)
    for edge in (operation.INPUT, operation.OUTPUT):
        manager.add_quantization_config(".*", edge, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    return manager
