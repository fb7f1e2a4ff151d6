"""Resampling: along one axis by tables of positions and weights; at the points of a grid (Jaderberg et al. 2015).

Whatever a resize interpolates with (nearest, linear, cubic, with or without antialiasing, corners aligned or not) is a
table for each axis, which the caller makes; `resample` applies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)
from perfxapi.ops.windows import known_size

GRID_MODES = ("linear", "nearest", "cubic")
GRID_PADDINGS = ("zeros", "border", "reflection")
_CUBIC = -0.75
"""Keys' coefficient (1981), as the frameworks have it."""
_FURTHEST = 2.0**30
"""Points further out than so many pixels lie there."""


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, indices, weights = inputs
    require_kind("resample", x, "float")
    require_kind("resample", weights, "float")
    require_indices("resample", indices=indices)
    require_shape("resample", "indices", indices, None, None)
    require_shape("resample", "weights", weights, *indices.shape)
    axis = attributes["axis"]
    require(0 <= axis < len(x.shape), "resample", f"axis must be one of the {len(x.shape)} of x, from 0; got {axis}")
    known_size("resample", x.shape[axis])
    return (TensorSpec((*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :]), x.dtype),)


def _resample(x: Any, indices: Any, weights: Any, axis: int) -> Any:
    inside = bool(np.all((indices >= 0) & (indices < x.shape[axis])))
    require(inside, "resample", f"an index lies outside of the {x.shape[axis]} positions")
    shape = [1] * x.ndim
    shape[axis] = -1
    total = np.zeros((*x.shape[:axis], len(indices), *x.shape[axis + 1 :]))
    with np.errstate(all="ignore"):
        for tap in range(indices.shape[1]):
            total += weights[:, tap].astype(np.float64).reshape(shape) * np.take(x, indices[:, tap], axis)
        return total.astype(x.dtype)


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(70)
    cases = (
        ((2, 3, 7, 9), 3, 20, 2),
        ((2, 3, 7, 9), 2, 15, 4),
        ((1, 2, 6, 37), 2, 3, 1),
        ((1, 2, 6, 70), 3, 140, 1),
        ((3, 50), 0, 5, 3),
        ((40,), 0, 90, 2),
        ((2, 4, 5, 6, 3), 2, 9, 2),
        ((0, 4, 5), 2, 3, 2),
        ((2, 4, 5), 1, 0, 2),
    )
    for shape, axis, size, taps in cases:
        x = rng.standard_normal(shape).astype(np.float32)
        indices = rng.integers(0, shape[axis], (size, taps)).astype(np.int32)
        weights = rng.standard_normal((size, taps)).astype(np.float32)
        label = f"{list(shape)}, axis {axis} to {size}, {taps} taps"
        yield Sample((x, indices, weights), {"axis": axis}, label)
    indices = np.array([[0, 1], [1, 2]], np.int32)
    weights = np.array([[0.25, 0.75], [1, 0]], np.float32)
    for kind in (np.float16, np.float64):
        yield Sample((rng.standard_normal((2, 3)).astype(kind), indices, weights), {"axis": 1}, "other floats")
    hostile = np.array([[np.nan, 1, 2], [3, np.inf, 5], [-np.inf, 1, np.nan]], np.float32)
    yield Sample((hostile, indices, weights), {"axis": 1}, "not finite")


register_op(
    OpSpec(
        "resample",
        ("x", "indices", "weights"),
        _infer,
        _resample,
        _samples,
        (Attribute("axis", int),),
        weights=(1, 2),
        domain="neural",
    )
)


