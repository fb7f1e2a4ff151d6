"""Arithmetic, comparisons, logic and bits, element by element.

Most are functions of the array API standard under another name: two tables. Operands are broadcast as NumPy does; the
first versions of ONNX instead had one operand laid along the other's axes from `axis` on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.precision import widened
from perfxapi.onnx.registry import OperatorNode, Value, from_host, is_known, known, operator

_UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": px.abs,
    "Acos": px.acos,
    "Acosh": px.acosh,
    "Asin": px.asin,
    "Asinh": px.asinh,
    "Atan": px.atan,
    "Atanh": px.atanh,
    "BitwiseNot": px.bitwise_invert,
    "Ceil": px.ceil,
    "Cos": px.cos,
    "Cosh": px.cosh,
    "Exp": px.exp,
    "Floor": px.floor,
    "IsNaN": px.isnan,
    "Log": px.log,
    "Neg": px.negative,
    "Not": px.logical_not,
    "Reciprocal": px.reciprocal,
    "Round": px.round,
    "Sign": px.sign,
    "Sin": px.sin,
    "Sinh": px.sinh,
    "Sqrt": px.sqrt,
    "Tan": px.tan,
    "Tanh": px.tanh,
}


def truncated_quotient(a: Array, b: Array) -> Array:
    """a / b; of whole numbers rounded towards 0."""
    if a.dtype.kind not in ("int", "uint"):
        return px.divide(a, b)
    down = px.floor_divide(a, b)
    if a.dtype.kind == "uint":
        return down
    inexact = px.not_equal(px.multiply(down, b), a)
    return px.where(px.logical_and(inexact, px.less(down, 0)), px.add(down, 1), down)


def _remainder_like_dividend(a: Array, b: Array) -> Array:
    """a less a multiple of b, with the sign of a, as C's `%` and `fmod` have it."""
    if a.dtype.kind == "uint":
        return px.remainder(a, b)
    if a.dtype.kind == "float":
        return px.copysign(px.remainder(px.abs(a), px.abs(b)), a)
    rest = px.remainder(a, b)
    crossed = px.logical_and(px.not_equal(rest, 0), px.not_equal(px.less(rest, 0), px.less(a, 0)))
    return px.where(crossed, px.subtract(rest, b), rest)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": px.add,
    "And": px.logical_and,
    "BitwiseAnd": px.bitwise_and,
    "BitwiseOr": px.bitwise_or,
    "BitwiseXor": px.bitwise_xor,
    "Div": truncated_quotient,
    "Greater": px.greater,
    "GreaterOrEqual": px.greater_equal,
    "Less": px.less,
    "LessOrEqual": px.less_equal,
    "Mul": px.multiply,
    "Or": px.logical_or,
    "Sub": px.subtract,
    "Xor": px.logical_xor,
}


def aligned(node: OperatorNode, a: Array, b: Array) -> Array:
    """The second operand as it is broadcast beside the first: before opset 7 from the axis that `axis` names."""
    axis = node.attribute("axis")
    if node.version >= 7 or axis is None or not node.attribute("broadcast", 0):
        return b
    behind = a.ndim - axis % max(a.ndim, 1) - b.ndim
    return b.reshape((*b.shape, *(1,) * behind))


def _register_tables() -> None:
    for name, unary in _UNARY.items():
        operator(name)(lambda node, x, function=unary: function(x))
    for name, binary in _BINARY.items():
        operator(name)(lambda node, a, b, function=binary: function(a, aligned(node, a, b)))


_register_tables()


@operator("Equal")
def equal(node: OperatorNode, a: Value, b: Value) -> Value:
    """Whether a equals b: numbers, truth values, or strings."""
    if isinstance(a, Array) and isinstance(b, Array):
        return px.equal(a, aligned(node, a, b))
    return from_host(np.asarray(np.equal(known(a), known(b)), np.bool_), node.device)


@operator("Mod")
def mod(node: OperatorNode, a: Array, b: Array) -> Array:
    """The remainder: with the sign of b, or of a where `fmod` says so."""
    return _remainder_like_dividend(a, b) if node.attribute("fmod", 0) else px.remainder(a, b)


@operator("Pow")
def power(node: OperatorNode, base: Array, exponent: Array) -> Array:
    """base to the power of exponent, in the dtype of the base; the two may differ in dtype."""
    exponent = aligned(node, base, exponent)
    is_number = exponent.size == 1 and exponent.ndim <= base.ndim and is_known(exponent)
    if is_number and base.dtype.kind == "float" and known(exponent).item() == 2:
        return px.multiply(base, base)  # what hand-made normalizations take their variance by
    whole = base.dtype.kind != "float" and exponent.dtype.kind == "float"
    wide = dtypes.float64 if whole else base.dtype  # float32 does not hold every int32
    result = px.pow(px.astype(base, wide, copy=False), px.astype(exponent, wide, copy=False))
    return px.astype(result, base.dtype, copy=False)


@operator("BitShift")
def bit_shift(node: OperatorNode, x: Array, count: Array) -> Array:
    """Bits moved `LEFT` or `RIGHT`; those moved out are lost, and a negative number keeps its sign."""
    left = choice(node, "direction", ("LEFT", "RIGHT")) == "LEFT"
    bits = 8 * x.dtype.itemsize
    moved = (px.bitwise_left_shift if left else px.bitwise_right_shift)(x, px.minimum(count, bits - 1))
    if x.dtype.kind == "int" and not left:
        return moved
    return px.where(px.less(count, bits), moved, 0)


@operator("IsInf")
def is_inf(node: OperatorNode, x: Array) -> Array:
    """Whether x is infinite, of the signs that are asked for."""
    positive, negative = node.attribute("detect_positive", 1), node.attribute("detect_negative", 1)
    if positive and negative:
        return px.isinf(x)
    if not positive and not negative:
        return px.zeros(x.shape, dtype=dtypes.bool_, device=node.device)  # type: ignore[arg-type]
    return px.equal(x, math.inf if positive else -math.inf)


# ---- several operands


def _folded(function: Callable[[Array, Array], Array], operands: tuple[Array, ...]) -> Array:
    return reduce(function, operands) if len(operands) > 1 else px.positive(operands[0])


@operator("Max")
def maximum(node: OperatorNode, *operands: Array) -> Array:
    """The largest of the operands, element by element."""
    return _folded(px.maximum, operands)


@operator("Min")
def minimum(node: OperatorNode, *operands: Array) -> Array:
    """The smallest of the operands, element by element."""
    return _folded(px.minimum, operands)


@operator("Sum")
def total(node: OperatorNode, *operands: Array) -> Array:
    """The sum of the operands, element by element."""
    return _folded(px.add, operands)


@operator("Mean")
def mean(node: OperatorNode, *operands: Array) -> Array:
    """The average of the operands, element by element."""
    average = px.divide(_folded(px.add, tuple(map(widened, operands))), float(len(operands)))
    return px.astype(average, operands[0].dtype, copy=False)


@operator("Clip")
def clip(node: OperatorNode, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """x, at least `low` and then at most `high`; before opset 11 they are attributes."""
    bounds: tuple[Any, Any] = (low, high)
    if node.version < 11:
        bounds = node.attribute("min"), node.attribute("max")
    return px.clip(x, *bounds)


@operator("Erf")
def error_function(node: OperatorNode, x: Array) -> Array:
    """The error function."""
    result: Array = nn.erf(x)
    return result
