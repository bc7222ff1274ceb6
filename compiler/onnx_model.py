"""Models brought as ONNX: ONNX Runtime gives the float outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from edgewright.compiler.model import Array, Loaded, check_rows, digest_parts, refused
from edgewright.contracts.errors import UserError
from edgewright.targets.protocol import Samples


def load_onnx(path: Path) -> Loaded:
    """Load the file at `path`, with its external data.

    Raises:
        UserError: `model-unreadable`, `model-batch-fixed`, `model-output-unsupported`.
    """
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(str(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it would log is raised as well
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the errors of onnx and onnxruntime have no common class
        raise _unreadable(path, error) from None
    for item in session.get_inputs():
        if not item.shape or isinstance(item.shape[0], int):
            raise UserError(
                "model-batch-fixed",
                f"input '{item.name}' of {path.name} has no free batch dimension",
                expected="any number of samples along axis 0",
                found=f"shape {item.shape}",
                next_step="export it with a dynamic batch dimension (dynamic_shapes in torch.onnx.export)",
            )
    for item in session.get_outputs():
        if not item.type.startswith("tensor(") or item.type == "tensor(string)":
            raise UserError(
                "model-output-unsupported",
                f"output '{item.name}' of {path.name} is no tensor of numbers",
                expected="tensors of numbers",
                found=item.type,
                next_step="export it without that output (for scikit-learn: options={'zipmap': False})",
            )
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Samples) -> dict[str, Array]:
        try:
            outputs = session.run(names, dict(inputs))
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common class
            raise refused(error, inputs, f"the inputs of {path.name}") from None
        named = dict(zip(names, map(np.asarray, outputs), strict=True))
        check_rows(named, len(next(iter(inputs.values()))))
        return named

    weights = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return Loaded(
        run=run,
        size_bytes=sum(array.nbytes for array in weights),
        digest=digest_parts([("onnx", model.SerializeToString(deterministic=True))]),
        input_names=tuple(item.name for item in session.get_inputs()),
        onnx_path=path,
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        "model-unreadable",
        f"{path} cannot be read as a model",
        expected="an intact ONNX file, with its external data beside it",
        found=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}",
        next_step="export it again",
    )
