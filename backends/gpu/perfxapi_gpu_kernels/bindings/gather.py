"""Elements and rows chosen by indices."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.elementwise import copied_as
from perfxapi_gpu_kernels.bindings.walking import (
    Strides,
    check_walkable,
    element_strides,
    grid,
    in_large_blocks,
    line_group,
    merged,
)
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program


def _accepts(call: OpCall, properties: Properties) -> str | None:
    return check_walkable(call)


@bind_op("take", accepts=_accepts)
def _take(request: Request) -> list[Launch]:
    x, indices = request.call.inputs
    axis = int(request.call.attributes["axis"])
    own = element_strides(x, x.shape)
    x_strides = (*own[:axis], *(0,) * len(indices.shape), *own[axis + 1 :])
    after = (0,) * (len(x.shape) - axis - 1)
    return _gather(request, axis, x_strides, ((0,) * axis, element_strides(indices, indices.shape), after))


@bind_op("take_along_axis", accepts=_accepts)
def _take_along_axis(request: Request) -> list[Launch]:
    x, indices = request.call.inputs
    axis, shape = int(request.call.attributes["axis"]), request.call.outputs[0].shape
    own = element_strides(x, (*shape[:axis], x.shape[axis], *shape[axis + 1 :]))
    return _gather(request, axis, (*own[:axis], 0, *own[axis + 1 :]), (element_strides(indices, shape),))


def _gather(request: Request, axis: int, x_strides: Strides, index_strides: tuple[Strides, ...]) -> list[Launch]:
    (x, indices), (out,) = request.call.inputs, request.call.outputs
    if 0 in out.shape:
        return []
    shape = tuple(int(size) for size in out.shape)
    walk = merged(shape, (element_strides(out, shape), x_strides, sum(index_strides, ())))
    size, stride, itemsize = int(x.shape[axis]), int(x.strides[axis]), x.dtype.itemsize
    if stride % 16 == 0:
        walk, itemsize = in_large_blocks(walk, out, x)
    groups, local, tiles = grid(walk, request.properties)
    out_step, x_step, index_step = walk.steps
    kind = f"copy{itemsize}"
    steps = {"OUT_STEP": out_step, "X_STEP": x_step, "INDEX_STEP": index_step}
    made = program("gather", KIND=kind, COMPUTE=kind, INDEX=indices.dtype.name, **steps)
    numbers = (np.int64(walk.columns), np.int32(walk.rows), np.int32(tiles))
    along = (np.int64(size), np.int64(stride // itemsize))
    arguments = (out, x, indices, walk.structure, *numbers, *along)
    return [Launch(made, "gather", groups, local, arguments, checks=True)]


def _writers_workspace(call: OpCall, properties: Properties) -> int:
    return 4 * int(call.inputs[0].shape[0])


@bind_op("put_rows", accepts=_accepts, workspace=_writers_workspace)
def _put_rows(request: Request) -> list[Launch]:
    target, indices, values = request.call.inputs
    count, rows, columns = int(indices.shape[0]), int(target.shape[0]), int(target.shape[1])
    if not count:
        return []
    writers = request.workspace if request.workspace is not None else indices
    kind = copied_as(target.dtype)
    made = program("gather", KIND=kind, COMPUTE=kind, INDEX=indices.dtype.name, OUT_STEP=1, X_STEP=1, INDEX_STEP=1)
    groups, size = line_group(count, request.properties)
    stride = np.int64(element_strides(indices, indices.shape)[0])
    check = (indices, writers, np.int32(count), stride, np.int64(rows))
    launches = [
        Launch(made, name, (groups, 1, 1), (size, 1, 1), check, checks=True) for name in ("put_check", "put_claim")
    ]
    if not columns:
        return launches[:1]
    local = (16, 16, 1) if columns <= 32 else (256, 1, 1)
    tiles = -(-columns // local[0])
    strides = (*element_strides(target, target.shape), *element_strides(values, values.shape))
    along = (stride, np.int64(rows), *(np.int64(step) for step in strides))
    write = (target, indices, values, writers, np.int32(count), np.int32(columns), np.int32(tiles), *along)
    whole = (tiles * -(-count // local[1]), 1, 1)
    return [*launches, Launch(made, "put_rows", whole, local, write, checks=True)]
