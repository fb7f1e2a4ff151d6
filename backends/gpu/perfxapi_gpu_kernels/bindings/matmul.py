"""Products of dense matrices."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import result_type
from perfxapi_gpu_kernels.bindings.elementwise import check_computable, computed_in
from perfxapi_gpu_kernels.bindings.walking import Strides, check_walkable, element_strides, merged
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_SIZES = ("rows", "inner", "columns", "row_tiles", "column_tiles", "padding")
_STRIDES = ("a_row", "a_column", "b_row", "b_column")
_PRODUCT = np.dtype([*((name, np.int32) for name in _SIZES), *((name, np.int64) for name in _STRIDES)])


class Blocking(NamedTuple):
    """How a work-group shares a tile (matmul.h)."""

    width: int
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
        return self.group_columns * self.item_columns * self.width

    @property
    def defines(self) -> dict[str, str | int]:
        """As matmul.h wants it."""
        return {name.upper(): value for name, value in self._asdict().items()}


_PROCESSOR = (Blocking(16, 1, 8, 8, 2, 32), Blocking(16, 1, 1, 4, 2, 32))
_PROCESSOR_OTHERS = (Blocking(1, 16, 4, 4, 2, 32), Blocking(1, 16, 1, 4, 1, 32))
_GPU = (Blocking(1, 16, 16, 4, 4, 16), Blocking(1, 16, 8, 2, 2, 16))
"""For each kind of device: a blocking for large products and one for small ones."""


def _blocking(rows: int, columns: int, compute: str, properties: Properties) -> Blocking:
    """Small tiles where there are not enough large ones to occupy the device, or their rows would be idle."""
    wide = properties.dialect == "opencl" and compute == "float32"
    large, small = (_PROCESSOR if wide else _PROCESSOR_OTHERS) if properties.is_processor else _GPU
    tiles = -(-rows // large.rows) * -(-columns // large.columns)
    return small if rows <= small.rows or tiles < properties.compute_units else large


def _accepts(call: OpCall, properties: Properties) -> str | None:
    a, b = call.inputs
    return check_computable(result_type(a.dtype, b.dtype), properties) or check_walkable(call)


def _batch_strides(strides: Strides, ndim: int) -> Strides:
    return (0,) * (ndim - len(strides)) + strides


@bind_op("matmul", accepts=_accepts)
def _matmul(request: Request) -> list[Launch]:
    (a, b), (out,) = request.call.inputs, request.call.outputs
    if 0 in out.shape:
        return []
    a_strides, b_strides = element_strides(a, a.shape), element_strides(b, b.shape)
    rows = int(a.shape[-2]) if len(a.shape) > 1 else 1
    columns = int(b.shape[-1]) if len(b.shape) > 1 else 1
    batch = tuple(int(size) for size in out.shape[: len(out.shape) - (len(a.shape) > 1) - (len(b.shape) > 1)])
    steps = [_batch_strides(strides[:-2], len(batch)) for strides in (a_strides, b_strides)]
    out_steps = element_strides(out, out.shape)[: len(batch)]
    walk = merged(batch, (out_steps, *steps))
    compute = computed_in(result_type(a.dtype, b.dtype))
    blocking = _blocking(rows * math.prod(batch), columns, compute, request.properties)
    sizes = np.zeros((), _PRODUCT)
    sizes["rows"], sizes["inner"], sizes["columns"] = rows, int(a.shape[-1]), columns
    sizes["row_tiles"], sizes["column_tiles"] = -(-rows // blocking.rows), -(-columns // blocking.columns)
    sizes["a_column"], sizes["b_row"] = a_strides[-1], b_strides[-2] if len(b.shape) > 1 else b_strides[-1]
    sizes["a_row"] = a_strides[-2] if len(a.shape) > 1 else 0
    sizes["b_column"] = b_strides[-1] if len(b.shape) > 1 else 0
    made = program(
        "matmul",
        A=a.dtype.name,
        B=b.dtype.name,
        RESULT=out.dtype.name,
        COMPUTE=compute,
        A_BY_ROWS=int(abs(int(sizes["a_column"])) <= abs(int(sizes["a_row"])) or rows == 1),
        B_BY_ROWS=int(abs(int(sizes["b_column"])) <= abs(int(sizes["b_row"])) and columns > 1),
        **blocking.defines,
    )
    groups = math.prod(batch) * int(sizes["row_tiles"]) * int(sizes["column_tiles"])
    local = (blocking.group_columns, blocking.group_rows, 1)
    return [Launch(made, "matmul", (groups, 1, 1), local, (out, a, b, walk.structure, sizes.tobytes()))]
