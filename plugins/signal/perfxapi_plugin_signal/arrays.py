"""What the functions share: signals as arrays, coefficients beside them, complex numbers as two real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array, DType
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError

SIGNALS = (px.float32, px.float64, px.complex64, px.complex128)
"""The dtypes of signals; integers and truth values become float64."""
_COMPLEX = {px.float32: px.complex64, px.float64: px.complex128}
_REAL = {px.complex64: px.float32, px.complex128: px.float64}


def as_signal(name: str, x: Any, *, like: Array | None = None) -> Array:
    """x as an array of one of the dtypes of signals, on its own device, or else on that of `like`.

    Raises InvalidDTypeError for float16, bfloat16 and quantized arrays, InvalidArgumentError for what is no array.
    """
    array = x if isinstance(x, Array) else px.asarray(x, device=like.device if like is not None else None)
    if array.dtype.kind in ("bool", "int", "uint"):
        return px.astype(array, px.float64)
    if array.dtype not in SIGNALS:
        raise InvalidDTypeError(f"{name}: a signal of {array.dtype.name} cannot be processed: use astype(x, float32)")
    return array


def on_axis(name: str, x: Any, axis: int) -> tuple[Array, int]:
    """A signal with the axis to be processed last, and that axis counted from the front."""
    signal = as_signal(name, x)
    if signal.ndim == 0:
        raise InvalidArgumentError(f"{name}: a signal has at least one dimension")
    if axis in (-1, signal.ndim - 1):
        return signal, signal.ndim - 1
    return px.moveaxis(signal, axis, -1), axis % signal.ndim


def back_to(place: int, rows: Array) -> Array:
    """Rows with their last axis where the processed one was."""
    return rows if place == rows.ndim - 1 else px.moveaxis(rows, -1, place)


def host_numbers(name: str, values: Any, ndim: int = 1) -> npt.NDArray[Any]:
    """Coefficients on the host, as float64 or complex128, of `ndim` dimensions (numbers become vectors).

    Raises InvalidArgumentError for none, or another number of dimensions.
    """
    try:
        numbers = np.asarray(values)
        numbers = np.atleast_1d(numbers.astype(np.complex128 if numbers.dtype.kind == "c" else np.float64))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name}: coefficients must be numbers: {error}") from None
    if numbers.ndim != ndim or numbers.size == 0:
        raise InvalidArgumentError(f"{name}: coefficients must have {ndim} dimensions and an item; got {numbers.shape}")
    return numbers


def beside(numbers: npt.NDArray[Any], x: Array, dtype: DType | None = None) -> Array:
    """Numbers of the host as an array on the device of x, in its precision, or in a dtype."""
    kind = complex_dtype(x.dtype) if numbers.dtype.kind == "c" else real_dtype(x.dtype)
    return px.asarray(numbers, dtype=dtype or kind, device=x.device)


def complex_dtype(dtype: DType) -> DType:
    """The complex dtype of the same precision."""
    return _COMPLEX.get(dtype, dtype)


def real_dtype(dtype: DType) -> DType:
    """The real dtype of the same precision."""
    return _REAL.get(dtype, dtype)


def is_complex(x: Array | npt.NDArray[Any]) -> bool:
    """Whether an array's elements are complex."""
    return x.dtype.kind in ("complex", "c")


def parts_of(x: Array) -> Array:
    """Complex numbers as real ones, the real and the imaginary parts along a new first axis: a view."""
    real = real_dtype(x.dtype)
    view = x.view
    return x.viewed((2, *view.shape), (real.itemsize, *view.strides), view.offset, real)


def from_parts(parts: Array) -> Array:
    """Complex numbers from their parts along the first axis."""
    pairs = px.astype(px.moveaxis(parts, 0, -1), parts.dtype)  # a copy, in which each pair is a complex number
    view = pairs.view
    return pairs.viewed(view.shape[:-1], view.strides[:-1], view.offset, complex_dtype(parts.dtype))


def padded(x: Array, before: int, after: int) -> Array:
    """x with zeros before and after it along the last axis."""
    if not before and not after:
        return x
    return px.concat([zeros_like(x, before), x, zeros_like(x, after)], axis=-1)


def zeros_like(x: Array, *tail: int, dtype: DType | None = None) -> Array:
    """Zeros on the device of x, for each of its rows a block of the shape `tail`."""
    return px.zeros((*sizes_of(x)[:-1], *tail), dtype=dtype or x.dtype, device=x.device)


def sizes_of(x: Array) -> tuple[int, ...]:
    """The shape of an array whose sizes are known. A symbolic one raises TraceError."""
    return tuple(int(size) for size in x.shape)


def overlapped(frames: Array, hop: int) -> Array:
    """The sum of segments, [..., segments, samples], each of which begins `hop` samples after the one before it."""
    count, size = sizes_of(frames)[-2:]
    pieces = -(-size // hop)
    frames = padded(frames, 0, pieces * hop - size)
    total = zeros_like(frames[..., 0], count + pieces - 1, hop)
    for piece in range(pieces):
        part = (..., slice(piece, piece + count), slice(None))
        total[part] = total[part] + frames[..., piece * hop : (piece + 1) * hop]
    return total.reshape((*sizes_of(total)[:-2], -1))[..., : (count - 1) * hop + size]


def one_of(name: str, argument: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises InvalidArgumentError unless a value is one of the choices."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise InvalidArgumentError(f"{name}: {argument} must be one of {known}; got {value!r}")
