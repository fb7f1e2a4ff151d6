"""Arrays that outlive a call: constants (weights) and state (a KV cache)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array
from perfxapi.device import Device
from perfxapi.dispatch import note_loss
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import DeviceLostError, InvalidArgumentError
from perfxapi.indexing import MAX_NDIM
from perfxapi.memory import Buffer, View, check_addressable
from perfxapi.policy import get_device


def constant(
    data: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]],
    dtype: DType | str | None = None,
    shape: Sequence[int] | None = None,
    *,
    name: str = "",
    release: Callable[[], None] | None = None,
    device: Device | str | None = None,
) -> Array:
    """An array that never changes (a weight), over `data` without a copy.

    `data` is the values, or with `dtype` and `shape` their raw bytes (for quantized types and bfloat16). Backends may
    keep a form of their own and then call `release`; `data` must remain readable. A function, which needs `dtype` and
    `shape`, returns these bytes when they are read; they are dropped on release, and made again where they must.
    """
    if callable(data):
        if dtype is None or shape is None:
            raise InvalidArgumentError(f"constant {name!r}: data made on demand needs a dtype and a shape")
        return _constant_on_demand(data, dtype_of(dtype), shape, name, release, get_device(device))
    kind = dtype_of(dtype if dtype is not None else data.dtype)
    sizes = checked_sizes("constant", shape if shape is not None else data.shape, kind)
    raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if raw.__array_interface__["data"][0] % min(kind.numpy.itemsize if not kind.is_quantized else 2, 16):
        raw = raw.copy()  # kernels read whole elements
    expected = View(None, kind, sizes).nbytes
    if raw.nbytes != expected:
        raise InvalidArgumentError(
            f"constant {name!r}: {sizes} of {kind.name} takes {expected} bytes; got {raw.nbytes}"
        )
    buffer = Buffer.from_host(raw, name=name, constant=True)
    buffer.release = release
    return Array(View(buffer, kind, sizes), get_device(device))


def _constant_on_demand(
    make: Callable[[], npt.NDArray[Any]],
    dtype: DType,
    shape: Sequence[int],
    name: str,
    release: Callable[[], None] | None,
    device: Device,
) -> Array:
    sizes = checked_sizes("constant", shape, dtype)
    expected = View(None, dtype, sizes).nbytes

    def make_bytes() -> npt.NDArray[np.uint8]:
        raw = np.ascontiguousarray(make()).reshape(-1).view(np.uint8)
        if raw.nbytes != expected:
            raise InvalidArgumentError(
                f"constant {name!r}: {sizes} of {dtype.name} takes {expected} bytes; {raw.nbytes} were made"
            )
        return raw

    buffer = Buffer.on_demand(expected, make_bytes, name=name)
    buffer.release = release
    return Array(View(buffer, dtype, sizes), device)


def checked_sizes(what: str, shape: Sequence[int], dtype: DType) -> tuple[int, ...]:
    """A shape that memory can hold. Raises InvalidArgumentError."""
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise InvalidArgumentError(f"{what}: the shape must be whole numbers; got {shape!r}") from None
    if any(size < 0 for size in sizes) or len(sizes) > MAX_NDIM:
        raise InvalidArgumentError(
            f"{what}: {sizes} is not a shape: sizes must not be negative, nor more than {MAX_NDIM}"
        )
    if dtype.is_quantized and (not sizes or sizes[-1] % dtype.block_size):
        raise InvalidArgumentError(f"{what}: {dtype.name} needs rows of a multiple of {dtype.block_size}; got {sizes}")
    check_addressable(what, sizes, dtype)
    return sizes


def state(shape: Sequence[int], dtype: DType | str, *, device: Device | str | None = None, name: str = "") -> Array:
    """Zeros that ops write in place and that live on one device (a KV cache). Pages cost memory only when written."""
    kind, home = dtype_of(dtype), get_device(device)
    if kind.is_quantized:
        raise InvalidArgumentError(f"state {name!r}: {kind.name} cannot be written element by element")
    sizes = checked_sizes("state", shape, kind)
    try:
        buffer = Buffer.state(View(None, kind, sizes).nbytes, home.memory_space, name=name)
    except DeviceLostError as error:
        note_loss(error, home)
        raise
    return Array(View(buffer, kind, sizes), home)
