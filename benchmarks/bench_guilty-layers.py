"""Does the report name the layer that INT8 breaks? 30 networks with one seeded fault each, and 10 without.

Defined beforehand: a fault lies between two layers, the maker of the channels and the layer that reads them. It is the
maker's output that is wrong and the reader that loses the signal, so either is right. The report names a layer when its
first warning is about it (`where`). A false alarm is any warning for a network without a fault.

For comparison the same networks are ranked as is often done, by the SQNR of each layer's weights alone. And since all
this is simulated in float, it is held against OpenVINO's INT8, on one network of each architecture and fault.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faulty_networks import ARCHITECTURES, FAULTS, Network, make
from harness import Figure, write_result

from edgewright.compiler.explain.result import FaultKind
from edgewright.compiler.explain.sensitivity import analyse, prepare
from edgewright.compiler.metrics import sqnr
from edgewright.compiler.passes.model_pass import Budget, TorchModel
from edgewright.contracts.findings import Severity
from edgewright.contracts.manifest import TensorSpec
from edgewright.hardware_profiles.schema import get_profile
from edgewright.targets.openvino.lower import lower
from edgewright.targets.openvino.quantize import quantize
from edgewright.targets.protocol import SourceModel

SEEDS = 2  # of each architecture and fault
NOT_COMPARED = "transformer"  # there NNCF's SmoothQuant and its ranges by mean extremes are not what is simulated


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in range(SEEDS):
        for architecture in ARCHITECTURES:
            for fault in (*FAULTS, None):
                row = examine(make(architecture, fault, len(rows)), compare=seed == 0 and architecture != NOT_COMPARED)
                rows.append(row)
                print(row["network"], fault, row["named"], row["kind"], f"{row['int8_sqnr_db']:.1f} dB", flush=True)
    faulty = [row for row in rows if row["fault"]]
    healthy = [row for row in rows if not row["fault"]]
    write_result("guilty-layers", figures(faulty, healthy), rows)


def examine(network: Network, *, compare: bool) -> dict[str, Any]:
    """Everything measured on one network."""
    samples = {"x": network.calibration}
    start = time.perf_counter()
    model = TorchModel(network.module, {"x": network.calibration[:1]})
    study = prepare(model, samples, lambda *_: None)
    result = analyse(study, budget=Budget(), progress=lambda *_: None)
    seconds = time.perf_counter() - start
    warnings = [finding for finding in result.findings() if finding.severity is Severity.WARNING]
    first = result.guilty()[0] if warnings else None
    planted = {network.pair.maker, network.pair.reader} if network.pair else set()
    by_local = sorted(result.layers, key=lambda layer: layer.local_sqnr_db)
    return {
        "network": network.name,
        "fault": network.fault,
        "pair": dataclasses.asdict(network.pair) if network.pair else None,
        "float_accuracy": [network.accuracy_before, network.accuracy],
        "int8_sqnr_db": result.int8_sqnr_db,
        "named": warnings[0].where if warnings else None,
        "origin": first.fault.origin if first and first.fault else None,
        "kind": first.fault.kind if first and first.fault else None,
        "warnings": len(warnings),
        "is_right": bool(warnings) and warnings[0].where in planted,
        "place_by_local_sqnr": next((n for n, layer in enumerate(by_local) if layer.path in planted), None),
        "first_by_weights": min(result.layers, key=lambda layer: layer.weight_sqnr_db).path in planted,
        "remedy": dataclasses.asdict(result.remedies[0]),
        "layers": len(result.layers),
        "evaluations": result.evaluations,
        "seconds": seconds,
        "openvino_sqnr_db": openvino_sqnr_db(network) if compare else None,
        "message": warnings[0].message if warnings else None,
    }


def figures(faulty: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> dict[str, Figure]:
    """The figures of the result."""
    count = len(faulty)
    right = sum(row["is_right"] for row in faulty)
    origins = sum(row["is_right"] and row["origin"] == row["pair"]["maker"] for row in faulty)
    kinds = sum(row["is_right"] and row["kind"] == FaultKind(row["fault"]) for row in faulty)
    alarms = sum(row["warnings"] > 0 for row in healthy)
    drop = max(before - after for before, after in (row["float_accuracy"] for row in faulty))
    compared = [row for row in (*faulty, *healthy) if row["openvino_sqnr_db"] is not None]
    errors = [abs(row["openvino_sqnr_db"] - row["int8_sqnr_db"]) for row in compared]
    gains = [row["remedy"]["sqnr_db"] - row["int8_sqnr_db"] for row in faulty]
    return {
        "layer named": Figure(
            value=right / count * 100, unit="%", goal=">= 90", met=right >= 0.9 * count,
            how=f"first warning names the maker or the reader of the planted channels: {right} of {count} networks",
        ),
        "layer named, by weights alone": Figure(
            value=sum(row["first_by_weights"] for row in faulty) / count * 100, unit="%",
            how="peer: the layer whose weights lose the most is the maker or the reader",
        ),
        "origin named": Figure(
            value=origins / count * 100, unit="%", how=f"and the maker is named as the origin: {origins} of {count}"
        ),
        "kind named": Figure(
            value=kinds / count * 100, unit="%", how=f"and the kind of fault is right: {kinds} of {count}"
        ),
        "false alarms": Figure(
            value=alarms / len(healthy) * 100, unit="%", goal="0", met=alarms == 0,
            how=f"networks without a fault that get a warning: {alarms} of {len(healthy)}",
        ),
        "place by local SQNR, worst": Figure(
            value=max(row["place_by_local_sqnr"] + 1 for row in faulty), unit="th",
            how="of the planted layer in the cheap ranking; the first five are tried on the model's output",
        ),
        "gain of the best remedy, median": Figure(
            value=statistics.median(gains), unit="dB",
            how="SQNR of the INT8 model's output after equalization or percentile calibration, whichever is better",
        ),
        "gain of the best remedy, least": Figure(value=min(gains), unit="dB", how="the same, in the worst case"),
        "float accuracy lost by planting": Figure(
            value=drop * 100, unit="points", how="the most that a fault took from the float model: it breaks INT8 alone"
        ),
        "evaluations": Figure(
            value=max(row["evaluations"] for row in faulty), unit="runs", how="over 64 samples, the most of any network"
        ),
        "time": Figure(
            value=statistics.median(row["seconds"] for row in faulty), unit="s",
            how="median of a network's whole analysis, one thread, tracing included",
        ),
        "simulation against OpenVINO": Figure(
            value=statistics.median(errors), unit="dB", against="OpenVINO's INT8 (NNCF), the same samples",
            how=f"median difference of the output's SQNR over {len(errors)} networks of all architectures but the "
            f"{NOT_COMPARED}, which NNCF quantizes by other rules; largest {max(errors):.1f} dB, where OpenVINO "
            "scales a depthwise convolution's input by channel and TFLite does not",
        ),
    }  # fmt: skip


def openvino_sqnr_db(network: Network) -> float:
    """SQNR of the outputs of OpenVINO's INT8 model on the calibration samples."""
    import openvino as ov

    profile = get_profile("x86-64-avx512-vnni")
    source = SourceModel(
        name=network.name,
        module=network.module,
        onnx_path=None,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 1, 8, 8)),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1, 10)),),
        example={"x": network.calibration[:1]},
    )
    with tempfile.TemporaryDirectory() as folder:
        lowered = lower(source, profile, Path(folder))
        samples = {"x": network.calibration}
        path = quantize(source, lowered, samples, profile, Path(folder), lambda *_: None).path
        core = ov.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs = np.concatenate([compiled(part)[0] for part in np.split(network.calibration, 8)])
    with torch.inference_mode():
        reference = network.module(torch.from_numpy(network.calibration)).numpy()
    return sqnr(outputs, reference)


if __name__ == "__main__":
    main()
