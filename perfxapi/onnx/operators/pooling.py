"""Pooling, and its inverse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from perfxapi import nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.precision import rounded_once
from perfxapi.onnx.operators.selection import scattered
from perfxapi.onnx.operators.shape import padded, sizes_of
from perfxapi.onnx.operators.windows import geometry
from perfxapi.onnx.registry import OperatorNode, Value, known, known_ints, operator


def _window(node: OperatorNode, x: Array) -> dict[str, Any]:
    kernel = node.required("kernel_shape")
    attributes = geometry(node, sizes_of(x)[2:], kernel)
    return {"window": tuple(kernel), "ceil_mode": node.attribute("ceil_mode", 0), **attributes}


@operator("MaxPool")
def max_pool(node: OperatorNode, x: Array) -> Array | tuple[Array, Array]:
    """The largest element of each window, and where it lies in the whole tensor."""
    if not node.wants(1):
        result: Array = nn.pool(x, mode="max", **_window(node, x))
        return result
    largest, places = nn.max_pool_with_indices(x, **_window(node, x))
    return largest, _column_major(places, sizes_of(x)[2:]) if node.attribute("storage_order", 0) else places


def _column_major(places: Array, sizes: tuple[int, ...]) -> Array:
    """Row-major places as those in a tensor whose first spatial axis moves fastest."""
    plane = math.prod(sizes)
    rest = px.remainder(places, plane)
    result = px.subtract(places, rest)
    for axis in reversed(range(len(sizes))):
        index = px.remainder(rest, sizes[axis])
        rest = px.floor_divide(rest, sizes[axis])
        result = px.add(result, px.multiply(index, math.prod(sizes[:axis])))
    return result


@operator("AveragePool")
def average_pool(node: OperatorNode, x: Array) -> Array:
    """The mean of each window: of its elements, or of its pads too."""
    include = node.attribute("count_include_pad", 0)
    result: Array = nn.pool(x, mode="average", count_include_pad=include, **_window(node, x))
    return result


@operator("LpPool")
def lp_pool(node: OperatorNode, x: Array) -> Array:
    """The p-norm of each window."""
    result: Array = nn.pool(x, mode="lp", p=int(node.attribute("p", 2)), **_window(node, x))
    return result


@operator("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def global_pool(node: OperatorNode, x: Array) -> Array:
    """The largest element, the mean or the p-norm of each channel."""
    axes = tuple(range(2, x.ndim))
    if node.op_type == "GlobalMaxPool":
        return px.max(x, axis=axes, keepdims=True)
    if node.op_type == "GlobalAveragePool":
        return rounded_once(px.mean)(x, axis=axes, keepdims=True)
    order = float(node.attribute("p", 2))
    return rounded_once(px.linalg.vector_norm)(x, axis=axes, keepdims=True, ord=order)


@operator("MaxUnpool")
def max_unpool(node: OperatorNode, x: Array, places: Array, shape: Value = None) -> Array:
    """Zeros, with the elements of x where a MaxPool has found them."""
    kernel = node.required("kernel_shape")
    rank = len(kernel)
    attributes = geometry(node, sizes_of(x)[2:], kernel)
    rows = zip(sizes_of(x)[2:], attributes["strides"], kernel, attributes["pads"][:rank], attributes["pads"][rank:],
               strict=True)  # fmt: skip
    sizes = [(size - 1) * stride + span - before - after for size, stride, span, before, after in rows]
    blank = px.zeros((*sizes_of(x)[:2], *sizes), dtype=x.dtype, device=node.device)
    result = scattered(blank, places, x)
    if shape is None:
        return result
    missing = [max(0, want - size) for want, size in zip(known_ints(shape), sizes_of(result), strict=True)]
    return padded(result, [0] * result.ndim, missing)


# ---- regions


@operator("MaxRoiPool")
def max_roi_pool(node: OperatorNode, x: Array, regions: Value) -> Array:
    """The largest element of each part of a grid over regions [count, 5] (image, then two corners) (Girshick 2015)."""
    rows, columns = node.required("pooled_shape")
    height, width = sizes_of(x)[2:]
    pooled = []
    for image, *corners in known(regions).tolist():
        left, top, right, bottom = (_rounded(corner * node.attribute("spatial_scale", 1.0)) for corner in corners)
        downs = _cells(top, max(bottom - top + 1, 1), rows, height)
        rights = _cells(left, max(right - left + 1, 1), columns, width)
        cells = [_largest(x[int(image), :, down, across]) for down in downs for across in rights]
        pooled.append(px.stack(cells, axis=1).reshape((x.shape[1], rows, columns)))
    return _regions(pooled, x, rows, columns)


def _regions(parts: list[Array], x: Array, rows: int, columns: int) -> Array:
    """The results of all regions, of which there may be none, as one."""
    return (
        px.stack(parts, axis=0)
        if parts
        else px.zeros((0, int(x.shape[1]), rows, columns), dtype=x.dtype, device=x.device)
    )


def _rounded(value: float) -> int:
    """To the nearest whole number, halves away from 0."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _largest(cell: Array) -> Array:
    if 0 in cell.shape:
        return px.zeros((int(cell.shape[0]),), dtype=cell.dtype, device=cell.device)
    return px.max(cell, axis=(1, 2))


