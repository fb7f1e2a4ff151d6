"""Resizing: each axis by itself, by a table of the places that each element is interpolated from and their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.moving import moves
from perfxapi.onnx.operators.shape import normalized
from perfxapi.onnx.registry import OperatorNode, Value, known, known_ints, operator

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: from `size` to `count` elements. `start` and `end` are the region's, from 0 to 1."""

    place: int
    size: int
    count: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def extent(self) -> float:
        """The size that the scale asks for, which may be fractional."""
        return self.count if self._by_count else self.size * self.scale

    @property
    def _by_count(self) -> bool:
        """Whether the scale is what the sizes make it, and so rounded: they themselves say it exactly."""
        return self.size > 0 and self.scale == self.count / self.size

    def unscaled(self, at: Any) -> Any:
        """Coordinates over the scale: whole numbers stay so where they are."""
        return at * self.size / self.count if self._by_count else at / self.scale


@operator("Resize")
@moves(0)
def resize(node: OperatorNode, x: Array, *operands: Value) -> Array:
    """x in other sizes, interpolated as `mode` and `coordinate_transformation_mode` say."""
    roi, scales, sizes = (*operands, None, None, None)[:3] if node.version >= 11 else (None, operands[0], None)
    for axis in _axes(node, x, roi, scales, sizes):
        x = _resized(node, x, axis)
    return x


@operator("Upsample")
@moves(0)
def upsample(node: OperatorNode, x: Array, scales: Value = None) -> Array:
    """x in larger sizes."""
    factors = known(scales).tolist() if scales is not None else _attribute_scales(node)
    for place, (size, factor) in enumerate(zip(x.shape, factors, strict=True)):
        if factor != 1:
            x = _resized(node, x, _Axis(place, int(size), math.floor(int(size) * factor), factor))
    return x


def _attribute_scales(node: OperatorNode) -> list[float]:
    """Before opset 9 scales were attributes, before opset 7 of the height and width only."""
    if "scales" in node.attributes:
        return list(node.attributes["scales"])
    return [1.0, 1.0, node.required("height_scale"), node.required("width_scale")]


def _axes(node: OperatorNode, x: Array, roi: Value, scales: Value, sizes: Value) -> list[_Axis]:
    """The axes that are resized."""
    places = [normalized(axis, x.ndim) for axis in node.attribute("axes") or range(x.ndim)]
    shape = [int(x.shape[place]) for place in places]
    cropped = node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    region = known(roi).tolist() if cropped else [0.0] * len(places) + [1.0] * len(places)
    starts, ends = region[: len(places)], region[len(places) :]
    if scales is not None and known(scales).size:
        factors = [float(factor) for factor in known(scales)]
        spans = [end - start for start, end in zip(starts, ends, strict=True)]
        counts = [
            math.floor(size * span * factor + 1e-9 if cropped else size * factor)
            for size, span, factor in zip(shape, spans, factors, strict=True)
        ]
    else:
        policy = choice(node, "keep_aspect_ratio_policy", _POLICIES, "stretch")
        counts, factors = _by_sizes(shape, known_ints(sizes), policy)
    rows = zip(places, shape, counts, factors, starts, ends, strict=True)
    return [_Axis(*row) for row in rows if cropped or row[3] != 1 or row[1] != row[2]]


def _by_sizes(shape: Sequence[int], wanted: Sequence[int], policy: str) -> tuple[list[int], list[float]]:
    """The sizes that are made, and their scales."""
    factors = [want / size for want, size in zip(wanted, shape, strict=True)]
    if policy == "stretch":
        return list(wanted), factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(size * factor + 0.5) for size in shape], [factor] * len(shape)


# ---- where an element comes from


def _coordinate_mode(node: OperatorNode) -> str:
    """`coordinate_transformation_mode`. Raises InvalidArgumentError for one that the opset does not have."""
    if node.op_type == "Upsample" or node.version < 11:
        return "asymmetric"
    more = ("half_pixel_symmetric",) if node.version >= 18 else ()
    more = (*more, "tf_half_pixel_for_nn") if node.version < 13 else more
    return choice(node, "coordinate_transformation_mode", (*_COORDINATES, *more), "half_pixel")


