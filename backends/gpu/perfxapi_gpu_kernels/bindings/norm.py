"""RMS normalization, alone and fused with residual additions."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.accepting import FLOATS, has_contiguous_rows, num_rows, row_stride
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import program


def _accepts(call: OpCall, properties: Properties) -> str | None:
    x, weight = call.inputs
    if x.dtype.name != "float32" or weight.dtype.name not in FLOATS:
        return f"rms_norm of {x.dtype.name} with a weight of {weight.dtype.name}"
    return None if has_contiguous_rows(x) and weight.is_contiguous else "rms_norm of rows with gaps"


@bind_op("rms_norm", accepts=_accepts)
def _rms_norm(request: Request) -> list[Launch]:
    x, weight = request.call.inputs
    rows, columns = num_rows(x), int(x.shape[-1])
    if not rows or not columns:
        return []
    group = row_group(columns, request.properties)
    arguments = (x, weight, request.call.outputs[0], np.int32(columns), np.int64(row_stride(x)))
    return [
        Launch(
            program("norm", GROUP=group, WEIGHT=weight.dtype.name),
            "rms_norm",
            (rows, 1, 1),
            (group, 1, 1),
            (*arguments, np.float32(request.call.attributes["eps"])),
        )
    ]
