"""Choosing, gathering, scattering and ordering elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.moving import moves
from perfxapi.onnx.operators.shape import normalized, sizes_of
from perfxapi.onnx.registry import OperatorNode, Value, from_host, is_known, known, known_ints, operator

_REDUCTIONS = {"none": "none", "add": "add", "mul": "multiply", "max": "max", "min": "min"}
_NOWHERE = 1 << 62
"""A place that no tensor has: where an index lies outside its axis, so that the op that is given it refuses it."""


@operator("Where")
@moves(1, 2)
def where(node: OperatorNode, condition: Array, a: Array, b: Array) -> Array:
    """a where the condition is true, else b."""
    return px.where(condition, a, b)


# ---- gathering


@operator("Gather")
@moves(0)
def gather(node: OperatorNode, x: Array, indices: Array) -> Array:
    """The parts of x at these places along an axis."""
    return px.take(x, indices, axis=node.attribute("axis", 0))


@operator("GatherElements")
@moves(0)
def gather_elements(node: OperatorNode, x: Array, indices: Array) -> Array:
    """For each place in `indices`, the element of x at that index along an axis; other axes may be shorter than x's."""
    axis = normalized(node.attribute("axis", 0), x.ndim)
    cut = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape))
    return px.take_along_axis(x[cut], indices, axis=axis)


def _wrapped(indices: Array, size: int) -> Array:
    """Indices as int64 counted from the front."""
    wide = px.astype(indices, dtypes.int64, copy=False)
    return px.where(px.less(wide, 0), px.add(wide, size), wide)


def _checked(places: Array, indices: Array, size: int, axis: int) -> Array:
    """Places, where the indices along an axis that they were made from are inside; elsewhere `_NOWHERE`.

    Raises InvalidArgumentError at once where the indices are known.
    """
    if is_known(indices):
        values = known(indices)
        wrong = values[(values < -size) | (values >= size)]
        if wrong.size:
            raise InvalidArgumentError(f"index {wrong[0]} is outside axis {axis}, which has the size {size}")
        return places
    wide = px.astype(indices, dtypes.int64, copy=False)
    inside = px.logical_and(px.greater_equal(wide, -size), px.less(wide, size))
    return px.where(inside, places, _NOWHERE)


def flat_places(tuples: Array, sizes: tuple[int, ...], first_axis: int = 0) -> Array:
    """The places in row-major order that index tuples (the last axis) name in a shape; errors count axes from
    `first_axis` on.
    """
    result = px.zeros(tuples.shape[:-1], dtype=dtypes.int64, device=tuples.device)  # type: ignore[arg-type]
    for place, size in enumerate(sizes):
        result = px.add(px.multiply(result, size), _wrapped(tuples[..., place], size))
    for place, size in enumerate(sizes):
        result = _checked(result, tuples[..., place], size, first_axis + place)
    return result


@operator("GatherND")
@moves(0)
def gather_nd(node: OperatorNode, x: Array, indices: Array) -> Array:
    """The parts of x that index tuples name; the first `batch_dims` axes are those of a batch."""
    batch, depth = node.attribute("batch_dims", 0), int(indices.shape[-1])
    sizes, outer = sizes_of(x), sizes_of(indices)[:-1]
    indexed, rest = sizes[batch : batch + depth], sizes[batch + depth :]
    count = math.prod(sizes[:batch])
    places = flat_places(indices, indexed, batch).reshape((count, math.prod(outer[batch:])))
    starts = px.asarray(np.arange(count)[:, None] * math.prod(indexed), device=node.device)
    rows = x.reshape((count * math.prod(indexed), math.prod(rest)))
    return px.take(rows, px.add(places, starts).reshape(-1), axis=0).reshape((*outer, *rest))


@operator("Compress")
@moves(0)
def compress(node: OperatorNode, x: Array, condition: Value) -> Array:
    """The parts of x along an axis (without one, its elements in a row) where the condition is true."""
    places = px.asarray(np.flatnonzero(known(condition)), device=node.device)
    axis = node.attribute("axis")
    return px.take(x.reshape(-1) if axis is None else x, places, axis=axis or 0)