def _coordinates(node: OperatorNode, axis: _Axis) -> Any:
    """Where the elements of the result lie on the axis of x."""
    at = np.arange(axis.count, dtype=np.float64)
    mode = _coordinate_mode(node)
    if mode == "asymmetric":
        return axis.unscaled(at)
    if mode == "tf_half_pixel_for_nn":
        return axis.unscaled(at + 0.5)
    if mode == "align_corners":
        return at * (axis.size - 1) / (axis.extent - 1) if axis.extent != 1 else at * 0
    if mode == "tf_crop_and_resize":
        if axis.count == 1:
            return np.array([0.5 * (axis.start + axis.end) * (axis.size - 1)])
        return (axis.start + at * (axis.end - axis.start) / (axis.count - 1)) * (axis.size - 1)
    if mode == "pytorch_half_pixel" and axis.count == 1:
        return at * 0
    half = axis.unscaled(at + 0.5) - 0.5
    if mode == "half_pixel_symmetric":
        return axis.size / 2 * (1 - axis.count / axis.extent) + half
    return half


def _nearest(node: OperatorNode, at: Any) -> Any:
    older = node.op_type == "Upsample" or node.version < 11
    mode = "floor" if older else choice(node, "nearest_mode", _ROUNDINGS, "round_prefer_floor")
    if mode == "floor":
        return np.floor(at)
    if mode == "ceil":
        return np.ceil(at)
    return np.ceil(at - 0.5) if mode == "round_prefer_floor" else np.floor(at + 0.5)


def _linear_kernel(distance: Any) -> Any:
    return np.maximum(1 - np.abs(distance), 0)


def _cubic_kernel(distance: Any, a: float) -> Any:
    """Keys (1981), equation 4."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _table(node: OperatorNode, axis: _Axis, at: Any) -> tuple[Any, Any]:
    """For each element of the result the places [count, taps] that it is interpolated from, and their weights.

    With `antialias` the kernel is as much wider as the axis gets smaller. Places beyond an edge count as the edge, or,
    with `exclude_outside`, not at all.
    """
    cubic = node.attribute("mode") == "cubic"
    shrunk = min(axis.scale, 1.0) if node.attribute("antialias", 0) else 1.0
    reach = math.ceil((2 if cubic else 1) / shrunk)
    places = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)[None, :]
    distance = (places - at[:, None]) * shrunk
    a = node.attribute("cubic_coeff_a", -0.75)
    weights = _cubic_kernel(distance, a) if cubic else _linear_kernel(distance)
    if node.attribute("exclude_outside", 0):
        weights = np.where((places >= 0) & (places < axis.size), weights, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, axis.size - 1), weights


# ---- one axis


def _resized(node: OperatorNode, x: Array, axis: _Axis) -> Array:
    at = _coordinates(node, axis)
    if choice(node, "mode", ("nearest", "linear", "bilinear", "cubic"), "nearest") == "nearest":
        places = np.clip(_nearest(node, at), 0, axis.size - 1).astype(np.int64)
        result = px.take(x, px.asarray(places, device=node.device), axis=axis.place)
    else:
        places, weights = _table(node, axis, at)
        wide = x if x.dtype.kind == "float" else px.astype(x, dtypes.float32)
        kind = np.float64 if wide.dtype is dtypes.float64 else np.float32
        table = (
            px.asarray(places.astype(np.int32), device=node.device),
            px.asarray(weights.astype(kind), device=node.device),
        )
        result = nn.resample(wide, *table, axis=axis.place)
        if wide is not x:
            result = px.astype(px.clip(px.round(result), *_range(x)), x.dtype)
    if node.attribute("coordinate_transformation_mode") != "tf_crop_and_resize":
        return result
    outside = ((at < 0) | (at > axis.size - 1)).reshape([-1 if place == axis.place else 1 for place in range(x.ndim)])
    value = node.attribute("extrapolation_value", 0.0)
    fill = px.full((), value, dtype=x.dtype, device=node.device)
    return px.where(px.asarray(outside, device=node.device), fill, result) if outside.any() else result


def _range(x: Array) -> tuple[int, int]:
    limits = px.iinfo(x.dtype)
    return limits.min, limits.max
