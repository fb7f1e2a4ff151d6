"""What is done with rows: softmax and its kin, the largest items, rows taken by their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.accepting import has_contiguous_rows, num_rows, row_stride
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import program

SEGMENT = 1024
"""Items of a row that a work-group looks through, as in `order.h`."""
_WORDS = {1: "uchar", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}


def accepts_rows(call: OpCall, properties: Properties) -> str | None:
    """Whether the first operand has contiguous rows of float32."""
    x = call.inputs[0]
    if x.dtype.name != "float32":
        return f"{call.op} of {x.dtype.name}"
    return None if has_contiguous_rows(x) else f"{call.op} of rows with gaps"


def num_segments(columns: int) -> int:
    """Segments of a row."""
    return -(-columns // SEGMENT)


@bind_op("softmax", "log_softmax", "logsumexp", accepts=accepts_rows)
def _softmax(request: Request) -> list[Launch]:
    (x,), (y,) = request.call.inputs, request.call.outputs
    rows, columns = num_rows(x), int(x.shape[-1])
    if not rows or not columns:
        return []
    group = row_group(columns, request.properties)
    arguments = (x, y, np.int32(columns), np.int64(row_stride(x)))
    return [Launch(program("softmax", GROUP=group), request.call.op, (rows, 1, 1), (group, 1, 1), arguments)]


def _topk_workspace(call: OpCall, properties: Properties) -> int:
    x = call.inputs[0]
    return 8 * num_rows(x) * num_segments(int(x.shape[-1]))


def topk_launches(
    properties: Properties, x: Argument, stride: int, shape: tuple[int, int], bests: Region, outputs: Sequence[View]
) -> list[Launch]:
    """The k largest items of each row of `x`, k as wide as the outputs. `bests` is scratch of 8 bytes a segment."""
    (rows, columns), k = shape, int(outputs[0].shape[-1])
    group, segments = row_group(SEGMENT, properties), num_segments(columns)
    built, sizes = program("topk", GROUP=group), (np.int32(columns), np.int64(stride))
    chosen = (x, bests, *outputs, *sizes, np.int32(segments), np.int32(k))
    return [
        Launch(built, "segment_bests", (rows, segments, 1), (group, 1, 1), (x, bests, *sizes, np.int32(0))),
        Launch(built, "take_bests", (rows, 1, 1), (group, 1, 1), chosen),
    ]


@bind_op("topk", accepts=accepts_rows, workspace=_topk_workspace)
def _topk(request: Request) -> list[Launch]:
    (x,), outputs = request.call.inputs, request.call.outputs
    rows, columns = num_rows(x), int(x.shape[-1])
    if not rows or request.workspace is None:
        return []
    return topk_launches(request.properties, x, row_stride(x), (rows, columns), request.workspace, outputs)


def _accepts_take_rows(call: OpCall, properties: Properties) -> str | None:
    x, indices = call.inputs
    if x.dtype.itemsize not in _WORDS:
        return f"take_rows of {x.dtype.name}"
    return None if has_contiguous_rows(x) and indices.is_contiguous else "take_rows of rows with gaps"


@bind_op("take_rows", accepts=_accepts_take_rows)
def _take_rows(request: Request) -> list[Launch]:
    x, indices = request.call.inputs
    count, columns = int(indices.shape[0]), int(x.shape[1])
    if not count:
        return []
    group = min(256, request.properties.max_group_size)
    built = program("take_rows", WORD=_WORDS[x.dtype.itemsize])
    sizes = np.int32(columns), np.int64(row_stride(x)), np.int32(x.shape[0])
    groups = count, max(1, -(-columns // group)), 1
    arguments = (x, indices, request.call.outputs[0], *sizes)
    return [Launch(built, "take_rows", groups, (group, 1, 1), arguments, checks=True)]
