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
