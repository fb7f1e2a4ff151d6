"""Order, and places in what is ordered."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import result_type
from perfxapi_gpu_kernels.bindings.elementwise import check_computable, computed_in
from perfxapi_gpu_kernels.bindings.lines import lines_of
from perfxapi_gpu_kernels.bindings.walking import check_walkable, element_strides, grid, line_group, walk_of
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_BLOCK = 256


def _accepts_sort(call: OpCall, properties: Properties) -> str | None:
    if call.inputs[0].dtype.kind == "complex":
        return "no order of complex numbers"
    return refuse_small_groups(properties) or check_walkable(call)


def refuse_small_groups(properties: Properties) -> str | None:
    """None, or why a block cannot be sorted."""
    return "work-groups are too small to sort in" if properties.max_group_size < _BLOCK else None


def _key_bytes(call: OpCall) -> int:
    return 8 if call.inputs[0].dtype.itemsize == 8 else 4


def _workspace(call: OpCall, properties: Properties) -> int:
    lines = lines_of(call.inputs[0], (call.attributes["axis"],))
    return 2 * lines.num_lines * lines.length * (_key_bytes(call) + 4)


@bind_op("argsort", accepts=_accepts_sort, workspace=_workspace)
def _argsort(request: Request) -> list[Launch]:
    call, properties = request.call, request.properties
    (x,), (out,), axis = call.inputs, call.outputs, int(call.attributes["axis"])
    lines = lines_of(x, (axis,), out)
    count, length = lines.num_lines, lines.length
    if not count or not length:
        return []
    assert request.workspace is not None
    keys, places = _halves(request.workspace, count * length, _key_bytes(call))
    defines: dict[str, Any] = {"A": x.dtype.name, "COMPUTE": "float32" if x.dtype.kind == "float" else "int32"}
    defines |= {"IS_FLOATING": int(x.dtype.kind == "float"), "IS_SIGNED": int(x.dtype.kind == "int")}
    descending = int(bool(call.attributes["descending"]))
    made = program("sort", KEY_BYTES=_key_bytes(call), BLOCK=_BLOCK, DESCENDING=descending, **defines)
    out_stride, stride = (np.int64(strides[0]) for strides in lines.along.strides)
    blocks = -(-length // _BLOCK)
    first = (keys[0], places[0], x, lines.kept.structure, np.int32(length), np.int32(blocks), stride)
    launches = [Launch(made, "sort_blocks", (count * blocks, 1, 1), (_BLOCK, 1, 1), first)]
    tiles, size = line_group(length, properties)
    whole, local = (count * tiles, 1, 1), (size, 1, 1)
    width, now = _BLOCK, 0
    while width < length:
        buffers = (keys[1 - now], places[1 - now], keys[now], places[now])
        sizes = (np.int32(length), np.int32(width), np.int32(tiles))
        launches.append(Launch(made, "merge_runs", whole, local, (*buffers, *sizes)))
        width, now = 2 * width, 1 - now
    last = (out, places[now], lines.kept.structure, np.int32(length), np.int32(tiles), out_stride)
    return [*launches, Launch(made, "store_order", whole, local, last)]


def _halves(workspace: Region, count: int, key_bytes: int) -> tuple[tuple[Region, Region], tuple[Region, Region]]:
    """Two areas for keys and two for places."""

    def part(offset: int, width: int) -> Region:
        return Region(workspace.memory, workspace.offset + count * offset, count * width)

    keys = (part(0, key_bytes), part(key_bytes, key_bytes))
    return keys, (part(2 * key_bytes, 4), part(2 * key_bytes + 4, 4))


def _accepts_search(call: OpCall, properties: Properties) -> str | None:
    edges, values = call.inputs
    return check_computable(result_type(edges.dtype, values.dtype), properties) or check_walkable(call)


@bind_op("searchsorted", accepts=_accepts_search)
def _searchsorted(request: Request) -> list[Launch]:
    (edges, values), (out,) = request.call.inputs, request.call.outputs
    if 0 in out.shape:
        return []
    walk = walk_of(out.shape, out, values)
    groups, local, tiles = grid(walk, request.properties)
    defines: dict[str, str | int] = {"A": edges.dtype.name, "B": values.dtype.name}
    defines |= {"COMPUTE": computed_in(result_type(edges.dtype, values.dtype))}
    made = program("search", FROM_RIGHT=int(request.call.attributes["side"] == "right"), **defines)
    numbers = (np.int64(walk.columns), np.int32(walk.rows), np.int32(tiles))
    along = (np.int64(int(edges.shape[0])), np.int64(element_strides(edges, edges.shape)[0]))
    arguments = (out, edges, values, walk.structure, *numbers, *along)
    return [Launch(made, "searchsorted", groups, local, arguments)]
