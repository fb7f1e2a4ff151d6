"""From logits to tokens: penalties and biases, sampling."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.accepting import row_stride
from perfxapi_gpu_kernels.bindings.rows import SEGMENT, accepts_rows, num_segments
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import program

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


def _places(rows: int, columns: int) -> tuple[int, int, int]:
    """Where the weights and the segments' sums begin in the workspace, after the segments' bests, and its size."""
    segments = num_segments(columns)
    weights = 8 * rows * segments
    masses = weights + 4 * rows * columns
    return weights, masses, masses + 4 * rows * segments


def _sample_workspace(call: OpCall, properties: Properties) -> int:
    rows, columns = (int(size) for size in call.inputs[0].shape)
    return _places(rows, columns)[2]


@bind_op("sample", accepts=_accepts_settings, workspace=_sample_workspace)
def _sample(request: Request) -> list[Launch]:
    logits, temperature, top_k, top_p, min_p, uniform = request.call.inputs
    rows, columns = (int(size) for size in logits.shape)
    if not rows or not columns or request.workspace is None:
        return []
    memory, begin, nbytes = request.workspace
    weights, masses, _ = (Region(memory, begin + place, nbytes - place) for place in _places(rows, columns))
    bests, segments = request.workspace, num_segments(columns)
    group = row_group(SEGMENT, request.properties)
    built, local = program("sample", GROUP=group), (group, 1, 1)
    sizes = np.int32(columns), np.int64(row_stride(logits))
    settings = temperature, top_k, top_p, min_p, uniform
    outputs = request.call.outputs
    return [
        Launch(built, "segment_bests", (rows, segments, 1), local, (logits, bests, *sizes)),
        Launch(
            built, "weigh", (rows, segments, 1), local, (logits, bests, temperature, min_p, weights, masses, *sizes)
        ),
        Launch(
            built,
            "draw",
            (rows, 1, 1),
            local,
            (logits, bests, weights, masses, *settings, *outputs, *sizes, np.int32(segments)),
            checks=True,
        ),
    ]
