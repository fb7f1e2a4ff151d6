"""Convolution and correlation over all axes, directly or by Fourier transforms."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

import perfxapi as px
from perfxapi import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi_plugin_signal.arrays import as_signal, is_complex, one_of, overlapped, padded
from perfxapi_plugin_signal.polyphase import polyphase

Mode = Literal["full", "same", "valid"]
Method = Literal["auto", "direct", "fft"]
_FFT_COST = 24.0
"""What a point of a transform costs for each doubling of its length, in multiplications of the direct method."""
_BLOCK = 4096
"""The length of the transforms of a long vector's pieces."""
_CALL_COST = 1e6
"""What one call of the direct method costs, in its multiplications: it makes one for each row of the kernel."""


def convolve(in1: Any, in2: Any, mode: Mode = "full", method: Method = "auto") -> Array:
    """The convolution of two arrays of as many dimensions.

    `mode`: all of it, the part of the size of `in1` in the middle, or the part that does without zeros beyond the
    edges. `method`: sums of products, transforms, or what is estimated to take less time. Integers are computed with
    as float64. Raises InvalidArgumentError for other dimensions and, in the mode "valid", where neither array is
    at least as large as the other along every axis.
    """
    one_of("convolve", "mode", mode, ("full", "same", "valid"))
    one_of("convolve", "method", method, ("auto", "direct", "fft"))
    first, second = _pair("convolve", in1, in2)
    if not first.shape:
        return first * second
    sizes = [(int(a), int(b)) for a, b in zip(first.shape, second.shape, strict=True)]
    if 0 in (*first.shape, *second.shape):
        raise InvalidArgumentError(f"convolve: an array is empty: {first.shape} and {second.shape}")
    if mode == "valid" and not (all(a >= b for a, b in sizes) or all(a <= b for a, b in sizes)):
        raise InvalidArgumentError(f"convolve: neither of {first.shape} and {second.shape} lies within the other")
    direct = method == "direct" or (method == "auto" and _is_direct(sizes))
    whole = _direct(first, second) if direct else _by_transforms(first, second, sizes)
    return whole[tuple(_kept(mode, a, b) for a, b in sizes)]


def correlate(in1: Any, in2: Any, mode: Mode = "full", method: Method = "auto") -> Array:
    """The cross-correlation of two arrays: `convolve` with the second one conjugate and backwards."""
    first, second = _pair("correlate", in1, in2)
    backwards = px.flip(px.conj(second) if is_complex(second) else second)
    return convolve(first, backwards, mode, method)


def _pair(name: str, in1: Any, in2: Any) -> tuple[Array, Array]:
    """Both operands in one dtype, on one device."""
    like = in1 if isinstance(in1, Array) else in2 if isinstance(in2, Array) else None
    first, second = as_signal(name, in1, like=like), as_signal(name, in2, like=like)
    if first.ndim != second.ndim:
        raise InvalidArgumentError(f"{name}: the arrays have {first.ndim} and {second.ndim} dimensions, not as many")
    dtype = px.result_type(first, second)
    return px.astype(first, dtype, copy=False), px.astype(second, dtype, copy=False)


def _kept(mode: Mode, a: int, b: int) -> slice:
    """The part of the whole convolution of sizes a and b along one axis."""
    if mode == "full":
        return slice(0, a + b - 1)
    if mode == "same":
        return slice((b - 1) // 2, (b - 1) // 2 + a)
    return slice(min(a, b) - 1, max(a, b))


def _is_direct(sizes: list[tuple[int, int]]) -> bool:
    """Whether sums of products are estimated to take less time than transforms."""
    products = math.prod(a * b for a, b in sizes)
    calls = min(math.prod(pair[which] for pair in sizes[:-1]) for which in (0, 1))
    points = math.prod(a + b - 1 for a, b in sizes)
    return products + (calls - 1) * _CALL_COST <= _FFT_COST * points * math.log2(max(points, 2))


def _direct(first: Array, second: Array) -> Array:
    """One finite filter for each row of the smaller array; rows of the result that several reach are summed."""
    x, h = (first, second) if first.size >= second.size else (second, first)
    shape = tuple(int(a) + int(b) - 1 for a, b in zip(x.shape, h.shape, strict=True))
    if x.ndim == 1:
        return polyphase(x, h)
    whole = px.zeros(shape, dtype=x.dtype, device=x.device)
    for place in np.ndindex(*(int(size) for size in h.shape[:-1])):
        part = tuple(slice(at, at + int(size)) for at, size in zip(place, x.shape[:-1], strict=True))
        whole[part] = whole[part] + polyphase(x, h[place])
    return whole


def _by_transforms(first: Array, second: Array, sizes: list[tuple[int, int]]) -> Array:
    """The product of the transforms, padded to lengths that are quick to transform."""
    if first.ndim == 1 and min(sizes[0]) <= _BLOCK // 4 and max(sizes[0]) >= 4 * _BLOCK:
        return _by_pieces(*((first, second) if sizes[0][0] >= sizes[0][1] else (second, first)))
    axes = tuple(range(first.ndim))
    lengths = tuple(quick_length(a + b - 1) for a, b in sizes)
    if is_complex(first):
        product = px.fft.fftn(first, s=lengths, axes=axes) * px.fft.fftn(second, s=lengths, axes=axes)
        return px.fft.ifftn(product, s=lengths, axes=axes)
    product = px.fft.rfftn(first, s=lengths, axes=axes) * px.fft.rfftn(second, s=lengths, axes=axes)
    return px.fft.irfftn(product, s=lengths, axes=axes)


def _by_pieces(x: Array, h: Array) -> Array:
    """A long vector with a short one: piece by piece, what of each reaches into the next is added (Stockham, 1966)."""
    size, taps = int(x.shape[0]), int(h.shape[0])
    hop = _BLOCK - taps + 1
    count = -(-size // hop)
    pieces = padded(x, 0, count * hop - size).reshape(count, hop)
    if is_complex(x):
        parts = px.fft.ifft(px.fft.fft(pieces, n=_BLOCK) * px.fft.fft(h, n=_BLOCK))
    else:
        parts = px.fft.irfft(px.fft.rfft(pieces, n=_BLOCK) * px.fft.rfft(h, n=_BLOCK))
    return overlapped(parts, hop)[: size + taps - 1]


def quick_length(count: int) -> int:
    """The least length from `count` on that has no prime factor above 5."""
    best = 1 << max(count - 1, 0).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = threes << max(-(-count // threes) - 1, 0).bit_length()
            best = min(best, twos)
            threes *= 3
        fives *= 5
    return best
