"""Other sampling rates: by Fourier transforms (`resample`), by filters (`resample_poly`, `upfirdn`, `decimate`)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi_plugin_signal.arrays import back_to, beside, host_numbers, is_complex, on_axis, one_of, zeros_like
from perfxapi_plugin_signal.design import fir_taps
from perfxapi_plugin_signal.filters import sosfilt, sosfiltfilt
from perfxapi_plugin_signal.ops import upfirdn_size
from perfxapi_plugin_signal.polyphase import polyphase
from perfxapi_plugin_signal.windows import Window, weights

Background = Literal["constant", "mean", "median", "minimum", "maximum"]
_BACKGROUNDS = ("constant", "mean", "median", "minimum", "maximum")


def _positive(name: str, argument: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidArgumentError(f"{name}: {argument} must be a whole number; got {value!r}") from None
    if number < 1:
        raise InvalidArgumentError(f"{name}: {argument} must be at least 1; got {number}")
    return number


def upfirdn(h: Any, x: Any, up: int = 1, down: int = 1, axis: int = -1) -> Array:
    """x with up - 1 zeros after each sample, filtered by h, and every `down`-th sample of that kept, along an axis."""
    rows, place = on_axis("upfirdn", x, axis)
    up, down = _positive("upfirdn", "up", up), _positive("upfirdn", "down", down)
    return back_to(place, polyphase(rows, host_numbers("upfirdn", h), up, down))


def resample_poly(
    x: Any, up: int, down: int, axis: int = 0, window: Any = ("kaiser", 5.0), padtype: Background = "constant"
) -> Array:
    """x at up / down times its rate along an axis, by a finite filter of zero phase.

    `window` is that of a low pass of 20 * max(up, down) + 1 coefficients, or the coefficients. The signal is taken to
    go on as 0, or as its own mean, median, minimum or maximum (`padtype`).
    """
    one_of("resample_poly", "padtype", padtype, _BACKGROUNDS)
    rows, place = on_axis("resample_poly", x, axis)
    up, down = _positive("resample_poly", "up", up), _positive("resample_poly", "down", down)
    up, down = up // math.gcd(up, down), down // math.gcd(up, down)
    if up == down == 1:
        return px.asarray(back_to(place, rows), copy=True)
    taps = _low_pass(window, max(up, down)) * up
    if padtype == "constant":
        return back_to(place, _at_rate(rows, taps, up, down))
    background = _background(rows, padtype)
    return back_to(place, _at_rate(rows - background, taps, up, down) + background)


def _low_pass(window: Any, rate: int) -> npt.NDArray[Any]:
    if isinstance(window, str | tuple | float):
        known = tuple(tuple(p) if isinstance(p, list) else p for p in window) if isinstance(window, tuple) else window
        return _designed(known, rate)
    return host_numbers("resample_poly", window)


@lru_cache(64)
def _designed(window: Window, rate: int) -> npt.NDArray[np.float64]:
    return fir_taps(20 * rate + 1, 1 / rate, window=window)


def _at_rate(rows: Array, taps: npt.NDArray[Any], up: int, down: int) -> Array:
    """The filtered rows without the filter's delay: zeros before it make that a whole number of results."""
    size, half = int(rows.shape[-1]), (len(taps) - 1) // 2
    count, before = -(-size * up // down), down - half % down
    delay = (half + before) // down
    after = 0
    while upfirdn_size(len(taps) + before + after, size, up, down) < count + delay:
        after += 1
    return polyphase(rows, np.pad(taps, (before, after)), up, down)[..., delay : delay + count]


def _background(rows: Array, kind: Background) -> Array:
    if kind == "median":
        ordered, size = px.sort(rows, axis=-1), int(rows.shape[-1])
        return px.mean(ordered[..., (size - 1) // 2 : size // 2 + 1], axis=-1, keepdims=True)
    reduce: Callable[..., Array] = {"mean": px.mean, "minimum": px.min, "maximum": px.max}[kind]
    return reduce(rows, axis=-1, keepdims=True)


def decimate(
    x: Any, q: int, n: int | None = None, ftype: Literal["iir", "fir"] = "iir", axis: int = -1, zero_phase: bool = True
) -> Array:
    """Every q-th sample of x along an axis, after a low pass against aliasing.

    "iir" is a Chebyshev filter of order `n` (8) with a ripple of 0.05 dB up to 0.8 / q of Nyquist's frequency, "fir" a
    Hamming-windowed one of `n` + 1 (20 q + 1) coefficients; with `zero_phase` neither shifts the phase.
    """
    one_of("decimate", "ftype", ftype, ("iir", "fir"))
    rows, place = on_axis("decimate", x, axis)
    q = _positive("decimate", "q", q)
    order = _positive("decimate", "n", n if n is not None else 8 if ftype == "iir" else 20 * q)
    if ftype == "iir":
        sos = chebyshev_sections(order, 0.05, 0.8 / q)
        kept = (sosfiltfilt(sos, rows) if zero_phase else sosfilt(sos, rows))[..., ::q]
    else:
        taps = fir_taps(order + 1, 1 / q, window="hamming")
        count = -(-int(rows.shape[-1]) // q)
        kept = _at_rate(rows, taps, 1, q) if zero_phase else polyphase(rows, taps, 1, q)[..., :count]
    return back_to(place, kept)


def chebyshev_sections(order: int, ripple: float, cutoff: float) -> npt.NDArray[np.float64]:
    """A Chebyshev low pass of the first kind, [sections, 6]: `ripple` in dB, `cutoff` of Nyquist's frequency.

    The analog poles lie on an ellipse (Parks and Burrus, "Digital Filter Design", section 7.3); the bilinear transform
    takes them to the unit disk, and all zeros to -1.
    """
    bend = math.asinh(1 / math.sqrt(10 ** (ripple / 10) - 1)) / order
    angle = np.pi * (np.arange(order) + 0.5) / order
    analog = -np.sinh(bend) * np.sin(angle) + 1j * np.cosh(bend) * np.cos(angle)
    poles = (1 + analog * math.tan(np.pi * cutoff / 2)) / (1 - analog * math.tan(np.pi * cutoff / 2))
    upper = poles[: order // 2]  # the others are their conjugates; of an odd order one is real
    sections = [[1, 2, 1, 1, -2 * pole.real, abs(pole) ** 2] for pole in upper]
    if order % 2:
        sections.insert(0, [1, 1, 0, 1, -poles[order // 2].real, 0])
    sos = np.array(sections, np.float64)
    gain = 1.0 if order % 2 else 10 ** (-ripple / 20)  # at zero frequency
    sos[:, :3] *= (sos[:, 3:].sum(axis=1) / sos[:, :3].sum(axis=1))[:, None]
    sos[0, :3] *= gain
    return sos


# ---- by Fourier transforms


def resample(
    x: Any,
    num: int,
    t: Any = None,
    axis: int = 0,
    window: Window | Callable[..., Any] | npt.NDArray[Any] | Array | None = None,
) -> Array | tuple[Array, Array]:
    """x as `num` samples along an axis: its spectrum, cut or filled up with zeros, transformed back.

    The signal is taken to be periodic. `window` is applied to the spectrum: a window's name, weights in the order of
    `fftfreq`, or a function of frequencies. With the times `t` of the samples, (result, its times).
    """
    rows, place = on_axis("resample", x, axis)
    num = _positive("resample", "num", num)
    shape = None if window is None else _spectral_weights(window, int(rows.shape[-1]))
    y = back_to(place, (_resampled if is_complex(rows) else _resampled_real)(rows, num, shape))
    if t is None:
        return y
    times = np.asarray(t)
    step = (times[1] - times[0]) * rows.shape[-1] / num
    return y, px.asarray(np.arange(num) * step + times[0], device=rows.device)


def _spectral_weights(window: Any, size: int) -> npt.NDArray[Any]:
    if callable(window):
        return np.asarray(window(np.fft.fftfreq(size)))
    if isinstance(window, str | tuple | float):
        return np.fft.fftshift(weights(window, size))
    table = np.asarray(window)
    if table.shape != (size,):
        raise InvalidArgumentError(f"resample: window must have as many weights as samples, {size}; got {table.shape}")
    return table


def _resampled_real(rows: Array, num: int, shape: npt.NDArray[Any] | None) -> Array:
    size = int(rows.shape[-1])
    spectrum = px.fft.rfft(rows, axis=-1)
    if shape is not None:
        folded = shape.copy()
        folded[1:] = (shape[1:] + shape[:0:-1]) / 2
        spectrum = spectrum * beside(folded[: size // 2 + 1], rows)
    common = min(num, size)
    kept = spectrum[..., : common // 2 + 1]
    if common % 2 == 0 and num != size:  # the bin of Nyquist's frequency stands for both of its signs
        factor = np.ones(common // 2 + 1)
        factor[-1] = 2.0 if num < size else 0.5
        kept = kept * beside(factor, rows)
    return px.fft.irfft(kept, n=num, axis=-1) * (num / size)


def _resampled(rows: Array, num: int, shape: npt.NDArray[Any] | None) -> Array:
    size = int(rows.shape[-1])
    spectrum = px.fft.fft(rows, axis=-1)
    if shape is not None:
        spectrum = spectrum * beside(shape.astype(np.complex128), rows)
    common = min(num, size)
    low, high = spectrum[..., : common // 2 + 1], spectrum[..., size - (common - 1) // 2 :]
    if common % 2 == 0 and num != size:
        middle = low[..., -1:]
        middle = middle + spectrum[..., size - common // 2 :][..., :1] if num < size else middle * 0.5
        low = px.concat([low[..., :-1], middle], axis=-1)
        high = px.concat([middle, high], axis=-1) if num > size else high
    gap = num - int(low.shape[-1]) - int(high.shape[-1])
    return px.fft.ifft(px.concat([low, zeros_like(rows, gap), high], axis=-1), axis=-1) * (num / size)
