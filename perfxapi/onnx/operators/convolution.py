"""Convolutions: plain, transposed, of quantized tensors, deformable; and columns put together to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.element_types import code_of
from perfxapi.onnx.operators.quantization import requantized
from perfxapi.onnx.operators.shape import sizes_of
from perfxapi.onnx.operators.windows import divided, geometry, padding_mode
from perfxapi.onnx.registry import OperatorNode, Value, known_ints, operator


@operator("Conv")
def convolution(node: OperatorNode, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """The cross-correlation of images, signals or volumes with filters."""
    return _convolved(node, x, weight, bias)


def _convolved(node: OperatorNode, x: Array, weight: Array, bias: Array | None = None) -> Array:
    attributes = geometry(node, sizes_of(x)[2:], sizes_of(weight)[2:])
    result: Array = nn.convolution(x, weight, bias, groups=node.attribute("group", 1), **attributes)
    return result


@operator("ConvTranspose")
def convolution_transpose(node: OperatorNode, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """The transpose of a convolution: each element adds a filter to the result."""
    kernel, sizes = sizes_of(weight)[2:], sizes_of(x)[2:]
    rank = len(kernel)
    mode = padding_mode(node)
    padding = list(node.attribute("output_padding") or [0] * rank)
    attributes = geometry(node, sizes, kernel)
    wanted = node.attribute("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(sizes, attributes["strides"], strict=True)]
    if wanted is not None:
        rows = zip(sizes, attributes["strides"], attributes["dilations"], kernel, padding, wanted[-rank:], strict=True)
        totals = [(n - 1) * stride + (k - 1) * dilation + 1 + more - to for n, stride, dilation, k, more, to in rows]
        attributes["pads"] = tuple(divided([max(total, 0) for total in totals], more_at_end=mode == "SAME_UPPER"))
        padding = [more + max(-total, 0) for more, total in zip(padding, totals, strict=True)]
    groups = node.attribute("group", 1)
    result: Array = nn.convolution_transpose(
        x, weight, bias, output_padding=tuple(padding), groups=groups, **attributes
    )
    return result


# ---- quantized


def _exact_convolution(node: OperatorNode, x: Array, weight: Array) -> Array:
    """The convolution of small whole numbers as int32, by floats that hold every sum exactly."""
    dtype = dtypes.float32 if math.prod(sizes_of(weight)[1:]) * 255 * 255 < 1 << 24 else dtypes.float64
    result = _convolved(node, px.astype(x, dtype), px.astype(weight, dtype))
    return px.astype(px.astype(result, dtypes.int64), dtypes.int32)


def _per_filter(parameter: Array, x: Array, axis: int) -> Array:
    """A parameter of the whole tensor or of each filter, laid along an axis."""
    if parameter.ndim == 0 or parameter.shape[0] == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if place == axis else 1 for place in range(x.ndim)])


def _shifted(x: Array, zero_point: Array | None) -> Array:
    wide = px.astype(x, dtypes.int32)
    return wide if zero_point is None else px.subtract(wide, px.astype(_per_filter(zero_point, x, 0), dtypes.int32))


@operator("ConvInteger")
def convolution_integer(
    node: OperatorNode, x: Array, weight: Array, x_zero_point: Array | None = None, w_zero_point: Array | None = None
) -> Array:
    """The convolution of two quantized tensors less their zero points, as int32."""
    return _exact_convolution(node, _shifted(x, x_zero_point), _shifted(weight, w_zero_point))


@operator("QLinearConv")
def qlinear_convolution(
    node: OperatorNode,
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    weight: Array,
    w_scale: Array,
    w_zero_point: Array,
    scale: Array,
    zero_point: Array,
    bias: Array | None = None,
) -> Value:
    """The convolution of two quantized tensors, quantized again."""
    sums = _exact_convolution(node, _shifted(x, x_zero_point), _shifted(weight, w_zero_point))
    if bias is not None:
        sums = px.add(sums, _per_filter(bias, sums, 1))
    factor = px.divide(px.multiply(x_scale.reshape(()), _per_filter(w_scale, sums, 1)), scale.reshape(()))
    quotient = px.multiply(px.astype(sums, dtypes.float32), factor)
    return requantized(quotient, zero_point.reshape(()), code_of(zero_point), node)


# ---- columns


@operator("Col2Im")
def columns_to_image(node: OperatorNode, columns: Array, image: Value, block: Value) -> Array:
    """Blocks of an image added up where they overlap (the transpose of cutting an image into them)."""
    sizes, kernel = known_ints(image), known_ints(block)
    rank = len(sizes)
    attributes = geometry(node, sizes, kernel)
    begin, end = attributes["pads"][:rank], attributes["pads"][rank:]
    spans = [size + before + after for size, before, after in zip(sizes, begin, end, strict=True)]
    places = _block_places(spans, kernel, attributes["strides"], attributes["dilations"])
    batch, width, count = sizes_of(columns)
    channels = width // math.prod(kernel)
    rows = columns.reshape((batch * channels, math.prod(kernel) * count)).permute_dims((1, 0))
    blank = px.zeros((math.prod(spans), batch * channels), dtype=columns.dtype, device=node.device)
    indices = px.asarray(places.reshape(-1), device=node.device)
    whole: Array = nn.scatter_rows(blank, indices, rows, reduction="add")
    whole = whole.permute_dims((1, 0)).reshape((batch, channels, *spans))
    return whole[(..., *(slice(before, before + size) for before, size in zip(begin, sizes, strict=True)))]


def _block_places(spans: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """For each element of a block and each block, where it lies in the padded image in row-major order."""
    result: Any = np.zeros((1, 1), np.int64)
    for span, size, stride, dilation in zip(spans, kernel, strides, dilations, strict=True):
        count = (span - (size - 1) * dilation - 1) // stride + 1
        along = np.arange(size)[:, None] * dilation + np.arange(count)[None, :] * stride
        joined = result[:, None, :, None] * span + along[None, :, None, :]
        result = joined.reshape(result.shape[0] * size, result.shape[1] * count)
    return result


# ---- deformable


@operator("DeformConv")
def deformable_convolution(
    node: OperatorNode,
    x: Array,
    weight: Array,
    offset: Array,
    bias: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """A convolution whose windows read where offsets say, interpolating linearly (Dai et al. 2017, Zhu et al. 2019)."""
    sizes, kernel = sizes_of(x)[2:], sizes_of(weight)[2:]
    rank, taps = len(kernel), math.prod(kernel)
    batch, channels = sizes_of(x)[:2]
    sets, groups = node.attribute("offset_group", 1), node.attribute("group", 1)
    out = sizes_of(offset)[2:]
    moved = offset.reshape((batch, sets, taps, rank, *out))
    starts = _tap_starts(geometry(node, sizes, kernel), kernel, out)
    points = [px.add(moved[:, :, :, axis], px.asarray(start.astype(np.float32), device=node.device))
              for axis, start in enumerate(starts)]  # fmt: skip
    points = [px.astype(point, x.dtype, copy=False).reshape((batch, sets, 1, -1)) for point in points]
    pixels = x.reshape((batch, sets, channels // sets, math.prod(sizes)))
    sampled = interpolated(pixels, points, sizes)
    if mask is not None:
        sampled = px.multiply(sampled, mask.reshape((batch, sets, 1, taps * math.prod(out))))
    filters = int(weight.shape[0])
    inner = channels // groups * taps
    columns = sampled.reshape((batch, groups, inner, math.prod(out)))
    result = px.matmul(weight.reshape((groups, filters // groups, inner)), columns)
    result = result.reshape((batch, filters, *out))
    return result if bias is None else px.add(result, bias.reshape((-1, *(1,) * rank)))


def _tap_starts(attributes: dict[str, Any], kernel: Sequence[int], out: Sequence[int]) -> list[Any]:
    """For each axis where each tap of each window reads without an offset, as [taps, places...]."""
    rank = len(kernel)
    taps = np.stack(np.meshgrid(*map(np.arange, kernel), indexing="ij")).reshape(rank, -1)
    windows = np.meshgrid(*map(np.arange, out), indexing="ij")
    rows = zip(taps, windows, attributes["strides"], attributes["dilations"], attributes["pads"][:rank], strict=True)
    return [
        tap.reshape(-1, *(1,) * rank) * dilation + window[None] * stride - pad
        for tap, window, stride, dilation, pad in rows
    ]


def interpolated(pixels: Array, points: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Pixels [..., channels, all places] read linearly at points [..., 1, count] along each axis; outside are zeros."""
    lows = [px.floor(point) for point in points]
    parts = [px.subtract(point, low) for point, low in zip(points, lows, strict=True)]
    result: Array | None = None
    for corner in product((0, 1), repeat=len(sizes)):
        place: Any = 0
        share: Any = 1
        for step, low, part, size in zip(corner, lows, parts, sizes, strict=True):
            at = px.add(low, step)
            inside = px.logical_and(px.greater_equal(at, 0), px.less(at, size))
            share = px.multiply(px.where(inside, part if step else px.subtract(1, part), 0), share)
            index = px.astype(px.clip(at, 0, size - 1), dtypes.int64)
            place = px.add(index, px.multiply(place, size) if isinstance(place, Array) else 0)
        read = px.multiply(px.take_along_axis(pixels, place, axis=-1), share)
        result = read if result is None else px.add(result, read)
    assert result is not None
    return result
