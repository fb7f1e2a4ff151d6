"""From logits to tokens: penalties and biases, sampling."""

from __future__ import annotations

import itertools

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.accepting import row_stride
from perfxapi_gpu_kernels.bindings.rows import SEGMENT, accepts_rows, num_segments
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import program

_NUM_MASSES = 5  # as in sample.h
_ROWS_AT_ONCE = 16
"""Rows that have memory of their own while they are sampled."""
_FLAT = 64
"""Work-items of a group that works on numbers one by one."""


def _accepts_settings(call: OpCall, properties: Properties) -> str | None:
    """Rows of logits, and settings that are contiguous float32 or int32."""
    for view in call.inputs[1:]:
        if view.dtype.name not in ("float32", "int32"):
            return f"{call.op} with settings of {view.dtype.name}"
        if not view.is_contiguous:
            return f"{call.op} with settings that have gaps"
    return accepts_rows(call, properties)


@bind_op("adjust_logits", accepts=_accepts_settings)
def _adjust_logits(request: Request) -> list[Launch]:
    logits, ids, starts, counts, repetition, frequency, presence, rows_of, ids_of, values = request.call.inputs
    rows, columns = (int(size) for size in logits.shape)
    num_ids, num_biases = int(ids.shape[0]), int(rows_of.shape[0])
    stride, local = np.int64(row_stride(logits)), (_FLAT, 1, 1)
    built = program("adjust_logits")

    def launch(entry: str, groups: int, *arguments: object) -> Launch:
        return Launch(built, entry, (groups, 1, 1), local, arguments, checks=True)  # type: ignore[arg-type]

    if not rows and not num_ids and not num_biases:
        return []
    checked = max(rows, num_ids, num_biases)
    sizes = np.int32(rows), np.int32(columns), np.int32(num_ids), np.int32(num_biases)
    launches = [launch("check_adjustment", -(-checked // _FLAT), ids, starts, rows_of, ids_of, *sizes)]
    if rows and num_ids:
        penalties = repetition, frequency, presence
        launches.append(launch("penalize", rows, logits, ids, starts, counts, *penalties, stride))
    if num_biases:
        biases = rows_of, ids_of, values, np.int32(num_biases)
        launches.append(launch("add_biases", -(-num_biases // _FLAT), logits, *biases, stride))
    return launches


def _places(rows: int, columns: int, group: int) -> tuple[int, ...]:
    """Where in the workspace begin, for so many rows: the segments' bests, ranks and weights of lists, the segments'
    sums; and its size.
    """
    segments, room = num_segments(columns), -(-columns // group) * group
    sizes = 8 * rows * segments, 8 * rows * room, 4 * rows * room, 4 * rows * segments * _NUM_MASSES
    return (0, *itertools.accumulate(sizes))


def _sample_workspace(call: OpCall, properties: Properties) -> int:
    rows, columns = (int(size) for size in call.inputs[0].shape)
    return _places(min(rows, _ROWS_AT_ONCE), columns, row_group(SEGMENT, properties))[-1]


@bind_op("sample", accepts=_accepts_settings, workspace=_sample_workspace)
def _sample(request: Request) -> list[Launch]:
    rows, columns = (int(size) for size in request.call.inputs[0].shape)
    if not rows or not columns:
        return []
    return [
        launch
        for first in range(0, rows, _ROWS_AT_ONCE)
        for launch in _sample_rows(request, first, min(rows - first, _ROWS_AT_ONCE), columns)
    ]


def _sample_rows(request: Request, first: int, rows: int, columns: int) -> list[Launch]:
    """Some rows, which share the workspace with those before them."""
    logits, temperature, top_k, top_p, min_p, uniform = request.call.inputs
    group, segments = row_group(SEGMENT, request.properties), num_segments(columns)
    assert request.workspace is not None
    memory, begin, nbytes = request.workspace
    places = _places(rows, columns, group)[:-1]
    bests, ranks, weights, masses = (Region(memory, begin + place, nbytes - place) for place in places)
    built, local = program("sample", GROUP=group), (group, 1, 1)
    sizes = np.int32(columns), np.int64(row_stride(logits)), np.int32(first)
    settings = temperature, top_k, top_p, min_p, uniform
    outputs: tuple[Argument, ...] = (*request.call.outputs, *sizes, np.int32(segments))
    by_segment, by_row = (rows, segments, 1), (rows, 1, 1)
    return [
        Launch(built, "segment_bests", by_segment, local, (logits, bests, *sizes)),
        Launch(built, "weigh", by_segment, local, (logits, bests, temperature, min_p, masses, *sizes)),
        Launch(built, "draw", by_row, local, (logits, bests, masses, ranks, weights, *settings, *outputs), checks=True),
    ]
