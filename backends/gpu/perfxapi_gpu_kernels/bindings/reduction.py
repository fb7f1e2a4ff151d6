"""Sums, products and extremes over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import dtype_of
from perfxapi_gpu_kernels.bindings.elementwise import check_computable, computed_in
from perfxapi_gpu_kernels.bindings.lines import Lines, lines_of
from perfxapi_gpu_kernels.bindings.walking import check_walkable, grid, line_group, merged, vector_width
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_CHUNK, _LANES = 4096, 16
_FUNCTIONS = {
    "sum": ("apply_add", "0"),
    "prod": ("apply_multiply", "1"),
    "max": ("apply_maximum", "LOWEST"),
    "min": ("apply_minimum", "HIGHEST"),
}


def check_lines(call: OpCall, properties: Properties) -> str | None:
    """None, or why kernels do not compute along lines of the first operand."""
    return check_computable(call.inputs[0].dtype, properties) or check_walkable(call)


def num_chunks(length: int, size: int) -> int:
    """Chunks of a line; one where it is empty."""
    return max(1, -(-length // size))


def _accumulated_in(call: OpCall, properties: Properties) -> str:
    """The dtype of partial results. Every factor of a product costs half a unit in the last place, so that float32 is
    not enough for many of them.
    """
    compute = computed_in(call.inputs[0].dtype)
    return "float64" if call.op == "prod" and compute == "float32" and properties.has_double else compute


def _workspace(call: OpCall, properties: Properties) -> int:
    lines = lines_of(call.inputs[0], call.attributes["axes"])
    total, length = 0, lines.length
    while length > _CHUNK:
        length = num_chunks(length, _CHUNK)
        total += lines.num_lines * length
    return total * dtype_of(_accumulated_in(call, properties)).itemsize


@bind_op(*_FUNCTIONS, accepts=check_lines, workspace=_workspace)
def _reduce(request: Request) -> list[Launch]:
    call = request.call
    (x,), (out,) = call.inputs, call.outputs
    compute = _accumulated_in(call, request.properties)
    function, identity = _FUNCTIONS[call.op]
    defines = {"FUNCTION": function, "IDENTITY": identity, "COMPUTE": compute, "CHUNK": _CHUNK}
    lines, dtype = lines_of(x, call.attributes["axes"]), x.dtype.name
    source: Argument = x
    if not lines.num_lines:
        return []
    launches, place = [], 0
    while True:
        chunks = num_chunks(lines.length, _CHUNK)
        target: Argument = out
        if chunks > 1:
            target, place = _part(request.workspace, place, lines.num_lines * chunks * dtype_of(compute).itemsize)
        result = compute if chunks > 1 else out.dtype.name
        launches.append(_pass(request.properties, lines, target, source, {"A": dtype, "RESULT": result, **defines}))
        if chunks == 1:
            return launches
        lines, source, dtype = _lines_of_parts(lines.num_lines, chunks), target, compute


def _part(workspace: Region | None, place: int, nbytes: int) -> tuple[Region, int]:
    assert workspace is not None
    return Region(workspace.memory, workspace.offset + place, nbytes), place + nbytes


def _lines_of_parts(count: int, chunks: int) -> Lines:
    return Lines(merged((count,), ((1,), (chunks,))), merged((chunks,), ((1,), (1,))))


def _pass(properties: Properties, lines: Lines, out: Argument, source: Argument, defines: dict[str, Any]) -> Launch:
    """Lines of elements become lines of the results of their chunks."""
    length, chunks = lines.length, num_chunks(lines.length, _CHUNK)
    kept_step = 1 if lines.kept.strides[1][0] == 1 else -1
    stride = -1 if len(lines.along.sizes) > 1 else int(lines.along.strides[1][0] == 1)
    width = vector_width(properties, *(defines[name] for name in ("A", "COMPUTE", "RESULT")))
    if lines.are_columns and (kept_step != 1 or lines.kept.columns < width):
        width = 1
    height = max(1, min(256, properties.max_group_size) // _LANES)
    defines = {**defines, "LANES": _LANES, "HEIGHT": height, "WIDTH": width}
    made = program("reduce", **defines, STRIDE=stride, KEPT_STEP=kept_step)
    walks = (out, source, lines.kept.structure, lines.along.structure)
    if lines.are_columns:
        most = 16 if width > 1 else 256  # the chunks of a line take long enough
        (groups, _, _), local, tiles = grid(lines.kept, properties, width, most)
        sizes = (lines.kept.columns, lines.kept.rows, tiles, length, chunks)
        return Launch(made, "reduce_columns", (groups * chunks, 1, 1), local, (*walks, *(np.int32(n) for n in sizes)))
    numbers = (np.int32(lines.num_lines), np.int32(length), np.int32(chunks))
    if width > 1:
        groups, size = line_group(lines.num_lines * chunks, properties)
        return Launch(made, "reduce_rows", (groups, 1, 1), (size, 1, 1), (*walks, *numbers))
    groups = -(-lines.num_lines * chunks // height)
    return Launch(made, "reduce_rows", (groups, 1, 1), (_LANES, height, 1), (*walks, *numbers))
