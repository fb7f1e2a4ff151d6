"""Images read at the points of a grid."""

from __future__ import annotations

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.shape import sizes_of
from perfxapi.onnx.registry import OperatorNode, Value, known_ints, operator

_MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""What modes were called before opset 20."""


@operator("GridSample")
def grid_sample(node: OperatorNode, x: Array, grid: Array) -> Array:
    """x read at points, given from -1 to 1 along each spatial axis, by interpolation."""
    mode = choice(node, "mode", ("linear", "nearest", "cubic", *_MODES), "linear")
    wide = x if x.dtype.kind == "float" else px.astype(x, dtypes.float32)
    result: Array = nn.grid_sample(
        wide,
        grid,
        mode=_MODES.get(mode, mode),
        padding=choice(node, "padding_mode", ("zeros", "border", "reflection"), "zeros"),
        align_corners=node.attribute("align_corners", 0),
    )
    return px.astype(result, x.dtype, copy=False)


@operator("AffineGrid")
def affine_grid(node: OperatorNode, theta: Array, size: Value) -> Array:
    """For each element of an image of that size, where an affine matrix puts it: a grid for `GridSample`."""
    sizes = known_ints(size)[2:]
    aligned = bool(node.attribute("align_corners", 0))
    axes = [np.linspace(-1, 1, n) if aligned else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    grid = np.meshgrid(*axes, indexing="ij")[::-1]
    points = np.stack([*grid, np.ones(sizes)], axis=-1).reshape(-1, len(sizes) + 1)
    placed = px.asarray(points, dtype=theta.dtype, device=node.device)
    result = px.matmul(px.broadcast_to(placed, (int(theta.shape[0]), *placed.shape)), theta.mT)
    return result.reshape((sizes_of(theta)[0], *sizes, len(sizes)))
