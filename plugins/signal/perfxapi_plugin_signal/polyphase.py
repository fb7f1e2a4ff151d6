"""Finite filters of real and complex numbers along the last axis, by the op `upfirdn`."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

import perfxapi as px
from perfxapi import Array
from perfxapi_plugin_signal.arrays import beside, complex_dtype, from_parts, is_complex, parts_of, real_dtype


def polyphase(rows: Array, h: npt.NDArray[Any] | Array, up: int = 1, down: int = 1) -> Array:
    """The op `upfirdn` on rows of any dtype of signals: complex numbers are filtered part by part."""
    if is_complex(h):
        taps = h if isinstance(h, Array) else beside(h, rows)
        real, imaginary = polyphase(rows, px.real(taps), up, down), polyphase(rows, px.imag(taps), up, down)
        dtype = complex_dtype(real.dtype)
        return px.astype(real, dtype, copy=False) + 1j * px.astype(imaginary, dtype, copy=False)
    if is_complex(rows):
        return from_parts(polyphase(parts_of(rows), h, up, down))
    taps = _dense(h, rows) if isinstance(h, Array) else beside(h, rows)
    result: Array = px.apply("upfirdn", rows, taps, up=up, down=down)
    return result


def _dense(h: Array, rows: Array) -> Array:
    """h in the precision of the rows, without strides, which kernels do not take."""
    dtype = real_dtype(rows.dtype)
    return h if h.dtype is dtype and h.view.is_contiguous else px.astype(h, dtype)
