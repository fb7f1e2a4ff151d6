"""Recursive and finite filters along one axis: `lfilter`, `sosfilt`, forwards and backwards, and their initial states.

Coefficients are computed with in float64, and so are states, which are float64 or complex128 arrays; the result has the
precision of the signal. Coefficients are read on the host, so they must be known while tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi_plugin_signal.arrays import (
    as_signal,
    back_to,
    beside,
    complex_dtype,
    from_parts,
    host_numbers,
    is_complex,
    on_axis,
    one_of,
    parts_of,
    sizes_of,
    zeros_like,
)
from perfxapi_plugin_signal.polyphase import polyphase

Padding = Literal["odd", "even", "constant"]
State = Array | npt.ArrayLike
_PADDINGS = ("odd", "even", "constant", None)


@overload
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: None = None) -> Array: ...
@overload
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, *, zi: State) -> tuple[Array, Array]: ...
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: State | None = None) -> Array | tuple[Array, Array]:
    """x filtered by (b[0] + b[1] z^-1 + ...) / (a[0] + a[1] z^-1 + ...) along an axis.

    With an initial state `zi`, as long as the filter's order along that axis, (result, final state). Raises
    InvalidArgumentError for coefficients that are no vectors, for a[0] = 0 and for a state of another shape.
    """
    rows, place = on_axis("lfilter", x, axis)
    top, bottom = _ratio("lfilter", b, a)
    order = max(len(top), len(bottom)) - 1
    state = None if zi is None else px.moveaxis(as_signal("lfilter", zi, like=rows), axis, -1)
    if is_complex(top) or is_complex(bottom) or (state is not None and is_complex(state)):
        rows = px.astype(rows, complex_dtype(rows.dtype), copy=False)
    before = _state("lfilter", state, rows, (order,))
    finite = len(bottom) == 1 and rows.shape[-1] != 0
    y, after = _finite(top, rows, before) if finite else _recursive(top, bottom, rows, before)
    y = back_to(place, y)
    return y if zi is None else (y, back_to(place, after))


def _ratio(name: str, b: Any, a: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both sets of coefficients, divided by a[0]."""
    top, bottom = host_numbers(name, b), host_numbers(name, a)
    if bottom[0] == 0:
        raise InvalidArgumentError(f"{name}: a[0] must not be 0")
    return top / bottom[0], bottom / bottom[0]


def _state(name: str, zi: Array | None, rows: Array, tail: tuple[int, ...]) -> Array:
    """An initial state for every row, in double precision; zeros where none is given."""
    dtype = px.complex128 if is_complex(rows) else px.float64
    if zi is None:
        return zeros_like(rows, *tail, dtype=dtype)
    shape, given = (*sizes_of(rows)[:-1], *tail), sizes_of(zi)
    fits = len(given) == len(shape) and given[-len(tail) :] == tail
    if not fits or any(size not in (1, whole) for size, whole in zip(given, shape, strict=True)):
        raise InvalidArgumentError(f"{name}: zi must have {shape} (rows, then the state of each); got {given}")
    return px.astype(px.broadcast_to(zi, shape), dtype)


def _recursive(b: npt.NDArray[Any], a: npt.NDArray[Any], rows: Array, zi: Array) -> tuple[Array, Array]:
    y, zf = px.apply("lfilter", rows, beside(b, rows, zi.dtype), beside(a, rows, zi.dtype), zi)
    return y, zf


def _finite(b: npt.NDArray[Any], rows: Array, zi: Array) -> tuple[Array, Array]:
    """A filter without feedback: a convolution, of which what lies beyond the signal is the state."""
    whole, size, count = polyphase(rows, b), int(rows.shape[-1]), len(b) - 1
    if count:
        head = px.astype(px.astype(whole[..., :count], zi.dtype) + zi, whole.dtype)
        whole = px.concat([head, whole[..., count:]], axis=-1)
    return whole[..., :size], px.astype(whole[..., size:], zi.dtype)


@overload
def sosfilt(sos: Any, x: Any, axis: int = -1, zi: None = None) -> Array: ...
@overload
def sosfilt(sos: Any, x: Any, axis: int = -1, *, zi: State) -> tuple[Array, Array]: ...
def sosfilt(sos: Any, x: Any, axis: int = -1, zi: State | None = None) -> Array | tuple[Array, Array]:
    """x filtered along an axis by sections of second order, [b0, b1, b2, 1, a1, a2] each, one after another.

    `zi` has the shape of x with 2 along the axis, and the sections as a new first axis; with it the result is (result,
    final state). Raises InvalidArgumentError for other shapes, complex sections and an a0 other than 1.
    """
    rows, place = on_axis("sosfilt", x, axis)
    sections = _sections("sosfilt", sos)
    state = None
    if zi is not None:
        state = as_signal("sosfilt", zi, like=rows)
        if state.ndim != rows.ndim + 1:
            raise InvalidArgumentError(f"sosfilt: zi must have {rows.ndim + 1} dimensions; got {state.ndim}")
        state = px.moveaxis(state, (0, place + 1), (-2, -1))
        if is_complex(state):
            rows = px.astype(rows, complex_dtype(rows.dtype), copy=False)
    before = _state("sosfilt", state, rows, (len(sections), 2))
    split = is_complex(rows)
    if split:
        rows, before = parts_of(rows), px.astype(parts_of(before), px.float64)
    y, after = px.apply("sosfilt", rows, beside(sections, rows, px.float64), before)
    if split:
        y, after = from_parts(y), from_parts(after)
    y = back_to(place, y)
    return y if zi is None else (y, px.moveaxis(after, (-2, -1), (0, place + 1)))


