"""RMS normalization, alone and fused with residual additions."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.accepting import FLOATS, has_contiguous_rows, lanes_in_group, num_rows, row_stride
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import program


def _refusal(call: OpCall, rows: tuple[View, ...], weights: tuple[View, ...]) -> str | None:
    """Why rows of these operands are not normalized by these weights; None where they are."""
    if any(x.dtype.name != "float32" for x in rows):
        return f"{call.op} of {', '.join(x.dtype.name for x in rows)}"
    names = {weight.dtype.name for weight in weights}
    if len(names) > 1 or not names <= set(FLOATS):
        return f"{call.op} with weights of {', '.join(sorted(names))}"
    if not all(weight.is_contiguous for weight in weights) or not all(has_contiguous_rows(x) for x in rows):
        return f"{call.op} of rows with gaps"
    return None


def _launch(request: Request, columns: int, rows: int, weight: View, arguments: tuple[Argument, ...]) -> list[Launch]:
    """One work-group for each row."""
    if not rows or not columns:
        return []
    lanes = lanes_in_group(request.properties, most=row_group(columns, request.properties))
    built = program("norm", WEIGHT=weight.dtype.name, **lanes)
    eps = np.float32(request.call.attributes["eps"])
    return [Launch(built, request.call.op, (rows, 1, 1), (lanes["GROUP"], 1, 1), (*arguments, eps))]


def _accepts_rms_norm(call: OpCall, properties: Properties) -> str | None:
    x, weight = call.inputs
    return _refusal(call, (x,), (weight,))


@bind_op("rms_norm", accepts=_accepts_rms_norm)
def _rms_norm(request: Request) -> list[Launch]:
    x, weight = request.call.inputs
    columns = int(x.shape[-1])
    arguments = (x, weight, request.call.outputs[0], np.int32(columns), np.int64(row_stride(x)))
    return _launch(request, columns, num_rows(x), weight, arguments)


def _accepts_add_rms_norm(call: OpCall, properties: Properties) -> str | None:
    x, y, weight = call.inputs
    return _refusal(call, (x, y), (weight,))


@bind_op("add_rms_norm", accepts=_accepts_add_rms_norm)
def _add_rms_norm(request: Request) -> list[Launch]:
    x, y, weight = request.call.inputs
    columns = int(x.shape[-1])
    sizes = np.int32(columns), np.int64(row_stride(x)), np.int64(row_stride(y))
    return _launch(request, columns, num_rows(x), weight, (x, y, weight, *request.call.outputs, *sizes))


def _accepts_norm_add_rms_norm(call: OpCall, properties: Properties) -> str | None:
    y, post, x, pre = call.inputs
    return _refusal(call, (y, x), (post, pre))


@bind_op("norm_add_rms_norm", accepts=_accepts_norm_add_rms_norm)
def _norm_add_rms_norm(request: Request) -> list[Launch]:
    y, _, x, pre = request.call.inputs
    columns = int(x.shape[-1])
    sizes = np.int32(columns), np.int64(row_stride(y)), np.int64(row_stride(x))
    return _launch(request, columns, num_rows(x), pre, (*request.call.inputs, *request.call.outputs, *sizes))