def _infer_grid(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, grid = inputs
    rank = len(x.shape) - 2
    for spec in inputs:
        require_kind("grid_sample", spec, "float")
    problem = f"x must be [batch, channels, spatial sizes...] with 1 to 3 of these; got {list(x.shape)}"
    require(1 <= rank <= 3, "grid_sample", problem)
    require_shape("grid_sample", "the grid", grid, x.shape[0], *[None] * rank, rank)
    sizes = [known_size("grid_sample", size) for size in x.shape[2:]]
    require(min(sizes) > 0, "grid_sample", f"there is nothing to sample in {list(x.shape)}")
    return (TensorSpec((*x.shape[:2], *grid.shape[1:-1]), x.dtype),)


def _taps(points: Any, mode: str) -> list[tuple[Any, Any]]:
    """Positions (whole numbers in float64) that points along one axis are interpolated from, and their weights."""
    if mode == "nearest":
        return [(np.rint(points), np.ones_like(points))]
    low = np.floor(points)
    t = points - low
    if mode == "linear":
        return [(low, 1 - t), (low + 1, t)]
    return [(low - 1, _far(t + 1)), (low, _near(t)), (low + 1, _near(1 - t)), (low + 2, _far(2 - t))]


def _near(s: Any) -> Any:
    """The cubic kernel at a distance from 0 to 1."""
    return ((_CUBIC + 2) * s - (_CUBIC + 3)) * s * s + 1


def _far(s: Any) -> Any:
    """The cubic kernel at a distance from 1 to 2."""
    return ((_CUBIC * s - 5 * _CUBIC) * s + 8 * _CUBIC) * s - 4 * _CUBIC


def _inside(positions: Any, weights: Any, size: int, padding: str, align_corners: int) -> tuple[Any, Any]:
    """Positions within an axis, and their weights: what lies outside is nothing, the border, or a reflection."""
    if padding == "zeros":
        weights = np.where((positions >= 0) & (positions < size), weights, 0)
    elif padding == "reflection" and align_corners:
        period = 2.0 * max(size - 1, 1)
        positions = np.abs(positions) % period
        positions = np.minimum(positions, period - positions)
    elif padding == "reflection":
        positions = np.where(positions < 0, -1 - positions, positions) % (2.0 * size)
        positions = np.minimum(positions, 2.0 * size - 1 - positions)
    return np.clip(positions, 0, size - 1).astype(np.int64), weights


def _grid_sample(x: Any, grid: Any, mode: str, padding: str, align_corners: int) -> Any:
    batch, channels, *sizes = x.shape
    axes = []
    for axis, size in enumerate(sizes):
        at = grid[..., len(sizes) - 1 - axis].astype(np.float64).reshape(batch, -1)
        points = (at + 1) / 2 * (size - 1) if align_corners else ((at + 1) * size - 1) / 2
        points = np.clip(
            np.nan_to_num(points, nan=-_FURTHEST, posinf=_FURTHEST, neginf=-_FURTHEST), -_FURTHEST, _FURTHEST
        )
        axes.append([_inside(*tap, size, padding, align_corners) for tap in _taps(points, mode)])
    pixels = x.astype(np.float64).reshape(batch, channels, math.prod(sizes))
    total = np.zeros((batch, channels, axes[0][0][0].shape[1]))
    for taps in product(*axes):
        weight = np.prod([weights for _, weights in taps], axis=0)
        flat = np.ravel_multi_index([positions for positions, _ in taps], sizes)
        picked = np.take_along_axis(pixels, flat[:, None], 2)
        total += np.where(weight[:, None] == 0, 0, weight[:, None] * picked)
    return total.reshape(batch, channels, *grid.shape[1:-1]).astype(x.dtype)


def _grid_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(71)
    shapes = (((1, 2, 5, 6), (1, 4, 9, 2)), ((2, 3, 8, 33), (2, 3, 21, 2)), ((1, 2, 4, 5, 6), (1, 2, 3, 4, 3)))
    for number, (mode, padding) in enumerate(product(GRID_MODES, GRID_PADDINGS)):
        for shape, points in shapes:
            x = rng.standard_normal(shape).astype(np.float32)
            grid = rng.uniform(-1.6, 1.6, points).astype(np.float32)
            attributes = {"mode": mode, "padding": padding, "align_corners": number % 2}
            yield Sample((x, grid), attributes, f"{list(shape)}, {mode}, {padding}")
    x = rng.standard_normal((1, 2, 4, 4)).astype(np.float32)
    grid = np.array([[[np.nan, 0], [np.inf, -0.5], [1e30, 1], [-1, -1]]], np.float32)[:, None].reshape(1, 1, 4, 2)
    for padding in GRID_PADDINGS:
        yield Sample((x, grid), {"padding": padding}, f"far out, {padding}")
    yield Sample((x.astype(np.float64), grid[..., 2:, :].astype(np.float64)), {"align_corners": 1}, "float64")


register_op(
    OpSpec(
        "grid_sample",
        ("x", "grid"),
        _infer_grid,
        _grid_sample,
        _grid_samples,
        (
            Attribute("mode", str, "linear", GRID_MODES),
            Attribute("padding", str, "zeros", GRID_PADDINGS),
            Attribute("align_corners", int, 0),
        ),
        tolerance=4e-6,
        domain="neural",
    )
)
