"""What is in a `.tflite` file, and what of it XNNPACK takes over."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs in the file, over all its subgraphs."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    # Old files hold the code in a byte, with a placeholder for larger ones in the newer field's favour.
    names = [_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    subgraphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    return Counter(
        names[subgraph.Operators(i).OpcodeIndex()] for subgraph in subgraphs for i in range(subgraph.OperatorsLength())
    )


def largest_activation_bytes(path: Path) -> int:
    """Size of the largest tensor between operators, in bytes of float32."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    subgraphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    tensors = [subgraph.Tensors(i) for subgraph in subgraphs for i in range(subgraph.TensorsLength())]
    # Constants have a buffer with data, in the table or, in files over 2 GB, behind it.
    buffers = ((tensor, model.Buffers(tensor.Buffer())) for tensor in tensors)
    activations = (tensor for tensor, buffer in buffers if buffer.DataLength() == 0 and buffer.Offset() == 0)
    return 4 * max(math.prod(tensor.Shape(i) for i in range(tensor.ShapeLength())) for tensor in activations)


def left_to_reference_kernels(path: Path) -> Counter[str]:
    """The operators that XNNPACK does not take over: those run in slower kernels, and split the graph."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    plain = [node for node in nodes if node["op_name"] != "DELEGATE"]
    made_by = {int(tensor): node for node in plain for tensor in node["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        # A partition is what lies between its outputs and its inputs.
        edge = {int(tensor) for tensor in delegate["inputs"]}
        pending = [int(tensor) for tensor in delegate["outputs"]]
        while pending:
            node = made_by.get(pending.pop())
            if node is not None and node["index"] not in taken:
                taken.add(node["index"])
                pending += [int(tensor) for tensor in node["inputs"] if int(tensor) not in edge]
    return Counter(node["op_name"] for node in plain if node["index"] not in taken)