def _cells(start: int, span: int, count: int, size: int) -> list[slice]:
    """The cells that a span is divided into, within an axis."""
    edges = np.arange(count)
    lows, highs = np.floor(edges * span / count) + start, np.ceil((edges + 1) * span / count) + start
    return [
        slice(int(np.clip(low, 0, size)), int(np.clip(high, 0, size))) for low, high in zip(lows, highs, strict=True)
    ]


@operator("RoiAlign")
def roi_align(node: OperatorNode, x: Array, regions: Value, images: Value) -> Array:
    """The mean (or the largest) of points in each part of a grid over regions, read by linear interpolation
    (He et al. 2017).
    """
    rows, columns = node.attribute("output_height", 1), node.attribute("output_width", 1)
    half = choice(node, "coordinate_transformation_mode", ("half_pixel", "output_half_pixel"), "half_pixel")
    shifted = half == "half_pixel" and node.version >= 16
    boxes = known(regions).astype(np.float64) * node.attribute("spatial_scale", 1.0) - (0.5 if shifted else 0.0)
    height, width = sizes_of(x)[2:]
    ratio = node.attribute("sampling_ratio", 0)
    pixels = x.permute_dims((0, 2, 3, 1)).reshape((-1, int(x.shape[1])))
    mean = choice(node, "mode", ("avg", "max"), "avg") == "avg"
    results = []
    for (left, top, right, bottom), image in zip(boxes.tolist(), known_ints(images), strict=True):
        sides = [right - left, bottom - top] if shifted else [max(right - left, 1.0), max(bottom - top, 1.0)]
        downs = _samples(top, sides[1], rows, ratio, height)
        rights = _samples(left, sides[0], columns, ratio, width)
        values = _read(pixels, downs, rights, image * height * width, width, px.add if mean else px.maximum)
        part = px.mean(values, axis=(1, 3)) if mean else px.max(values, axis=(1, 3))
        results.append(part.permute_dims((2, 0, 1)))
    return _regions(results, x, rows, columns)


def _samples(start: float, side: float, count: int, ratio: int, size: int) -> Any:
    """Sampling points [count, points]: the two places each is read from, and their weights."""
    points = ratio or max(math.ceil(side / count), 1)
    step = side / count
    at = start + step * (np.arange(count)[:, None] + (np.arange(points)[None, :] + 0.5) / points)
    outside = (at < -1) | (at > size)
    at = np.clip(at, 0, size - 1)
    low = np.minimum(np.floor(at), size - 1).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    share = at - low
    return (low, np.where(outside, 0, 1 - share)), (high, np.where(outside, 0, share))


def _read(
    pixels: Array, downs: Any, rights: Any, start: int, width: int, combine: Callable[[Array, Array], Array]
) -> Array:
    """The values [rows, points, columns, points, channels] of points, each of the four pixels around it.

    These, times their weights, are added (which is interpolation); where the largest is wanted, ONNX takes the largest.
    """
    total: Array | None = None
    for row, vertical in downs:
        for column, horizontal in rights:
            places = start + row[:, :, None, None] * width + column[None, None]
            share = (vertical[:, :, None, None] * horizontal[None, None])[..., None]
            read = px.take(pixels, px.asarray(places.reshape(-1), device=pixels.device), axis=0)
            read = read.reshape((*places.shape, int(pixels.shape[1])))
            read = px.multiply(read, px.asarray(share, dtype=pixels.dtype, device=pixels.device))
            total = read if total is None else combine(total, read)
    assert total is not None
    return total
