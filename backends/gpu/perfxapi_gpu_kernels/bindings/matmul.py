"""Products of dense matrices."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import result_type
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.elementwise import check_computable, computed_in
from perfxapi_gpu_kernels.bindings.walking import (
    Strides,
    Walk,
    check_walkable,
    element_strides,
    merged,
    vector_width,
)
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_SIZES = ("rows", "inner", "columns", "row_tiles", "column_tiles", "padding")
_STRIDES = ("a_row", "a_column", "b_row", "b_column")
_PRODUCT = np.dtype([*((name, np.int32) for name in _SIZES), *((name, np.int64) for name in _STRIDES)])


class Blocking(NamedTuple):
    """How a work-group shares a tile (matmul.h)."""

    group_columns: int
    group_rows: int
    item_rows: int
    item_columns: int
    depth: int

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return self.group_rows * self.item_rows

    @property
    def columns(self) -> int:
        """Columns of a tile."""
        return self.group_columns * self.item_columns


class Side(NamedTuple):
    """An operand as a matrix: the strides of its rows and columns, and those of the matrices of a batch."""

    view: View
    row: int
    column: int
    batch: Strides


_LARGE, _SMALL = Blocking(16, 16, 4, 4, 16), Blocking(16, 8, 2, 2, 16)
_VECTORS_ROWS, _VECTORS_TILES, _VECTORS_DEPTH = 12, 8, 128
"""Of a processor's tile (matmul_vectors.h): rows at a time, how often, and elements of the inner axis."""


def _blocking(rows: int, columns: int, properties: Properties) -> Blocking:
    """Small tiles where there are not enough large ones to occupy the device, or their rows would be idle."""
    tiles = -(-rows // _LARGE.rows) * -(-columns // _LARGE.columns)
    return _SMALL if rows <= _SMALL.rows or tiles < 2 * properties.compute_units else _LARGE


def _accepts(call: OpCall, properties: Properties) -> str | None:
    a, b = call.inputs
    return check_computable(result_type(a.dtype, b.dtype), properties) or check_walkable(call)


def _sides(a: View, b: View, ndim: int) -> tuple[Side, Side]:
    """The operands, a vector as a row on the left and a column on the right, with `ndim` axes of batches."""
    own = [element_strides(view, view.shape) for view in (a, b)]
    batches = [(0,) * (ndim - len(strides[:-2])) + strides[:-2] for strides in own]
    left, right = own
    return (
        Side(a, left[-2] if len(left) > 1 else 0, left[-1], batches[0]),
        Side(b, right[-2], right[-1], batches[1]) if len(right) > 1 else Side(b, right[-1], 0, batches[1]),
    )


@bind_op("matmul", accepts=_accepts)
def _matmul(request: Request) -> list[Launch]:
    (a, b), (out,) = request.call.inputs, request.call.outputs
    if 0 in out.shape:
        return []
    rows = int(a.shape[-2]) if len(a.shape) > 1 else 1
    columns = int(b.shape[-1]) if len(b.shape) > 1 else 1
    ndim = len(out.shape) - (len(a.shape) > 1) - (len(b.shape) > 1)
    left, right = _sides(a, b, ndim)
    if columns == 1:  # a column is computed as a row
        left, right = Side(b, right.column, right.row, right.batch), Side(a, left.column, left.row, left.batch)
        rows, columns = 1, rows
    batch = tuple(int(size) for size in out.shape[:ndim])
    walk = merged(batch, (element_strides(out, out.shape)[:ndim], left.batch, right.batch))
    sizes = np.zeros((), _PRODUCT)
    sizes["rows"], sizes["inner"], sizes["columns"] = rows, int(a.shape[-1]), columns
    sizes["a_row"], sizes["a_column"], sizes["b_row"], sizes["b_column"] = *left[1:3], *right[1:3]
    return [_launch(request.properties, out, left, right, walk, sizes)]


def _launch(properties: Properties, out: View, left: Side, right: Side, walk: Walk, sizes: Any) -> Launch:
    """The products of all matrices of a batch."""
    rows, columns = int(sizes["rows"]), int(sizes["columns"])
    dtypes = {"A": left.view.dtype.name, "B": right.view.dtype.name, "RESULT": out.dtype.name}
    width = vector_width(properties, *dtypes.values())
    if width > 1:
        item_rows = min(_VECTORS_ROWS, 1 if rows == 1 else 4 if rows <= 4 else _VECTORS_ROWS)
        tile, local = (item_rows * _VECTORS_TILES, 2 * width), (1, 1, 1)
        shape = {"ITEM_ROWS": item_rows, "TILE_ROWS": tile[0], "DEPTH": _VECTORS_DEPTH}
        made = program("matmul_vectors", COMPUTE="float32", WIDTH=width, **shape)
    else:
        blocking = _blocking(rows * math.prod(walk.sizes), columns, properties)
        tile, local = (blocking.rows, blocking.columns), (blocking.group_columns, blocking.group_rows, 1)
        by_rows = {"A_BY_ROWS": _is_by_rows(left, rows), "B_BY_ROWS": _is_by_rows(right, int(sizes["inner"]))}
        compute = computed_in(result_type(left.view.dtype, right.view.dtype))
        shape = {name.upper(): size for name, size in blocking._asdict().items()}
        made = program("matmul", COMPUTE=compute, **dtypes, **by_rows, **shape)
    sizes["row_tiles"], sizes["column_tiles"] = -(-rows // tile[0]), -(-columns // tile[1])
    groups = math.prod(walk.sizes) * int(sizes["row_tiles"]) * int(sizes["column_tiles"])
    arguments = (out, left.view, right.view, walk.structure, sizes.tobytes())
    return Launch(made, "matmul", (groups, 1, 1), local, arguments)


def _is_by_rows(side: Side, rows: int) -> int:
    """Whether neighbors of a row are nearer in memory than those of a column."""
    return int(rows == 1 or abs(side.column) <= abs(side.row))
