"""Calls single native kernels of the cpu backend: every variant, any number of threads, any strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import perfxapi_backend_cpu
from perfxapi import dtypes
from perfxapi.dtypes import DType
from perfxapi.native import NativeLibrary

OK, UNSUPPORTED, INVALID_ARGUMENT = 0, 1, 2
STRIDED, TILE16, SPLIT16 = range(3)
GUARD_BYTES = 256
GUARD = 0xA5


@cache
def library(variant: str = "") -> NativeLibrary:
    """The backend's library, with the kernels of one variant."""
    return NativeLibrary(Path(perfxapi_backend_cpu.__file__).with_name("_native.so"), variant)


VARIANTS = library().supported_variants()


@cache
def pool(num_threads: int) -> Any:
    """A thread pool that lives as long as the process."""
    return library().lib.perfx_pool_create(num_threads, library().ffi.NULL, 50)


def aligned_bytes(size: int) -> np.ndarray:
    """`size` bytes on a 64-byte boundary, all of them GUARD."""
    raw = np.full(size + 64, GUARD, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


@dataclass(frozen=True)
class Packed:
    """A weight in tiles of 16 rows, and the rows it was made of: uint8 blocks if quantized, else numbers."""

    rows: np.ndarray
    dtype: DType
    shape: tuple[int, int]
    tiles: np.ndarray
    layout: int


def pack(rows: np.ndarray, dtype: DType, num_threads: int = 2, layout: int = TILE16) -> Packed:
    """Packs rows (uint8 [N, row_bytes] of a quantized dtype, else values [N, K] of the dtype's NumPy type)."""
    lib, ffi = library().lib, library().ffi
    columns = rows.shape[1] // dtype.block_bytes * dtype.block_size if dtype.is_quantized else rows.shape[1]
    source = np.ascontiguousarray(rows)
    nbytes = lib.perfx_packed_bytes(dtype.code, layout, len(rows), columns)
    assert nbytes >= 0
    tiles = aligned_bytes(nbytes + GUARD_BYTES)
    pointers = [ffi.cast("void*", array.ctypes.data) for array in (source, tiles)]
    assert lib.perfx_pack(pool(num_threads), dtype.code, layout, len(rows), columns, 0, len(rows), *pointers) == OK
    assert (tiles[nbytes:] == GUARD).all()
    return Packed(source, dtype, (len(rows), columns), tiles[:nbytes], layout)


def unpack(packed: Packed, num_threads: int = 2) -> np.ndarray:
    """The rows of a packed weight."""
    lib, ffi = library().lib, library().ffi
    rows = np.empty_like(packed.rows)
    pointers = [ffi.cast("void*", array.ctypes.data) for array in (packed.tiles, rows)]
    assert lib.perfx_unpack(pool(num_threads), packed.dtype.code, packed.layout, *packed.shape, *pointers) == OK
    return rows


@dataclass(frozen=True)
class Stored:
    """A table as it is stored: contiguous rows of a dtype, not packed."""

    rows: np.ndarray
    dtype: DType
    shape: tuple[int, int]


Operand = np.ndarray | Packed | Stored


def _fill(tensor: Any, operand: Operand, with_data: bool) -> None:
    ffi = library().ffi
    if isinstance(operand, np.ndarray):
        array, strides = operand, operand.strides
        tensor.dtype, shape = dtypes.dtype_of(operand.dtype).code, operand.shape
    else:
        tensor.dtype, shape = operand.dtype.code, operand.shape
        array = operand.tiles if isinstance(operand, Packed) else operand.rows
        strides = array.strides if isinstance(operand, Stored) else (0, 0)
        tensor.layout = operand.layout if isinstance(operand, Packed) else STRIDED
    tensor.ndim = len(shape)
    for axis, size in enumerate(shape):
        tensor.shape[axis], tensor.strides[axis] = size, strides[axis]
    tensor.data = ffi.cast("void*", array.ctypes.data) if with_data else ffi.NULL


def make_call(
    inputs: Sequence[Operand], outputs: Sequence[Operand], attributes: Sequence[int | float], with_data: bool = True
) -> tuple[Any, list[Any]]:
    """A PxCall, and what must stay alive while it is used."""
    ffi = library().ffi
    operands = ffi.new("PxTensor[]", len(inputs) + len(outputs))
    for tensor, operand in zip(operands, (*inputs, *outputs), strict=True):
        _fill(tensor, operand, with_data)
    attrs = ffi.new("PxAttr[]", max(1, len(attributes)))
    for attr, value in zip(attrs, attributes, strict=False):
        if isinstance(value, float):
            attr.f = value
        else:
            attr.i = value
    call = ffi.new("PxCall*")
    call.num_inputs, call.num_operands, call.num_attrs = len(inputs), len(operands), len(attributes)
    call.operands, call.attrs = operands, attrs
    return call, [operands, attrs, *inputs, *outputs]


def accepts(op: str, inputs: Sequence[Operand], outputs: Sequence[Operand], attributes: Sequence[int | float]) -> bool:
    """Whether the best variant's kernel takes a call, told without data."""
    call, _keep = make_call(inputs, outputs, attributes, with_data=False)
    return int(library().kernels[op].accepts(call)) == OK


def run(
    op: str,
    inputs: Sequence[Operand],
    outputs: Sequence[Operand],
    attributes: Sequence[int | float],
    variant: str = "",
    num_threads: int = 1,
) -> int:
    """Runs one kernel; returns its status. Fails if it writes past its workspace."""
    kernel = library(variant).kernels[op]
    call, _keep = make_call(inputs, outputs, attributes)
    assert kernel.accepts(call) == OK
    call.workspace_bytes = kernel.workspace(call, num_threads) if kernel.workspace else 0
    workspace = aligned_bytes(call.workspace_bytes + GUARD_BYTES)
    call.workspace = library().ffi.cast("void*", workspace.ctypes.data)
    status = int(library().lib.perfx_pool_run(pool(num_threads), kernel.run, call))
    assert (workspace[call.workspace_bytes :] == GUARD).all(), "the kernel wrote past its workspace"
    return status
