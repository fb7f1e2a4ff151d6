"""Small ONNX models for tests, made by onnx's own helper."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def port(name: str, shape: Any = None, code: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def model(
    nodes: Any, inputs: Any, outputs: Any, constants: Any = None, opset: int = 22, **more: Any
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)


def with_tensor(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """A model that adds one given initializer to its input."""
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [port("x", [2])], [port("y")])
    made.graph.initializer.append(tensor)
    return made


def run_node(op: str, *inputs: Any, opset: int = 22, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
    """The outputs of a model of one node (of one output: that alone) on the reference device."""
    from perfxapi.onnx import Backend

    names = [f"x{index}" if value is not None else "" for index, value in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{index}" for index in range(outputs)], domain=domain, **attributes)
    given = [value for value in inputs if value is not None]
    found = Backend.run_node(node, given, "numpy", opset_version=opset)
    return found[0] if outputs == 1 else found
