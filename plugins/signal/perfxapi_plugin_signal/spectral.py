"""Short-time Fourier transforms: `stft` and its inverse `istft`, and `spectrogram`.

Segments are views of the signal: those that overlap share its memory until they are windowed.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array
from perfxapi.errors import InvalidArgumentError, PerfXWarning
from perfxapi_plugin_signal.arrays import (
    as_signal,
    beside,
    host_numbers,
    is_complex,
    on_axis,
    one_of,
    overlapped,
    padded,
    sizes_of,
)
from perfxapi_plugin_signal.filters import extended
from perfxapi_plugin_signal.windows import weights

Boundary = Literal["zeros", "even", "odd", "constant"]
Detrend = Literal["constant", "linear"]
Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Segments:
    """How a signal is cut: windows of `size` samples, `hop` apart, transformed at `nfft` points."""

    window: Table
    hop: int
    nfft: int

    @property
    def size(self) -> int:
        return len(self.window)


def _segments(
    name: str, window: Any, nperseg: int | None, noverlap: int | None, nfft: int | None, default: int, eighth: bool
) -> _Segments:
    """Checks lengths, and makes the window. Raises InvalidArgumentError."""
    if isinstance(window, str | tuple | float):
        size = operator.index(nperseg) if nperseg is not None else default
        if size < 1:
            raise InvalidArgumentError(f"{name}: nperseg must be at least 1; got {size}")
        table = weights(window, size)
    else:
        table = host_numbers(name, window).real
        size = len(table)
        if nperseg is not None and nperseg != size:
            raise InvalidArgumentError(f"{name}: nperseg is {nperseg}, but the window has {size} weights")
    points = size if nfft is None else operator.index(nfft)
    overlap = (size // 8 if eighth else size // 2) if noverlap is None else operator.index(noverlap)
    if points < size or not 0 <= overlap < size:
        raise InvalidArgumentError(
            f"{name}: nperseg is {size}; nfft must be at least that, got {points}, and noverlap less, got {overlap}"
        )
    return _Segments(table, size - overlap, points)


def stft(
    x: Any,
    fs: float = 1.0,
    window: Any = "hann",
    nperseg: int | None = 256,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Detrend | Literal[False] = False,
    return_onesided: bool = True,
    boundary: Boundary | None = "zeros",
    padded: bool = True,
    axis: int = -1,
    scaling: Literal["spectrum", "psd"] = "spectrum",
) -> tuple[Array, Array, Array]:
    """Frequencies, times and the short-time Fourier transform, with frequencies on `axis` and times last.

    Segments are not longer than the signal. `boundary` extends the signal by half a segment at both ends, `padded`
    fills it up with zeros to whole segments, so that `istft` gives all of it back. Complex signals have two sides.
    """
    one_of("stft", "boundary", boundary, ("zeros", "even", "odd", "constant", None))
    one_of("stft", "scaling", scaling, ("spectrum", "psd"))
    rows, place = on_axis("stft", x, axis)
    cut = _segments("stft", window, _at_most(nperseg, rows), noverlap, nfft, _default_size(rows), eighth=False)
    scale = _scale(cut.window, fs, "density" if scaling == "psd" else scaling) ** 0.5
    onesided = return_onesided and not is_complex(rows)
    values, times = _transformed(rows, cut, detrend, onesided, boundary, padded, scale)
    return (
        _frequencies(cut.nfft, fs, onesided, rows),
        px.asarray(times / fs, device=rows.device),
        px.moveaxis(values, -1, place),
    )


def spectrogram(
    x: Any,
    fs: float = 1.0,
    window: Any = ("tukey", 0.25),
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Detrend | Literal[False] = "constant",
    return_onesided: bool = True,
    scaling: Literal["density", "spectrum"] = "density",
    axis: int = -1,
    mode: Literal["psd", "complex", "magnitude", "angle"] = "psd",
) -> tuple[Array, Array, Array]:
    """Frequencies, times and spectra of segments, which overlap by an eighth where `noverlap` is not given.

    `mode`: power ("psd", per Hz with `scaling="density"`), the complex transform, its magnitude or its angle.
    """
    one_of("spectrogram", "mode", mode, ("psd", "complex", "magnitude", "angle"))
    one_of("spectrogram", "scaling", scaling, ("density", "spectrum"))
    rows, place = on_axis("spectrogram", x, axis)
    cut = _segments("spectrogram", window, _at_most(nperseg, rows), noverlap, nfft, _default_size(rows), eighth=True)
    scale = _scale(cut.window, fs, scaling) ** 0.5
    onesided = return_onesided and not is_complex(rows)
    values, times = _transformed(rows, cut, detrend, onesided, None, False, scale)
    if mode == "psd":
        values = _power(values, cut.nfft, onesided)
    elif mode == "magnitude":
        values = px.abs(values)
    elif mode == "angle":
        values = px.atan2(px.imag(values), px.real(values))
    return (
        _frequencies(cut.nfft, fs, onesided, rows),
        px.asarray(times / fs, device=rows.device),
        px.moveaxis(values, -1, place),
    )


def _at_most(nperseg: int | None, rows: Array) -> int | None:
    return None if nperseg is None else min(operator.index(nperseg), int(rows.shape[-1]))


def _default_size(rows: Array) -> int:
    return min(256, int(rows.shape[-1]))


def _scale(window: Table, fs: float, scaling: str) -> float:
    """What powers are multiplied by."""
    return float(1 / (fs * np.sum(window**2)) if scaling == "density" else 1 / np.sum(window) ** 2)


def _frequencies(nfft: int, fs: float, onesided: bool, like: Array) -> Array:
    table = (np.fft.rfftfreq if onesided else np.fft.fftfreq)(nfft, 1 / fs)
    return px.asarray(table, device=like.device)


def _transformed(
    rows: Array, cut: _Segments, detrend: Any, onesided: bool, boundary: Boundary | None, fill: bool, scale: float
) -> tuple[Array, Table]:
    """The transforms of all segments, [..., segments, frequencies], and the samples in their middles."""
    one_of("stft", "detrend", detrend, ("constant", "linear", False))
    half = cut.size // 2 if boundary is not None else 0
    if half and boundary is not None and boundary != "zeros":
        rows, half = extended(rows, boundary, half), 0
    rest = -(int(rows.shape[-1]) + 2 * half - cut.size) % cut.hop % cut.size if fill else 0
    rows = padded(rows, half, half + rest)
    frames = _frames(rows, cut)
    if detrend:
        frames = _detrended(frames, linear=detrend == "linear")
    windowed = frames * beside(cut.window * scale, rows)
    transform = px.fft.rfft if onesided else px.fft.fft
    if not onesided and not is_complex(windowed):
        windowed = px.astype(windowed, px.result_type(windowed, 1j))
    middles = (0 if boundary is not None else cut.size / 2) + cut.hop * np.arange(int(frames.shape[-2]), dtype=float)
    return transform(windowed, n=cut.nfft, axis=-1), np.asarray(middles, np.float64)


def _frames(rows: Array, cut: _Segments) -> Array:
    """Overlapping segments along a new axis before the last: a view."""
    count = (int(rows.shape[-1]) - cut.size) // cut.hop + 1
    view = rows.view
    step = int(view.strides[-1])
    strides = (*view.strides[:-1], cut.hop * step, step)
    return rows.viewed((*rows.shape[:-1], count, cut.size), strides, view.offset)


def _detrended(frames: Array, *, linear: bool) -> Array:
    """Segments less their average, or less the line of least squares through them."""
    result = frames - px.mean(frames, axis=-1, keepdims=True)
    if linear:
        size = int(frames.shape[-1])
        slope = beside(np.arange(size) - (size - 1) / 2, frames)
        square = max(size * (size * size - 1) / 12, 1.0)
        result = result - px.sum(result * slope, axis=-1, keepdims=True) / square * slope
    return result


def _power(values: Array, nfft: int, onesided: bool) -> Array:
    """The squares of magnitudes; with one side those of frequencies that stand for two are doubled."""
    real, imaginary = px.real(values), px.imag(values)
    power = real * real + imaginary * imaginary
    if not onesided:
        return power
    twice = np.full(nfft // 2 + 1, 2.0)
    twice[0] = 1.0
    if nfft % 2 == 0:
        twice[-1] = 1.0
    return power * beside(twice, power)


def istft(
    Zxx: Any,  # noqa: N803  the name that users know
    fs: float = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    input_onesided: bool = True,
    boundary: bool = True,
    time_axis: int = -1,
    freq_axis: int = -2,
    scaling: Literal["spectrum", "psd"] = "spectrum",
) -> tuple[Array, Array]:
    """Times and the signal of a short-time Fourier transform: segments are windowed once more, added where they
    overlap, and divided by the sum of the squared windows (Griffin and Lim, 1984).

    Warns (PerfXWarning) where that sum is 0 somewhere, so that samples are lost.
    """
    one_of("istft", "scaling", scaling, ("spectrum", "psd"))
    values = as_signal("istft", Zxx)
    if values.ndim < 2 or time_axis % values.ndim == freq_axis % values.ndim:
        raise InvalidArgumentError("istft: times and frequencies must lie on two different axes")
    times, bins = time_axis % values.ndim, freq_axis % values.ndim
    values = px.moveaxis(values, (times, bins), (-2, -1))
    count = int(values.shape[-1])
    natural = 2 * (count - 1) if input_onesided else count
    size = natural if nperseg is None else operator.index(nperseg)
    points = size if nfft is None and input_onesided and size == natural + 1 else natural if nfft is None else nfft
    cut = _segments("istft", window, size, noverlap, points, natural, eighth=False)
    weight = cut.window / _scale(cut.window, fs, "density" if scaling == "psd" else scaling) ** 0.5
    signal = overlapped(_inverse(values, cut, input_onesided) * beside(weight, values), cut.hop)
    norm = np.asarray(overlapped(px.asarray(np.tile(cut.window**2, (sizes_of(values)[-2], 1))), cut.hop))
    half = cut.size // 2 if boundary else 0
    kept = slice(half, len(norm) - half)
    signal, norm = signal[..., kept], norm[kept]
    if np.any(norm <= 1e-10):
        warnings.warn("istft: windows and overlap do not cover all samples; those left out are 0", PerfXWarning, 2)
    signal = signal / beside(np.where(norm > 1e-10, norm, 1.0), signal)
    moments = px.asarray(np.arange(len(norm)) / fs, device=signal.device)
    return moments, px.moveaxis(signal, -1, times - (bins < times))


def _inverse(values: Array, cut: _Segments, onesided: bool) -> Array:
    if not is_complex(values):
        values = px.astype(values, px.result_type(values, 1j))
    frames = (px.fft.irfft if onesided else px.fft.ifft)(values, n=cut.nfft, axis=-1)
    return frames[..., : cut.size]
