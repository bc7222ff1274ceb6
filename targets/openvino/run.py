"""Run an OpenVINO artifact. Imported on devices: OpenVINO itself is loaded when a session is opened.

- The IR is reshaped to one sample before it is compiled: shapes that are known run faster than open ones.
- The inference precision is always the manifest's, never the machine's default.
- No model cache: a cached blob would have to be verified like the artifact itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.manifest import Manifest
from edgewright.targets.one_sample import OneSampleSession, RunOne, check_tensor
from edgewright.targets.quiet import ThirdPartyError, quiet, without_telemetry
from edgewright.targets.session import Session


def open_session(root: Path, manifest: Manifest) -> Session:
    """Load the artifact in the folder `root`.

    Raises:
        DeviceError: `runtime-missing` where OpenVINO is not installed, `artifact-load-failed` where it refuses.
    """
    without_telemetry()
    try:
        with quiet():
            import openvino as ov

            compiled = _compile(ov.Core(), root / manifest.entry, manifest)
            return OneSampleSession(manifest, "openvino", ov.get_version().split("-")[0], _runner(compiled, manifest))
    except ThirdPartyError as refusal:
        if isinstance(refusal.cause, ImportError):
            wanted = manifest.requirements.runtimes.get("openvino", "")
            raise DeviceError(
                "runtime-missing",
                "this machine has no usable OpenVINO runtime",
                expected=f"the Python package openvino{wanted}",
                found=str(refusal.cause),
                next_step=f"pip install 'openvino{wanted}'",
            ) from refusal
        raise DeviceError(
            "artifact-load-failed",
            f"OpenVINO cannot load {manifest.entry} of '{manifest.model}'",
            expected=f"an IR whose inputs and outputs are the manifest's, for openvino"
            f"{manifest.requirements.runtimes.get('openvino', '')}",
            found=refusal.found,
            next_step="fetch the artifact again; if that does not help, compile it for the installed runtime",
        ) from refusal


def _compile(core: Any, path: Path, manifest: Manifest) -> Any:
    model = core.read_model(path)
    model.reshape({spec.name: [1, *spec.shape[1:]] for spec in manifest.inputs})
    return core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": int(manifest.options["threads"]),
            "INFERENCE_PRECISION_HINT": str(manifest.options["inference_precision"]),
        },
    )


def _runner(compiled: Any, manifest: Manifest) -> RunOne:
    request = compiled.create_infer_request()
    inputs = [request.get_tensor(spec.name).data for spec in manifest.inputs]
    outputs = [request.get_output_tensor(number).data for number in range(len(compiled.outputs))]
    for spec, view in zip((*manifest.inputs, *manifest.outputs), (*inputs, *outputs), strict=True):
        check_tensor(spec, view.dtype.name, view.shape)

    def run_one(sample: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        for view, array in zip(inputs, sample, strict=True):
            np.copyto(view, array, casting="no")
        request.infer()
        return [view.copy() for view in outputs]

    return run_one
