"""Linear quantization, and products of quantized tensors.

A scale and a zero point are those of the whole tensor, of each place along an axis, or of blocks along it.
"""

from __future__ import annotations

import numpy as np

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.element_types import code_of, device_dtype, host_dtype
from perfxapi.onnx.operators.casting import cast
from perfxapi.onnx.operators.shape import normalized, sizes_of
from perfxapi.onnx.registry import OperatorNode, Value, known, operator

_FLOAT32, _UINT8, _INT32 = 1, 2, 6
_INT32_SAFE = float(1 << 24)
"""Whole numbers up to here are float32's, and far beyond what any quantized type holds."""


def _spread(node: OperatorNode, parameter: Value, sizes: tuple[int, ...]) -> Array:
    """A scale or zero point, as numbers that are broadcast beside a tensor of these sizes."""
    numbers = _numbers(parameter, node)
    if numbers.size == 1 and numbers.ndim < 2:
        return numbers.reshape(())
    axis = normalized(node.attribute("axis", 1), len(sizes))
    if numbers.ndim == 1:
        return numbers.reshape([-1 if place == axis else 1 for place in range(len(sizes))])
    places = np.arange(sizes[axis]) // node.required("block_size")
    return px.take(numbers, px.asarray(places, device=node.device), axis=axis)


def _numbers(x: Value, node: OperatorNode) -> Array:
    """Quantized values as int32, those of float8 and float4 (and scales) as floats: all are held exactly."""
    if isinstance(x, Array):
        return px.astype(x, dtypes.int32) if x.dtype.kind in ("int", "uint") else x
    result = cast(x, _FLOAT32 if "float" in known(x).dtype.name else _INT32, device=node.device)
    assert isinstance(result, Array)
    return result


def _limits(code: int) -> tuple[int, int] | None:
    """The least and the largest whole number of an element type; None where it is of floats."""
    dtype = host_dtype(code)
    if "float" in dtype.name:
        return None
    bits = int("".join(filter(str.isdigit, dtype.name)))
    return (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def requantized(quotient: Array, zero_point: Array | None, code: int, node: OperatorNode) -> Value:
    """Quotients rounded (ties to even), moved by the zero point, kept in range, as an element type of whole numbers."""
    limits = _limits(code)
    assert limits is not None
    whole = px.clip(px.astype(px.round(quotient), dtypes.float32, copy=False), -_INT32_SAFE, _INT32_SAFE)
    moved = px.astype(whole, dtypes.int32)
    if zero_point is not None:
        moved = px.add(moved, px.astype(zero_point, dtypes.int32))
    return cast(px.clip(moved, *limits), code, device=node.device)


@operator("QuantizeLinear")
def quantize_linear(node: OperatorNode, x: Array, scale: Array, zero_point: Value = None) -> Value:
    """x / scale, rounded, plus a zero point, kept in the range of the zero point's type (or `output_dtype`)."""
    code = node.attribute("output_dtype", 0) or (_UINT8 if zero_point is None else code_of(zero_point))
    precision = device_dtype(node.attribute("precision", 0)) or scale.dtype
    if precision.kind != "float":
        precision = dtypes.float32
    sizes = sizes_of(x)
    divisor = px.astype(_spread(node, scale, sizes), precision, copy=False)
    quotient = px.divide(px.astype(x, precision, copy=False), divisor)
    shift = None if zero_point is None else _spread(node, zero_point, sizes)
    if _limits(code) is not None:
        return requantized(quotient, shift, code, node)
    if shift is not None:
        quotient = px.add(px.astype(quotient, dtypes.float32, copy=False), shift)
    return cast(quotient, code, node.attributes, node.device)


@operator("DequantizeLinear")
def dequantize_linear(node: OperatorNode, x: Value, scale: Array, zero_point: Value = None) -> Value:
    """(x - zero point) * scale, in the type of the scale or `output_dtype`."""
    sizes = sizes_of(x)
    dtype = device_dtype(node.attribute("output_dtype", 0)) or scale.dtype
    values = _numbers(x, node)
    if zero_point is not None:
        values = px.subtract(values, _spread(node, zero_point, sizes))
    wide = dtypes.float64 if dtype is dtypes.float64 else dtypes.float32  # 16 bits do not hold every whole number
    product = px.multiply(px.astype(values, wide), px.astype(_spread(node, scale, sizes), wide, copy=False))
    return px.astype(product, dtype, copy=False)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: OperatorNode, x: Array) -> tuple[Value, ...]:
    """x as uint8, with the scale and zero point that its least and largest element call for."""
    low, high = px.minimum(px.min(x), 0), px.maximum(px.max(x), 0)
    scale = px.divide(px.subtract(high, low), 255)
    nonzero = px.where(px.equal(scale, 0), 1, scale)
    zero_point = px.astype(px.round(px.clip(px.divide(px.negative(low), nonzero), 0, 255)), dtypes.uint8)
    return requantized(px.divide(x, nonzero), zero_point, _UINT8, node), scale, zero_point


# ---- products


def exact_products(a: Array, b: Array) -> Array:
    """The matrix product of small whole numbers as int32 (sums wrap around), by floats that hold every sum exactly.

    Factors have at most 17 bits with their zero points taken off.
    """
    inner = int(a.shape[-1])
    dtype = dtypes.float32 if inner * 255 * 255 < 1 << 24 else dtypes.float64
    product = px.matmul(px.astype(a, dtype), px.astype(b, dtype))
    return px.astype(px.astype(product, dtypes.int64), dtypes.int32)


def _shifted(x: Array, zero_point: Array | None, axis: int) -> Array:
    """Quantized values less their zero point, of which a vector has one for each place along an axis."""
    wide = px.astype(x, dtypes.int32)
    return wide if zero_point is None else px.subtract(wide, px.astype(_along(zero_point, axis), dtypes.int32))


def _along(parameter: Array, axis: int) -> Array:
    """A vector of parameters as rows (axis -2) or columns (axis -1) of matrices; others as they are."""
    if parameter.ndim == 1 and parameter.shape[0] != 1:
        return parameter[:, None] if axis == -2 else parameter[None, :]
    return parameter.reshape(()) if parameter.ndim == 1 else parameter


@operator("MatMulInteger")
def matmul_integer(
    node: OperatorNode, a: Array, b: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None
) -> Array:
    """The matrix product of two quantized tensors less their zero points, as int32."""
    return exact_products(_shifted(a, a_zero_point, -2), _shifted(b, b_zero_point, -1))


@operator("QLinearMatMul")
def qlinear_matmul(
    node: OperatorNode,
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    scale: Array,
    zero_point: Array,
) -> Value:
    """The matrix product of two quantized tensors, quantized again."""
    product = exact_products(_shifted(a, a_zero_point, -2), _shifted(b, b_zero_point, -1))
    factors = [px.astype(_along(s, axis), dtypes.float32) for s, axis in ((a_scale, -2), (b_scale, -1), (scale, -2))]
    factor = px.divide(px.multiply(factors[0], factors[1]), factors[2])
    quotient = px.multiply(px.astype(product, dtypes.float32), factor)
    return requantized(quotient, _along(zero_point, -2), code_of(zero_point), node)