def _sections(name: str, sos: Any) -> npt.NDArray[Any]:
    sections = host_numbers(name, sos, ndim=2)
    if sections.shape[1] != 6 or is_complex(sections):
        raise InvalidArgumentError(f"{name}: sos must be real and of the shape [sections, 6]; got {sections.shape}")
    if np.any(sections[:, 3] != 1):
        raise InvalidArgumentError(f"{name}: the fourth number of each section, a0, must be 1; got {sections[:, 3]}")
    return sections


# ---- initial states


def lfilter_zi(b: Any, a: Any) -> Array:
    """The state in which a filter stands after a long time of ones: for steps that start without a transient.

    It solves z = A z + B for the companion form of the filter. Infinite where the filter has a pole at 1.
    """
    top, bottom = _ratio("lfilter_zi", b, a)
    return px.asarray(_steady_state(top, bottom))


def _steady_state(b: npt.NDArray[Any], a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    order = max(len(a), len(b)) - 1
    b, a = (np.pad(c, (0, order + 1 - len(c))) for c in (b, a))
    with np.errstate(all="ignore"):
        forced = b[1:] - a[1:] * b[0]
        first = forced.sum() / a.sum()  # the sum of all equations leaves the first number of the state
        later = np.cumsum((forced - a[1:] * first)[::-1])[::-1]
    return np.concatenate([[first], later[1:]]) if order else forced


def sosfilt_zi(sos: Any) -> Array:
    """The state, [sections, 2], in which sections stand after a long time of ones (`lfilter_zi`)."""
    return px.asarray(_steady_sections(_sections("sosfilt_zi", sos)))


def _steady_sections(sections: npt.NDArray[Any]) -> npt.NDArray[Any]:
    states, scale = [], 1.0
    for section in sections:
        states.append(scale * _steady_state(section[:3], section[3:]))
        with np.errstate(all="ignore"):
            scale *= section[:3].sum() / section[3:].sum()
    return np.asarray(states)


# ---- forwards and backwards


def filtfilt(
    b: Any, a: Any, x: Any, axis: int = -1, padtype: Padding | None = "odd", padlen: int | None = None
) -> Array:
    """x filtered forwards, then backwards, along an axis: without a shift of phase (Gustafsson, 1996).

    The signal is first extended at both ends by `padlen` samples (None: three times the number of coefficients):
    point-symmetric ("odd"), mirrored ("even"), by its ends ("constant"), or not at all (None). Raises
    InvalidArgumentError where the signal is not longer than that.
    """
    top, bottom = _ratio("filtfilt", b, a)
    steady = _steady_state(top, bottom)
    count = 3 * max(len(top), len(bottom)) if padlen is None else padlen
    rows, place = on_axis("filtfilt", x, axis)
    state = px.asarray(steady, device=rows.device)
    if is_complex(state):
        rows = px.astype(rows, complex_dtype(rows.dtype), copy=False)

    def run(signal: Array) -> Array:
        return lfilter(top, bottom, signal, zi=_double(signal[..., :1]) * _beside_double(state, signal))[0]

    return back_to(place, _both_ways("filtfilt", run, rows, padtype, count))


def sosfiltfilt(sos: Any, x: Any, axis: int = -1, padtype: Padding | None = "odd", padlen: int | None = None) -> Array:
    """`filtfilt` by sections of second order."""
    sections = _sections("sosfiltfilt", sos)
    taps = 2 * len(sections) + 1 - min(int((sections[:, 2] == 0).sum()), int((sections[:, 5] == 0).sum()))
    rows, place = on_axis("sosfiltfilt", x, axis)
    steady = _steady_sections(sections).reshape(len(sections), *(1,) * (rows.ndim - 1), 2)
    state = px.asarray(steady, device=rows.device)
    count = 3 * taps if padlen is None else padlen

    def run(signal: Array) -> Array:
        return sosfilt(sections, signal, zi=_double(signal[None, ..., :1]) * _beside_double(state, signal))[0]

    return back_to(place, _both_ways("sosfiltfilt", run, rows, padtype, count))


def _double(x: Array) -> Array:
    return px.astype(x, px.complex128 if is_complex(x) else px.float64)


def _beside_double(state: Array, signal: Array) -> Array:
    return px.astype(state, px.complex128, copy=False) if is_complex(signal) else state


def _both_ways(name: str, run: Callable[[Array], Array], rows: Array, padtype: Padding | None, count: int) -> Array:
    one_of(name, "padtype", padtype, _PADDINGS)
    edge = count if padtype is not None else 0
    if edge < 0 or rows.shape[-1] <= edge:
        raise InvalidArgumentError(
            f"{name}: padlen must be from 0 to less than the {rows.shape[-1]} samples; got {edge}"
        )
    there = run(extended(rows, padtype, edge) if edge and padtype is not None else rows)
    back = px.flip(run(px.flip(there, axis=-1)), axis=-1)
    return back[..., edge : int(back.shape[-1]) - edge]


def extended(x: Array, kind: Padding, count: int) -> Array:
    """x with `count` more samples at both ends of the last axis, made of its own."""
    first, last = x[..., :1], x[..., -1:]
    shape = (*sizes_of(x)[:-1], count)
    if kind == "constant":
        return px.concat([px.broadcast_to(first, shape), x, px.broadcast_to(last, shape)], axis=-1)
    head, tail = px.flip(x[..., 1 : count + 1], axis=-1), px.flip(x[..., -count - 1 : -1], axis=-1)
    if kind == "odd":
        head, tail = 2 * first - head, 2 * last - tail
    return px.concat([head, x, tail], axis=-1)
