"""Rotary embedding: its table, the rotation, and the rotation of normalized heads."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.accepting import FLOATS, has_contiguous_rows, lanes_in_group, row_stride
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op, row_group
from perfxapi_gpu_kernels.sources import Program, program


def _accepts_table(call: OpCall, properties: Properties) -> str | None:
    positions, frequencies = call.inputs
    if frequencies.dtype.name != "float32":
        return f"rope_table with frequencies of {frequencies.dtype.name}"
    plain = positions.is_contiguous and frequencies.is_contiguous
    return None if plain else "rope_table of operands with gaps"


@bind_op("rope_table", accepts=_accepts_table)
def _rope_table(request: Request) -> list[Launch]:
    positions, frequencies = request.call.inputs
    tokens, half = int(positions.shape[0]), int(frequencies.shape[0])
    if not tokens or not half:
        return []
    group = row_group(half, request.properties)
    arguments = (positions, frequencies, request.call.outputs[0], np.int32(half))
    scale = np.float32(request.call.attributes["scale"])
    built = program("rope", GROUP=group, WIDTH=1, WEIGHT="float32", INTERLEAVED=0)
    return [Launch(built, "rope_table", (tokens, -(-half // group), 1), (group, 1, 1), (*arguments, scale))]


def _refusal(call: OpCall, x: View, table: View) -> str | None:
    if x.dtype.name != "float32" or table.dtype.name != "float32":
        return f"{call.op} of {x.dtype.name} by a table of {table.dtype.name}"
    heads_in_rows = x.strides[-1] == x.dtype.itemsize or x.shape[-1] == 1
    return None if heads_in_rows and has_contiguous_rows(table) else f"{call.op} of heads with gaps"


def _accepts_rope(call: OpCall, properties: Properties) -> str | None:
    return _refusal(call, *call.inputs)


def _accepts_norm_rope(call: OpCall, properties: Properties) -> str | None:
    x, weight, table = call.inputs
    if weight.dtype.name not in FLOATS or not weight.is_contiguous:
        return f"norm_rope with a weight of {weight.dtype.name}"
    return _refusal(call, x, table)


def _steps(x: View, table: View) -> tuple[np.int64, np.int64, np.int64]:
    """Elements from a token to the next, from a head to the next, and from a row of the table to the next."""
    token, head = (int(step) // x.dtype.itemsize for step in x.strides[:2])
    return np.int64(token), np.int64(head), np.int64(row_stride(table))


def _launch(request: Request, x: View, weight_dtype: str, arguments: tuple[Argument, ...]) -> list[Launch]:
    """One work-group for each head of each token."""
    tokens, heads, dim = (int(size) for size in x.shape)
    if not tokens or not heads or not dim:
        return []
    built, group = _program(request, dim, weight_dtype)
    return [Launch(built, request.call.op, (tokens, heads, 1), (group, 1, 1), arguments)]


def _program(request: Request, dim: int, weight_dtype: str) -> tuple[Program, int]:
    group = row_group(max(dim // 2, 1), request.properties)
    interleaved = request.call.attributes["interleaved"] != 0
    lanes = {"GROUP": group, "WIDTH": 1} if interleaved else lanes_in_group(request.properties, most=group)
    return program("rope", WEIGHT=weight_dtype, INTERLEAVED=int(interleaved), **lanes), lanes["GROUP"]


@bind_op("rope", accepts=_accepts_rope)
def _rope(request: Request) -> list[Launch]:
    x, table = request.call.inputs
    sizes = np.int32(x.shape[-1]), np.int32(int(table.shape[-1]) // 2)
    return _launch(request, x, "float32", (x, table, request.call.outputs[0], *sizes, *_steps(x, table)))


@bind_op("norm_rope", accepts=_accepts_norm_rope)
def _norm_rope(request: Request) -> list[Launch]:
    x, weight, table = request.call.inputs
    sizes = (np.int32(int(x.shape[-1]) // 2), *_steps(x, table), np.float32(request.call.attributes["eps"]))
    return _launch(request, x, weight.dtype.name, (x, weight, table, request.call.outputs[0], *sizes))
