"""Fourier transforms, windows, and the mel scale."""

from __future__ import annotations

import math

import numpy as np

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.dtypes import complex_of, real_of
from perfxapi.onnx.element_types import host_dtype
from perfxapi.onnx.operators.shape import normalized
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, known_ints, operator

_COSINES = {
    "HannWindow": (0.5, 0.5),
    "HammingWindow": (25 / 46, 21 / 46),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}
"""Windows as sums of cosines, with signs that alternate."""


# ---- complex numbers: ONNX has them as pairs along the last axis


def _to_complex(pairs: Array) -> Array:
    """Pairs (or single real parts) along the last axis as complex numbers."""
    if pairs.shape[-1] == 1:
        return px.astype(pairs[..., 0], complex_of(pairs.dtype))
    whole = px.reshape(pairs, pairs.shape, copy=True)
    view = whole.view
    return whole.viewed(view.shape[:-1], view.strides[:-1], view.offset, complex_of(pairs.dtype))


def _to_pairs(x: Array) -> Array:
    """Complex numbers as pairs along a new last axis."""
    view, part = x.view, real_of(x.dtype)
    return x.viewed((*view.shape, 2), (*view.strides, part.itemsize), view.offset, part)


def _transformed(pairs: Array, axis: int, length: int, *, inverse: bool, onesided: bool) -> Array:
    """The discrete Fourier transform along an axis of numbers given as pairs, and giving pairs."""
    if inverse and onesided:
        return px.expand_dims(px.fft.irfft(_to_complex(pairs), n=length, axis=axis), axis=-1)
    if onesided:
        return _to_pairs(px.fft.rfft(pairs[..., 0], n=length, axis=axis))
    function = px.fft.ifft if inverse else px.fft.fft
    return _to_pairs(function(_to_complex(pairs), n=length, axis=axis))


@operator("DFT")
def discrete_fourier_transform(node: OperatorNode, x: Array, length: Value = None, axis: Value = None) -> Array:
    """The discrete Fourier transform along an axis of pairs; of real numbers only one half of it, if so asked."""
    default_axis = node.attribute("axis", 1) if node.version < 20 else -2
    place = normalized(default_axis if axis is None else known_ints(axis)[0], x.ndim)
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    size = int(x.shape[place])
    default = 2 * (size - 1) if inverse and onesided else size
    count = default if length is None else known_ints(length)[0]
    wide = x if x.dtype in (dtypes.float32, dtypes.float64) else px.astype(x, dtypes.float32)
    return px.astype(_transformed(wide, place, count, inverse=inverse, onesided=onesided), x.dtype, copy=False)


@operator("STFT")
def short_time_fourier_transform(
    node: OperatorNode, signal: Array, step: Value, window: Array | None = None, length: Value = None
) -> Array:
    """The discrete Fourier transforms of frames of a signal, times a window."""
    samples, stride = int(signal.shape[1]), known_ints(step)[0]
    default_size = samples if window is None else int(window.shape[0])
    size = default_size if length is None else known_ints(length)[0]
    frames = (samples - size) // stride + 1
    places = np.arange(frames)[:, None] * stride + np.arange(size)[None, :]
    framed = px.take(signal, px.asarray(places.reshape(-1), device=node.device), axis=1)
    framed = framed.reshape((signal.shape[0], frames, size, signal.shape[2]))
    if window is not None:
        framed = px.multiply(framed, window[:, None])
    onesided = bool(node.attribute("onesided", 1)) and signal.shape[2] == 1
    wide = framed if framed.dtype in (dtypes.float32, dtypes.float64) else px.astype(framed, dtypes.float32)
    return px.astype(_transformed(wide, 2, size, inverse=False, onesided=onesided), signal.dtype, copy=False)


# ---- what only sizes decide


@operator(*_COSINES)
def cosine_window(node: OperatorNode, size: Value) -> Value:
    """A window of that size, periodic or symmetric."""
    count = known_ints(size)[0]
    period = count if node.attribute("periodic", 1) else count - 1
    angle = 2 * math.pi * np.arange(count) / max(period, 1)
    terms = [(-1) ** k * weight * np.cos(k * angle) for k, weight in enumerate(_COSINES[node.op_type])]
    return from_host(np.sum(terms, axis=0).astype(host_dtype(node.attribute("output_datatype", 1))), node.device)


@operator("MelWeightMatrix")
def mel_weight_matrix(
    node: OperatorNode, num_bins: Value, length: Value, rate: Value, lower: Value, upper: Value
) -> Value:
    """What each bin of a spectrum adds to each of a number of triangles at equal distances on the mel scale."""
    bins, count = known_ints(num_bins)[0], known_ints(length)[0]
    edges = [2595 * math.log10(1 + float(known(edge).reshape(())) / 700) for edge in (lower, upper)]
    mels = edges[0] + np.arange(bins + 2) * (edges[1] - edges[0]) / (bins + 2)
    places = ((count + 1) * 700 * (10 ** (mels / 2595) - 1) // known_ints(rate)[0]).astype(np.int64)
    result = np.zeros((count // 2 + 1, bins), host_dtype(node.attribute("output_datatype", 1)))
    for column, (low, peak, high) in enumerate(zip(places, places[1:], places[2:], strict=False)):
        if low == peak:
            result[peak, column] = 1
        else:
            result[low : peak + 1, column] = np.arange(peak - low + 1) / (peak - low)
        if high > peak:
            result[peak:high, column] = np.arange(high - peak, 0, -1) / (high - peak)
    return from_host(result, node.device)
