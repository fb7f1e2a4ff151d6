"""Finite filters by the window method (Oppenheim and Schafer, "Discrete-Time Signal Processing", chapter 7)."""

from __future__ import annotations

import operator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi_plugin_signal.windows import Window, weights

Kind = Literal["lowpass", "highpass", "bandpass", "bandstop"]
_PASSES_ZERO = {"lowpass": True, "highpass": False, "bandpass": False, "bandstop": True}


def kaiser_atten(numtaps: int, width: float) -> float:
    """The attenuation, in dB, of a filter of so many coefficients with a transition of `width` (1 is Nyquist's)."""
    return 2.285 * (numtaps - 1) * np.pi * width + 7.95


def kaiser_beta(attenuation: float) -> float:
    """The beta of the Kaiser window that gives a filter this attenuation, in dB (Kaiser, 1974)."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return float(0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21))
    return 0.0


def firwin(
    numtaps: int,
    cutoff: Any,
    *,
    width: float | None = None,
    window: Window = "hamming",
    pass_zero: bool | Kind = True,
    scale: bool = True,
    fs: float = 2.0,
) -> Array:
    """The `numtaps` coefficients of a filter of linear phase, as a float64 array.

    `cutoff` is one frequency or several, ascending, in the unit of the sampling rate `fs`; pass bands and stop bands
    alternate between them, and `pass_zero` says (or the kind's name implies) with which they begin. `width` chooses a
    Kaiser window for a transition of that width. With `scale` the gain is exactly 1 at the middle of the first pass
    band (at 0 or Nyquist's frequency, where it reaches these).

    Raises InvalidArgumentError for frequencies that do not ascend between 0 and fs / 2, for an even number of
    coefficients of a filter that passes Nyquist's frequency, and for a kind that has not so many frequencies.
    """
    return px.asarray(fir_taps(numtaps, cutoff, width=width, window=window, pass_zero=pass_zero, scale=scale, fs=fs))


def fir_taps(
    numtaps: int,
    cutoff: Any,
    *,
    width: float | None = None,
    window: Window = "hamming",
    pass_zero: bool | Kind = True,
    scale: bool = True,
    fs: float = 2.0,
) -> npt.NDArray[np.float64]:
    """`firwin` on the host."""
    edges = np.atleast_1d(np.asarray(cutoff, np.float64)) / (fs / 2)
    count = operator.index(numtaps)
    bands = _pass_bands(count, edges, pass_zero)
    place = np.arange(count) - (count - 1) / 2
    taps = np.sum([b * np.sinc(b * place) - a * np.sinc(a * place) for a, b in bands], axis=0)
    chosen = window if width is None else ("kaiser", kaiser_beta(kaiser_atten(count, width / (fs / 2))))
    taps = taps * weights(chosen, count, fftbins=False)
    if scale:
        low, high = bands[0]
        center = 0.0 if low == 0 else 1.0 if high == 1 else (low + high) / 2
        taps = taps / np.sum(taps * np.cos(np.pi * place * center))
    return np.asarray(taps)


def _pass_bands(count: int, edges: npt.NDArray[np.float64], pass_zero: bool | str) -> npt.NDArray[np.float64]:
    """The pass bands, [bands, 2]; 1 is Nyquist's frequency."""
    if edges.ndim != 1 or edges.size == 0 or edges.min() <= 0 or edges.max() >= 1 or np.any(np.diff(edges) <= 0):
        raise InvalidArgumentError(f"firwin: cutoff must ascend between 0 and fs / 2; got {edges} of fs / 2")
    if count < 1:
        raise InvalidArgumentError(f"firwin: numtaps must be at least 1; got {count}")
    begins = _begins(pass_zero, edges.size)
    ends = begins == (edges.size % 2 == 0)
    if ends and count % 2 == 0:
        raise InvalidArgumentError(
            f"firwin: {count} taps are 0 at Nyquist's frequency, which must pass: take an odd number"
        )
    return np.concatenate([[0.0] * begins, edges, [1.0] * ends]).reshape(-1, 2)


def _begins(pass_zero: bool | str, num_edges: int) -> bool:
    """Whether the first band passes."""
    if isinstance(pass_zero, bool | np.bool_):
        return bool(pass_zero)
    if pass_zero not in _PASSES_ZERO:
        known = ", ".join(map(repr, _PASSES_ZERO))
        raise InvalidArgumentError(f"firwin: pass_zero must be True, False or one of {known}; got {pass_zero!r}")
    if pass_zero.startswith("band") == (num_edges == 1):
        raise InvalidArgumentError(f"firwin: {pass_zero} does not go with {num_edges} frequencies")
    return _PASSES_ZERO[pass_zero]
