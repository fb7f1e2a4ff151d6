"""Activations, alone, gated, and the bounding of logits."""

from __future__ import annotations

import math

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.accepting import dtypes_are, has_contiguous_rows, num_rows, row_stride
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import Program, program

_GROUP = 256


def _group(properties: Properties) -> int:
    return min(_GROUP, properties.max_group_size)


def _accepts_unary(call: OpCall, properties: Properties) -> str | None:
    if not dtypes_are(call, "float32"):
        return f"{call.op} of {call.inputs[0].dtype.name}"
    return None if call.inputs[0].is_contiguous else f"{call.op} of elements with gaps"


def _elementwise(request: Request, built: Program, entry: str) -> list[Launch]:
    (x,), (y,) = request.call.inputs, request.call.outputs
    count = math.prod(int(size) for size in x.shape)
    if not count:
        return []
    return [_flat(request.properties, built, entry, (x, y), count)]


def _flat(
    properties: Properties,
    built: Program,
    entry: str,
    operands: tuple[Argument, Argument],
    count: int,
    *numbers: Argument,
) -> Launch:
    group = _group(properties)
    return Launch(built, entry, (-(-count // group), 1, 1), (group, 1, 1), (*operands, np.int64(count), *numbers))


def softcap_launch(properties: Properties, x: Argument, y: Argument, count: int, softcap: float) -> Launch:
    """softcap * tanh(x / softcap) of so many contiguous elements."""
    return _flat(properties, program("softcap"), "softcap", (x, y), count, np.float32(softcap))


@bind_op("sigmoid", "silu", "gelu_tanh", "erf", "gelu", accepts=_accepts_unary)
def _unary(request: Request) -> list[Launch]:
    return _elementwise(request, program("activation", ACTIVATION=request.call.op), "unary")


@bind_op("softcap", accepts=_accepts_unary)
def _softcap(request: Request) -> list[Launch]:
    (x,), (y,), softcap = request.call.inputs, request.call.outputs, request.call.attributes["softcap"]
    count = math.prod(int(size) for size in x.shape)
    return [softcap_launch(request.properties, x, y, count, softcap)] if count else []


def _accepts_gated(call: OpCall, properties: Properties) -> str | None:
    gate, up = call.inputs
    if not dtypes_are(call, "float32"):
        return f"gated_activation of {gate.dtype.name} and {up.dtype.name}"
    if gate.shape != up.shape:
        return "gated_activation with broadcasting"
    return None if has_contiguous_rows(gate) and has_contiguous_rows(up) else "gated_activation of rows with gaps"


@bind_op("gated_activation", accepts=_accepts_gated)
def _gated(request: Request) -> list[Launch]:
    gate, up = request.call.inputs
    rows, columns = num_rows(gate), int(gate.shape[-1])
    if not rows or not columns:
        return []
    group = _group(request.properties)
    built = program("activation", ACTIVATION=request.call.attributes["activation"])
    sizes = np.int32(columns), np.int64(row_stride(gate)), np.int64(row_stride(up))
    groups = rows, -(-columns // group), 1
    return [Launch(built, "gated", groups, (group, 1, 1), (gate, up, request.call.outputs[0], *sizes))]