@operator("OneHot")
@moves(2)
def one_hot(node: OperatorNode, indices: Array, depth: Value, values: Array) -> Array:
    """The second of two values where an index along a new axis is the one given, the first elsewhere."""
    size, ndim = int(known(depth).reshape(-1)[0]), indices.ndim + 1
    if size < 0:
        raise InvalidArgumentError(f"{node}: depth must not be negative; got {size}")
    axis = normalized(node.attribute("axis", -1), ndim)
    steps = np.arange(size).reshape([size if place == axis else 1 for place in range(ndim)])
    chosen = px.expand_dims(_wrapped(indices, size), axis=axis)
    return px.where(px.equal(chosen, px.asarray(steps, device=node.device)), values[1], values[0])


# ---- scattering


def scattered(x: Array, places: Array, updates: Array, reduction: str = "none", columns: int = 1) -> Array:
    """x with rows of so many columns replaced by, or combined with, those of `updates` at `places`."""
    if columns == 0:
        return x
    rows = x.reshape((math.prod(sizes_of(x)) // columns, columns))
    count = math.prod(sizes_of(places))
    result: Array = nn.scatter_rows(
        rows, places.reshape((count,)), updates.reshape((count, columns)), reduction=_REDUCTIONS[reduction]
    )
    return result.reshape(x.shape)


@operator("ScatterElements", "Scatter")
@moves(0, 2)
def scatter_elements(node: OperatorNode, x: Array, indices: Array, updates: Array) -> Array:
    """x with each element of `updates` at the index along an axis that stands in the same place of `indices`."""
    axis = normalized(node.attribute("axis", 0), x.ndim)
    sizes = sizes_of(x)
    fits = all(
        place == axis or count <= size for place, (count, size) in enumerate(zip(indices.shape, sizes, strict=True))
    )
    if not fits or indices.shape != updates.shape:
        shapes = f"indices of {list(indices.shape)} and updates of {list(updates.shape)}"
        raise InvalidArgumentError(f"{node}: {shapes} do not fit a tensor of {list(sizes)} along axis {axis}")
    strides = [math.prod(sizes[place + 1 :]) for place in range(x.ndim)]
    grid = np.indices(sizes_of(indices), sparse=True)
    beside: Any = sum((grid[place] * strides[place] for place in range(x.ndim) if place != axis), np.int64(0))
    places = px.multiply(_wrapped(indices, sizes[axis]), strides[axis])
    places = px.add(places, px.asarray(np.asarray(beside, np.int64), device=node.device))
    places = _checked(places, indices, sizes[axis], axis)
    return scattered(x, places, updates, choice(node, "reduction", _REDUCTIONS, "none"))


@operator("ScatterND")
@moves(0, 2)
def scatter_nd(node: OperatorNode, x: Array, indices: Array, updates: Array) -> Array:
    """x with the parts that index tuples name replaced by, or combined with, those of `updates`."""
    depth, sizes = int(indices.shape[-1]), sizes_of(x)
    if sizes_of(updates) != (*sizes_of(indices)[:-1], *sizes[depth:]):
        shapes = f"indices of {list(indices.shape)} and updates of {list(updates.shape)}"
        raise InvalidArgumentError(f"{node}: {shapes} do not fit a tensor of {list(sizes)}")
    places = flat_places(indices, sizes[:depth])
    return scattered(x, places, updates, choice(node, "reduction", _REDUCTIONS, "none"), math.prod(sizes[depth:]))


@operator("TensorScatter")
@moves(0, 1)
def tensor_scatter(node: OperatorNode, cache: Array, update: Array, starts: Array | None = None) -> Array:
    """A cache with `update` written along its sequence axis from each sample's start on, in a circle if so asked."""
    axis = normalized(node.attribute("axis", -2), cache.ndim)
    rows, new = px.moveaxis(cache, axis, 1), px.moveaxis(update, axis, 1)
    batch, size = sizes_of(rows)[:2]
    steps = px.arange(int(new.shape[1]), device=node.device)[None, :]
    places = steps if starts is None else px.add(steps, px.astype(starts, dtypes.int64, copy=False)[:, None])
    circular = choice(node, "mode", ("linear", "circular"), "linear") == "circular"
    inside = px.remainder(places, size) if circular else places
    flat = px.add(inside, px.asarray(np.arange(batch)[:, None] * size, device=node.device))
    if not circular:
        flat = _checked(flat, px.where(px.less(places, 0), size, places), size, axis)
    return px.moveaxis(scattered(rows, flat, new, columns=math.prod(sizes_of(rows)[2:])), 1, axis)


# ---- order


@operator("TopK")
def top_k(node: OperatorNode, x: Array, k: Value = None) -> tuple[Array, Array]:
    """The k largest (or least) elements along an axis in order, and where they are."""
    axis = normalized(node.attribute("axis", -1), x.ndim)
    count = node.required("k") if node.version < 10 else known_ints(k)[0]
    if not 0 <= count <= int(x.shape[axis]):
        raise InvalidArgumentError(f"{node}: k must be from 0 to {x.shape[axis]}, the size of axis {axis}; got {count}")
    order = px.argsort(x, axis=axis, descending=bool(node.attribute("largest", 1)))
    places = order[(*(slice(None),) * axis, slice(count))]
    return px.take_along_axis(x, places, axis=axis), places


# ---- results whose shape the values decide


@operator("NonZero")
def nonzero(node: OperatorNode, x: Value) -> Value:
    """Where elements are not 0: a row of indices for each axis."""
    values = known(x)
    if isinstance(x, Array) and x.ndim:
        return px.stack(px.nonzero(x), axis=0)
    return from_host(np.argwhere(values).T.astype(np.int64), node.device)


@operator("Unique")
def unique(node: OperatorNode, x: Value) -> tuple[Value, ...]:
    """The different elements, or parts along an axis: where each is first, which each is, and how often it is there."""
    axis = node.attribute("axis")
    values = known(x)
    found, first, inverse, counts = np.unique(
        values, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not node.attribute("sorted", 1):
        order = np.argsort(first)
        ranks = np.argsort(order)
        found = np.take(found, order, axis=axis or 0)
        first, inverse, counts = first[order], ranks[inverse], counts[order]
    whole = (np.asarray(part, np.int64) for part in (first, inverse, counts))
    return from_host(found, node.device), *(from_host(part, node.device) for part in whole)


@operator("NonMaxSuppression")
def non_max_suppression(
    node: OperatorNode,
    boxes: Value,
    scores: Value,
    limit: Value = None,
    overlap: Value = None,
    threshold: Value = None,
) -> Value:
    """Triples (batch, class, box) of boxes by falling score, without those that overlap one before by too much."""
    count = 0 if limit is None else known_ints(limit)[0]
    most = 0.0 if overlap is None else float(known(overlap).reshape(-1)[0])
    least = -math.inf if threshold is None else float(known(threshold).reshape(-1)[0])
    corners = _corners(known(boxes), centered=bool(node.attribute("center_point_box", 0)))
    chosen = [
        (batch, kind, box)
        for batch, classes in enumerate(known(scores))
        for kind, row in enumerate(classes)
        for box in _suppressed(corners[batch], row, count, most, least)
    ]
    return from_host(np.array(chosen, np.int64).reshape(-1, 3), node.device)


def _corners(boxes: Any, *, centered: bool) -> Any:
    """Boxes as (low y, low x, high y, high x)."""
    if centered:
        x, y, width, height = np.moveaxis(boxes, -1, 0)
        return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _suppressed(corners: Any, scores: Any, count: int, most: float, least: float) -> list[int]:
    """The boxes kept, by falling score."""
    order = [box for box in np.argsort(-scores, kind="stable") if scores[box] > least]
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=-1)
    kept: list[int] = []
    for box in order:
        if len(kept) >= count:
            break
        low = np.maximum(corners[kept, :2], corners[box, :2])
        high = np.minimum(corners[kept, 2:], corners[box, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=-1)
        union = areas[kept] + areas[box] - shared
        if not np.any(shared > most * union):
            kept.append(int(box))
    return kept
