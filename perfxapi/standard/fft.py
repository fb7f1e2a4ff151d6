"""Discrete Fourier transforms (array API standard 2025.12, extension `fft`).

`n` (or `s`, for several axes) is the length that is transformed: longer axes are cut, shorter ones padded with zeros.
`norm` says which direction divides by the length: "backward", "forward", or both by its root, "ortho".
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal

from perfxapi import dtypes
from perfxapi.array import Array, apply
from perfxapi.device import Device
from perfxapi.dtypes import DType, complex_of, dtype_of
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import FLOATS, require_kind
from perfxapi.standard.axes import one_axis, several_axes
from perfxapi.standard.creation import arange, zeros
from perfxapi.standard.data_types import astype
from perfxapi.standard.elementwise import conj, divide
from perfxapi.standard.manipulation import concat, roll

Norm = Literal["backward", "ortho", "forward"]
_OPPOSITE: dict[str, Norm] = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _resized(name: str, x: Array, n: int | None, axis: int) -> Array:
    """x cut or padded with zeros to `n` elements along an axis."""
    if n is None:
        return x
    count, size = operator.index(n), int(x.shape[axis])
    if count < 1:
        raise InvalidArgumentError(f"{name}: the length must be at least 1; got {n}")
    if count <= size:
        return x.part((*(slice(None),) * axis, slice(count)))
    padding = tuple(count - size if place == axis else int(length) for place, length in enumerate(x.shape))
    return concat([x, zeros(padding, dtype=x.dtype, device=x.device)], axis=axis)


def _as_complex(name: str, x: Array) -> Array:
    require_kind(name, x, *FLOATS)
    return astype(x, complex_of(x.dtype), copy=False)


def _as_real(name: str, x: Array) -> Array:
    require_kind(name, x, "float")
    return x if x.dtype is dtypes.float64 else astype(x, dtypes.float32, copy=False)


def _transform(name: str, x: Array, n: int | None, axis: int, norm: str, inverse: int) -> Array:
    place = one_axis(name, axis, x.ndim)
    resized = _resized(name, _as_complex(name, x), n, place)
    result: Array = apply("fft", resized, axis=place, inverse=inverse, norm=norm)
    return result


def fft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The transform along an axis."""
    return _transform("fft", x, n, axis, norm, 0)


def ifft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The inverse transform along an axis."""
    return _transform("ifft", x, n, axis, norm, 1)


def rfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The first half (n // 2 + 1 values) of the transform of real numbers along an axis; the rest mirrors it."""
    place = one_axis("rfft", axis, x.ndim)
    resized = _resized("rfft", _as_real("rfft", x), n, place)
    result: Array = apply("rfft", resized, axis=place, norm=norm)
    return result


def irfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The real numbers, `n` of them (default: twice the size less 2), whose `rfft` along an axis x is."""
    place = one_axis("irfft", axis, x.ndim)
    count = 2 * (int(x.shape[place]) - 1) if n is None else operator.index(n)
    if count < 1:
        raise InvalidArgumentError(f"irfft: the length must be at least 1; got {count}")
    resized = _resized("irfft", _as_complex("irfft", x), count // 2 + 1, place)
    result: Array = apply("irfft", resized, axis=place, n=count, norm=norm)
    return result


def hfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The real transform of a signal with Hermitian symmetry, of which x is the first half."""
    return irfft(conj(_as_complex("hfft", x)), n=n, axis=axis, norm=_opposite(norm))


def ihfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """The inverse of `hfft`: the first half of a signal with Hermitian symmetry."""
    return conj(rfft(x, n=n, axis=axis, norm=_opposite(norm)))


def _opposite(norm: str) -> Norm:
    if norm not in _OPPOSITE:
        raise InvalidArgumentError(f"norm must be one of {', '.join(_OPPOSITE)}; got {norm!r}")
    return _OPPOSITE[norm]


# ---- several axes


def _several(
    name: str, x: Array, s: Sequence[int] | None, axes: Sequence[int] | None
) -> tuple[tuple[int, ...], list[int | None]]:
    """The axes to transform, and the length for each."""
    if axes is None:
        places = several_axes(name, None, x.ndim) if s is None else tuple(range(x.ndim - len(s), x.ndim))
    else:
        places = several_axes(name, tuple(axes), x.ndim)
    lengths: list[int | None] = [None] * len(places) if s is None else list(s)
    if len(lengths) != len(places) or (places and places[0] < 0):
        raise InvalidArgumentError(f"{name}: {len(lengths)} lengths do not fit the axes {places} of {list(x.shape)}")
    return places, lengths


def _each(transform: Any, x: Array, places: Sequence[int], lengths: Sequence[int | None], norm: Norm) -> Array:
    for place, length in zip(places, lengths, strict=True):
        x = transform(x, n=length, axis=place, norm=norm)
    return x


def fftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The transform along several axes (default: all)."""
    places, lengths = _several("fftn", x, s, axes)
    return _each(fft, _as_complex("fftn", x), places, lengths, norm)


def ifftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The inverse transform along several axes (default: all)."""
    places, lengths = _several("ifftn", x, s, axes)
    return _each(ifft, _as_complex("ifftn", x), places, lengths, norm)


def rfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The transform of real numbers along several axes; of the last one, the first half."""
    places, lengths = _several("rfftn", x, s, axes)
    if not places:
        raise InvalidArgumentError("rfftn: at least one axis must be transformed")
    last = rfft(x, n=lengths[-1], axis=places[-1], norm=norm)
    return _each(fft, last, places[:-1], lengths[:-1], norm)


def irfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """The real numbers whose `rfftn` x is."""
    places, lengths = _several("irfftn", x, s, axes)
    if not places:
        raise InvalidArgumentError("irfftn: at least one axis must be transformed")
    others = _each(ifft, _as_complex("irfftn", x), places[:-1], lengths[:-1], norm)
    return irfft(others, n=lengths[-1], axis=places[-1], norm=norm)


# ---- frequencies


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: DType | str | None = None, device: Device | str | None = None
) -> Array:
    """The frequencies of the results of `fft`, in cycles per unit of `d`, the distance of the samples."""
    first = arange((n - 1) // 2 + 1, device=device)
    return _frequencies(concat([first, arange(-(n // 2), 0, device=device)]), n, d, dtype)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: DType | str | None = None, device: Device | str | None = None
) -> Array:
    """The frequencies of the results of `rfft`, in cycles per unit of `d`, the distance of the samples."""
    return _frequencies(arange(n // 2 + 1, device=device), n, d, dtype)


def _frequencies(numbers: Array, n: int, d: float, dtype: DType | str | None) -> Array:
    kind = dtypes.float64 if dtype is None else dtype_of(dtype)
    if kind.kind != "float" or n < 1 or not d:
        raise InvalidArgumentError(
            f"frequencies: n from 1 on, d other than 0 and a real dtype; got {n}, {d}, {kind.name}"
        )
    return astype(divide(astype(numbers, dtypes.float64), float(n * d)), kind, copy=False)


def fftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """The results of a transform with the frequency 0 in the middle of axes (default: all)."""
    places = several_axes("fftshift", axes, x.ndim)
    return roll(x, tuple(int(x.shape[place]) // 2 for place in places), axis=places)


def ifftshift(x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """The inverse of `fftshift`."""
    places = several_axes("ifftshift", axes, x.ndim)
    return roll(x, tuple(-(int(x.shape[place]) // 2) for place in places), axis=places)


__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]
