"""How ops are said in ONNX's operators, a rule for each op that has one; the others keep their names (`own`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir

from perfxapi.dtypes import bool_, result_type
from perfxapi.graph import Node
from perfxapi.onnx.element_types import code_of_dtype

if TYPE_CHECKING:
    from perfxapi.onnx.writing import Writer

_UNARY = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh",
    "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "exp": "Exp", "floor": "Floor", "log": "Log", "round": "Round",
    "sigmoid": "Sigmoid", "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
_ARITHMETIC = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max", "minimum": "Min",
    "pow": "Pow", "matmul": "MatMul", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
}  # fmt: skip
_COMPARISONS = {"equal": "Equal", "less": "Less", "less_equal": "LessOrEqual"}
_ON_TRUTHS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor"}
_REDUCTIONS = {"sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}
_ARG_REDUCTIONS = {"argmax": "ArgMax", "argmin": "ArgMin"}


Rule: TypeAlias = "Callable[[Writer, Node, Sequence[Any]], Sequence[ir.Value]]"
"""(writer, node, its operands as written) gives what the results are written as."""


def own(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    """The op under its own name, in its own domain."""
    return writer.own(node, inputs)


def _unary(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    operator = _UNARY[node.spec.name]
    if not writer.takes(operator, node.inputs[0].dtype):
        return writer.own(node, inputs)
    return [writer.node(operator, inputs)]


def _binary(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    """ONNX does not promote: both operands are cast to the dtype that they have together."""
    first, second = (view.dtype for view in node.inputs)
    common = result_type(first, second)
    name = node.spec.name
    operator = _ON_TRUTHS[name] if common is bool_ and name in _ON_TRUTHS else {**_ARITHMETIC, **_COMPARISONS}[name]
    if not writer.takes(operator, common):
        return writer.own(node, inputs)
    operands = [writer.cast(x, view.dtype, common) for x, view in zip(inputs, node.inputs, strict=True)]
    return [writer.node(operator, operands)]


def _where(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    result = node.outputs[0].spec.dtype
    operands = [writer.cast(x, view.dtype, result) for x, view in zip(inputs[1:], node.inputs[1:], strict=True)]
    return [writer.node("Where", [inputs[0], *operands])]


def _concat(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    result = node.outputs[0].spec.dtype
    operands = [writer.cast(x, view.dtype, result) for x, view in zip(inputs, node.inputs, strict=True)]
    return [writer.node("Concat", operands, {"axis": node.attributes["axis"]})]


def _astype(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    result = node.outputs[0].spec.dtype
    if "complex" in (result.kind, node.inputs[0].dtype.kind):
        return writer.own(node, inputs)
    return [writer.node("Cast", inputs, {"to": code_of_dtype(result)})]


def _reduce(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    axes = np.array(node.attributes["axes"], np.int64)
    if not axes.size or not writer.takes(_REDUCTIONS[node.spec.name], node.inputs[0].dtype):
        return writer.own(node, inputs)
    keepdims = {"keepdims": node.attributes["keepdims"]}
    return [writer.node(_REDUCTIONS[node.spec.name], [inputs[0], writer.constant(axes)], keepdims)]


def _arg_reduce(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    if not writer.takes(_ARG_REDUCTIONS[node.spec.name], node.inputs[0].dtype):
        return writer.own(node, inputs)
    return [writer.node(_ARG_REDUCTIONS[node.spec.name], inputs, node.attributes)]


def _along_axis(operator: str) -> Rule:
    def rule(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
        return [writer.node(operator, inputs, {"axis": node.attributes["axis"]})]

    return rule


def _plain(operator: str, **attributes: Any) -> Rule:
    def rule(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
        result = node.outputs[0].spec.dtype  # float32 of narrower operands too, which ONNX would keep narrow
        operands = [writer.cast(x, view.dtype, result) for x, view in zip(inputs, node.inputs, strict=True)]
        return [writer.node(operator, operands, attributes)]

    return rule


def _cumulative_sum(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    if not writer.takes("CumSum", node.inputs[0].dtype):
        return writer.own(node, inputs)
    return [writer.node("CumSum", [inputs[0], writer.constant(np.array(node.attributes["axis"], np.int64))])]


def _silu(writer: Writer, _: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    return [writer.node("Mul", [inputs[0], writer.node("Sigmoid", inputs)])]


def _windows(node: Node, ndim: int) -> dict[str, Any]:
    """The attributes that windows have in common, those that are not at their defaults."""
    given = node.attributes
    named = {"strides": given["strides"], "dilations": given["dilations"], "pads": given["pads"]}
    return {name: list(sizes) for name, sizes in named.items() if sizes} | {"kernel_shape": _kernel(node, ndim)}


def _kernel(node: Node, ndim: int) -> list[int]:
    sizes = node.attributes["window"] if "window" in node.attributes else node.inputs[1].shape[-ndim:]
    return [int(size) for size in sizes]


def _convolution(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    attributes = {**_windows(node, len(node.inputs[0].shape) - 2), "group": node.attributes["groups"]}
    if node.spec.name == "convolution":
        return [writer.node("Conv", inputs, attributes)]
    if more := node.attributes["output_padding"]:
        attributes["output_padding"] = list(more)
    return [writer.node("ConvTranspose", inputs, attributes)]


_POOLS = {"max": "MaxPool", "average": "AveragePool", "lp": "LpPool"}


def _pool(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    mode = node.attributes["mode"]
    attributes = {**_windows(node, len(node.inputs[0].shape) - 2), "ceil_mode": node.attributes["ceil_mode"]}
    if mode == "average":
        attributes["count_include_pad"] = node.attributes["count_include_pad"]
    if mode == "lp":
        attributes["p"] = node.attributes["p"]
    return [writer.node(_POOLS[mode], inputs, attributes)]


def _layer_norm(writer: Writer, node: Node, inputs: Sequence[Any]) -> Sequence[ir.Value]:
    axis = -len(node.inputs[1].shape)
    return [writer.node("LayerNormalization", inputs, {"axis": axis, "epsilon": node.attributes["eps"]})]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys([*_ARITHMETIC, *_COMPARISONS], _binary),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_ARG_REDUCTIONS, _arg_reduce),
    "astype": _astype,
    "concat": _concat,
    "convolution": _convolution,
    "convolution_transpose": _convolution,
    "cumulative_sum": _cumulative_sum,
    "erf": _plain("Erf"),
    "gelu": _plain("Gelu"),
    "gelu_tanh": _plain("Gelu", approximate="tanh"),
    "layer_norm": _layer_norm,
    "log_softmax": _plain("LogSoftmax", axis=-1),
    "pool": _pool,
    "silu": _silu,
    "softmax": _plain("Softmax", axis=-1),
    "take": _along_axis("Gather"),
    "take_along_axis": _along_axis("GatherElements"),
    "where": _where,
}
