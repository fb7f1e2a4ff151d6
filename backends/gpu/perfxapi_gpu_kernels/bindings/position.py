"""Where extremes are."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.elementwise import computed_in
from perfxapi_gpu_kernels.bindings.lines import lines_of
from perfxapi_gpu_kernels.bindings.reduction import check_lines, num_chunks
from perfxapi_gpu_kernels.bindings.walking import line_group, vector_width
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import Program, program

_CHUNK, _LANES = 4096, 16
_BEYOND = {"argmax": "((a) > (b))", "argmin": "((a) < (b))"}


def _workspace(call: OpCall, properties: Properties) -> int:
    lines = lines_of(call.inputs[0], (call.attributes["axis"],))
    chunks = num_chunks(lines.length, _CHUNK)
    return 4 * lines.num_lines * chunks if chunks > 1 else 0


def _program(call: OpCall, width: int, height: int, result: str) -> Program:
    dtype = call.inputs[0].dtype
    defines: dict[str, str | int] = {"A": dtype.name, "COMPUTE": computed_in(dtype), "RESULT": result}
    defines |= {"WIDTH": width, "LANES": _LANES, "HEIGHT": height, "IS_BEYOND(a, b)": _BEYOND[call.op]}
    return program("position", CHUNK=_CHUNK, **defines)


@bind_op("argmax", "argmin", accepts=check_lines, workspace=_workspace)
def _position(request: Request) -> list[Launch]:
    call, properties = request.call, request.properties
    (x,), (out,), axis = call.inputs, call.outputs, int(call.attributes["axis"])
    lines = lines_of(x, (axis,))
    if not lines.num_lines:
        return []
    chunks = num_chunks(lines.length, _CHUNK)
    width = 1 if lines.are_columns else vector_width(properties, x.dtype.name)
    height = max(1, min(256, properties.max_group_size) // _LANES)
    made = _program(call, width, height, "int32" if chunks > 1 else "int64")
    found: Argument = request.workspace if chunks > 1 and request.workspace is not None else out
    stride = np.int64(lines.along.strides[1][0])
    sizes = (np.int32(lines.num_lines), np.int32(lines.length), np.int32(chunks), stride)
    arguments = (found, x, lines.kept.structure, *sizes)
    if lines.are_columns:
        count, size = line_group(lines.num_lines, properties)
        launches = [Launch(made, "position_columns", (count * chunks, 1, 1), (size, 1, 1), arguments)]
    elif width > 1:
        count, size = line_group(lines.num_lines * chunks, properties)
        launches = [Launch(made, "position_rows", (count, 1, 1), (size, 1, 1), arguments)]
    else:
        count = -(-lines.num_lines * chunks // height)
        launches = [Launch(made, "position_rows", (count, 1, 1), (_LANES, height, 1), arguments)]
    if chunks > 1:
        count, size = line_group(lines.num_lines, properties)
        last = (out, found, x, lines.kept.structure, np.int32(lines.num_lines), np.int32(chunks), stride)
        launches.append(Launch(made, "best_of_parts", (count, 1, 1), (size, 1, 1), last))
    return launches
