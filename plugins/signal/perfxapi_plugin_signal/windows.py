"""Windows: tables of weights, computed on the host in float64.

The formulas are those of Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform"
(1978), with the coefficients that are common today.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array, Device, DType
from perfxapi.errors import InvalidArgumentError, UnknownNameError

Weights = npt.NDArray[np.float64]
Window = str | float | tuple[Any, ...]
"""A name, a name with parameters such as ("kaiser", 8.6), or the beta of a Kaiser window."""


def get_window(
    window: Window, n: int, fftbins: bool = True, *, dtype: DType | str = px.float64, device: Device | str | None = None
) -> Array:
    """The n weights of a window: periodic, as spectra want it, or symmetric with `fftbins=False`, as filters do.

    Without parameters: barthann, bartlett, blackman, blackmanharris, bohman, boxcar, cosine, flattop, hamming, hann,
    nuttall, parzen, triang. With: ("kaiser", beta), ("tukey", alpha), ("gaussian", deviation), ("exponential", center,
    tau), ("general_gaussian", power, width), ("general_hamming", alpha), ("general_cosine", coefficients).

    Raises UnknownNameError for another name, InvalidArgumentError for wrong parameters.
    """
    return px.asarray(weights(window, n, fftbins), dtype=dtype, device=device)


def weights(window: Window, n: int, fftbins: bool = True) -> Weights:
    """`get_window` on the host."""
    name, parameters = _named(window)
    try:
        count = operator.index(n)
    except TypeError:
        raise InvalidArgumentError(f"get_window: n must be a whole number; got {n!r}") from None
    if count < 0:
        raise InvalidArgumentError(f"get_window: n must not be negative; got {count}")
    if count <= 1:
        return np.ones(count)
    function, required = _FUNCTIONS[name]
    if not required[0] <= len(parameters) <= required[1]:
        wanted = " or ".join(str(number) for number in sorted(set(required)))
        raise InvalidArgumentError(f"get_window: {name} takes {wanted} parameters; got {parameters!r}")
    try:
        table = function(count + 1 if fftbins else count, *parameters)
    except TypeError as error:
        raise InvalidArgumentError(f"get_window: {name} does not take {parameters!r}: {error}") from None
    return np.asarray(table[:-1] if fftbins else table, np.float64)


def _named(window: Window) -> tuple[str, tuple[Any, ...]]:
    if isinstance(window, float | int) and not isinstance(window, bool):
        return "kaiser", (window,)
    name, *parameters = window if isinstance(window, tuple) and window else (window,)
    if name not in _FUNCTIONS:
        raise UnknownNameError("window", str(name), sorted(_FUNCTIONS))
    return str(name), tuple(parameters)


def _cosine_sum(*coefficients: float) -> Callable[[int], Weights]:
    return lambda count: _general_cosine(count, coefficients)


def _general_cosine(count: int, coefficients: Any) -> Weights:
    angle = np.linspace(-np.pi, np.pi, count)
    terms = [c * np.cos(order * angle) for order, c in enumerate(coefficients)]
    return np.asarray(np.sum(terms, axis=0))


def _centered(count: int) -> Weights:
    return np.arange(count, dtype=np.float64) - (count - 1) / 2


def _triang(count: int) -> Weights:
    return np.asarray(1 - np.abs(_centered(count)) * 2 / (count + count % 2))


def _parzen(count: int) -> Weights:
    place = np.abs(_centered(count)) * 2 / count
    inner = 1 - 6 * place**2 * (1 - place)
    return np.where(place * count / 2 <= (count - 1) / 4, inner, 2 * (1 - place) ** 3)


def _bohman(count: int) -> Weights:
    place = np.abs(np.linspace(-1, 1, count))
    table = (1 - place) * np.cos(np.pi * place) + np.sin(np.pi * place) / np.pi
    table[[0, -1]] = 0
    return np.asarray(table)


def _barthann(count: int) -> Weights:
    place = np.abs(np.arange(count) / (count - 1) - 0.5)
    return np.asarray(0.62 - 0.48 * place + 0.38 * np.cos(2 * np.pi * place))


def _cosine(count: int) -> Weights:
    return np.asarray(np.sin(np.pi / count * (np.arange(count) + 0.5)))


def _kaiser(count: int, beta: float) -> Weights:
    return np.asarray(np.kaiser(count, beta), np.float64)


def _tukey(count: int, alpha: float = 0.5) -> Weights:
    if alpha <= 0:
        return np.ones(count)
    if alpha >= 1:
        return _general_cosine(count, (0.5, 0.5))
    place = np.abs(_centered(count)) * 2 / (count - 1)
    taper = 0.5 * (1 + np.cos(np.pi * (place - 1 + alpha) / alpha))
    return np.where(place > 1 - alpha, taper, 1.0)


def _gaussian(count: int, deviation: float) -> Weights:
    return np.asarray(np.exp(-0.5 * (_centered(count) / deviation) ** 2))


def _general_gaussian(count: int, power: float, width: float) -> Weights:
    return np.asarray(np.exp(-0.5 * np.abs(_centered(count) / width) ** (2 * power)))


def _exponential(count: int, center: float | None = None, tau: float = 1.0) -> Weights:
    middle = (count - 1) / 2 if center is None else center
    return np.asarray(np.exp(-np.abs(np.arange(count) - middle) / tau))


_FUNCTIONS: dict[str, tuple[Callable[..., Weights], tuple[int, int]]] = {
    "barthann": (_barthann, (0, 0)),
    "bartlett": (np.bartlett, (0, 0)),
    "blackman": (_cosine_sum(0.42, 0.50, 0.08), (0, 0)),
    "blackmanharris": (_cosine_sum(0.35875, 0.48829, 0.14128, 0.01168), (0, 0)),
    "bohman": (_bohman, (0, 0)),
    "boxcar": (np.ones, (0, 0)),
    "cosine": (_cosine, (0, 0)),
    "exponential": (_exponential, (0, 2)),
    "flattop": (_cosine_sum(0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368), (0, 0)),
    "gaussian": (_gaussian, (1, 1)),
    "general_cosine": (_general_cosine, (1, 1)),
    "general_gaussian": (_general_gaussian, (2, 2)),
    "general_hamming": (lambda count, alpha: _general_cosine(count, (alpha, 1 - alpha)), (1, 1)),
    "hamming": (_cosine_sum(0.54, 0.46), (0, 0)),
    "hann": (_cosine_sum(0.5, 0.5), (0, 0)),
    "kaiser": (_kaiser, (1, 1)),
    "nuttall": (_cosine_sum(0.3635819, 0.4891775, 0.1365995, 0.0106411), (0, 0)),
    "parzen": (_parzen, (0, 0)),
    "triang": (_triang, (0, 0)),
    "tukey": (_tukey, (0, 1)),
}
"""For each window the symmetric one of so many weights, and how few and how many parameters it takes."""
