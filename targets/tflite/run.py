"""Run a TFLite artifact. Imported on devices: LiteRT itself is loaded when a session is opened.

- Always by `Interpreter`: on corrupt files `CompiledModel` ends the process.
- Tensors are found by the signature's names, since a file may list them in another order than the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.manifest import Manifest
from edgewright.targets.names import argument_names
from edgewright.targets.one_sample import OneSampleSession, RunOne, check_tensor
from edgewright.targets.quiet import ThirdPartyError, quiet
from edgewright.targets.session import Session

SIGNATURE = "serving_default"


def open_session(root: Path, manifest: Manifest) -> Session:
    """Load the artifact in the folder `root`.

    Raises:
        DeviceError: `runtime-missing` where LiteRT is not installed, `artifact-load-failed` where it refuses.
    """
    wanted = manifest.requirements.runtimes.get("tflite", "")
    try:
        # Quiet about the delegate too, which announces itself on stderr.
        with quiet():
            import ai_edge_litert
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(
                model_path=str(root / manifest.entry), num_threads=int(manifest.options["threads"])
            )
            interpreter.allocate_tensors()
            return OneSampleSession(manifest, "tflite", ai_edge_litert.__version__, _runner(interpreter, manifest))
    except ThirdPartyError as refusal:
        if isinstance(refusal.cause, ImportError):
            raise DeviceError(
                "runtime-missing",
                "this machine has no usable TFLite runtime",
                expected=f"the Python package ai-edge-litert{wanted}",
                found=str(refusal.cause),
                next_step=f"pip install 'ai-edge-litert{wanted}'",
            ) from refusal
        raise DeviceError(
            "artifact-load-failed",
            f"TFLite cannot load {manifest.entry} of '{manifest.model}'",
            expected=f"a file whose inputs and outputs are the manifest's, for ai-edge-litert{wanted}",
            found=refusal.found,
            next_step="fetch the artifact again; if that does not help, compile it for the installed runtime",
        ) from refusal


def _runner(interpreter: Any, manifest: Manifest) -> RunOne:
    signature = interpreter.get_signature_runner(SIGNATURE)
    given, made = signature.get_input_details(), signature.get_output_details()
    names = argument_names(manifest.inputs)
    inputs = [given[name] for name in names]
    outputs = [made[spec.name] for spec in manifest.outputs]
    for spec, detail in zip((*manifest.inputs, *manifest.outputs), (*inputs, *outputs), strict=True):
        check_tensor(spec, np.dtype(detail["dtype"]).name, tuple(map(int, detail["shape"])))
    sources = [(detail["index"], detail["dtype"]) for detail in inputs]
    results = [detail["index"] for detail in outputs]

    def run_one(sample: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        for (index, dtype), array in zip(sources, sample, strict=True):
            interpreter.set_tensor(index, array.astype(dtype, copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in results]

    return run_one
