"""Running sums and products."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import dtype_of
from perfxapi_gpu_kernels.bindings.elementwise import computed_in
from perfxapi_gpu_kernels.bindings.lines import lines_of
from perfxapi_gpu_kernels.bindings.reduction import check_lines, num_chunks
from perfxapi_gpu_kernels.bindings.walking import line_group
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_CHUNK = 512
_FUNCTIONS = {"cumulative_sum": ("apply_add", "0"), "cumulative_prod": ("apply_multiply", "1")}


def _workspace(call: OpCall, properties: Properties) -> int:
    lines = lines_of(call.inputs[0], (call.attributes["axis"],))
    chunks = num_chunks(lines.length, _CHUNK)
    return dtype_of(computed_in(call.inputs[0].dtype)).itemsize * lines.num_lines * chunks if chunks > 1 else 0


@bind_op(*_FUNCTIONS, accepts=check_lines, workspace=_workspace)
def _scan(request: Request) -> list[Launch]:
    call, properties = request.call, request.properties
    (x,), (out,), axis = call.inputs, call.outputs, int(call.attributes["axis"])
    lines = lines_of(x, (axis,), out)
    if not lines.num_lines or not lines.length:
        return []
    chunks = num_chunks(lines.length, _CHUNK)
    function, identity = _FUNCTIONS[call.op]
    defines: dict[str, str | int] = {"FUNCTION": function, "IDENTITY": identity, "COMPUTE": computed_in(x.dtype)}
    made = program("scan", A=x.dtype.name, CHUNK=_CHUNK, **defines)
    count, size = line_group(lines.num_lines, properties)
    out_stride, stride = (np.int64(strides[0]) for strides in lines.along.strides)
    num_lines, numbers = np.int32(lines.num_lines), np.int32(chunks)
    totals: Argument = request.workspace if request.workspace is not None else out
    elements = (out, x, totals, lines.kept.structure, num_lines, np.int32(lines.length), numbers, out_stride, stride)
    launches = [Launch(made, "scan_chunks", (count * chunks, 1, 1), (size, 1, 1), elements)]
    if chunks > 1:
        parts = (totals, x, lines.kept.structure, num_lines, numbers, stride)
        launches = [
            Launch(made, "scan_totals", (count * chunks, 1, 1), (size, 1, 1), parts),
            Launch(made, "scan_starts", (count, 1, 1), (size, 1, 1), (totals, num_lines, numbers)),
            *launches,
        ]
    return launches
