"""The ops: recursive filters (`lfilter`, `sosfilt`) and polyphase ones (`upfirdn`), along the last axis.

All else in this plugin is made of them and of the functions of the array API standard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from perfxapi.custom import Attribute, Attributes, Cost, OpSpec, Sample, TensorSpec, require, require_kind
from perfxapi.dtypes import complex64, complex128, float32, float64
from perfxapi.errors import InvalidDTypeError

DOMAIN = "signal"
_REAL = (float32, float64)
_STATE = {float32: float64, float64: float64, complex64: complex128, complex128: complex128}
"""In what coefficients and states are given and computed with, for each dtype of a signal."""


def _rows(x: TensorSpec) -> int:
    """How many rows there are along the last axis, symbolic sizes as 1."""
    return int(np.prod([size if isinstance(size, int) else 1 for size in x.shape[:-1]], dtype=np.int64))


def _samples_of(x: TensorSpec) -> int:
    """The length of a row, a symbolic one as 1."""
    return x.shape[-1] if isinstance(x.shape[-1], int) else 1


def _require_signal(op: str, x: TensorSpec, *dtypes: Any) -> None:
    require_kind(op, x, "float", "complex")
    if x.dtype not in dtypes:
        raise InvalidDTypeError(f"{op}: a signal of {x.dtype.name} is none of {', '.join(d.name for d in dtypes)}")
    require(len(x.shape) >= 1, op, "a signal has at least one dimension")


def _require_like(op: str, name: str, operand: TensorSpec, dtype: Any) -> None:
    if operand.dtype is not dtype:
        raise InvalidDTypeError(f"{op}: {name} must be {dtype.name}; got {operand.dtype.name}")


def _require_shape(op: str, name: str, operand: TensorSpec, expected: Sequence[Any]) -> None:
    fits = tuple(operand.shape) == tuple(expected)
    require(fits, op, f"{name} must have the shape {list(expected)}; got {list(operand.shape)}")


# ---- lfilter


def _infer_lfilter(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, b, a, zi = inputs
    _require_signal("lfilter", x, *_STATE)
    for name, operand in (("b", b), ("a", a), ("zi", zi)):
        _require_like("lfilter", name, operand, _STATE[x.dtype])
    for name, operand in (("b", b), ("a", a)):
        fits = len(operand.shape) == 1 and operand.shape[0] != 0
        require(fits, "lfilter", f"{name} must have one dimension and an item; got {list(operand.shape)}")
    order = max(int(b.shape[0]), int(a.shape[0])) - 1
    _require_shape("lfilter", "zi", zi, (*x.shape[:-1], order))
    return x, zi


def _lfilter(x: Any, b: Any, a: Any, zi: Any) -> Any:
    """y[n] = (b[0] x[n] + b[1] x[n-1] + ... - a[1] y[n-1] - ...) / a[0], in transposed direct form II."""
    count = max(len(b), len(a))
    b, a = (np.pad(c / a[0], (0, count - len(c)))[:, None] for c in (b, a))
    signal = np.moveaxis(x.astype(zi.dtype), -1, 0)
    y = np.empty_like(signal)
    z = np.concatenate([np.moveaxis(zi, -1, 0), np.zeros((1, *zi.shape[:-1]), zi.dtype)])
    b, a = (c.reshape(count, *[1] * (z.ndim - 1)) for c in (b, a))
    for time, value in enumerate(signal):
        y[time] = z[0] + b[0] * value
        z[:-1] = z[1:] + b[1:] * value - a[1:] * y[time]
    return np.moveaxis(y, 0, -1).astype(x.dtype), np.moveaxis(z[:-1], 0, -1)


def _lfilter_samples() -> Iterator[Sample]:
    rng = np.random.default_rng(90)
    for shape, num_b, num_a in (((7,), 2, 2), ((3, 33), 3, 2), ((9, 5), 1, 4), ((2, 8, 140), 6, 10), ((0, 4), 2, 2)):
        for dtype in (np.float32, np.float64, np.complex64, np.complex128):
            wide = np.dtype(np.complex128 if np.issubdtype(dtype, np.complexfloating) else np.float64)
            b, a, zi = (_numbers(rng, s, wide) for s in (num_b, num_a, (*shape[:-1], max(num_b, num_a) - 1)))
            a = np.concatenate([[2.0], 0.8 * a[1:] / max(1, num_a)]).astype(wide)
            yield Sample((_numbers(rng, shape, np.dtype(dtype)), b, a, zi), {}, f"{shape}, orders {num_b}, {num_a}")


def _numbers(rng: np.random.Generator, shape: Any, dtype: np.dtype[Any]) -> Any:
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if dtype.kind == "c" else values).astype(dtype)


def _lfilter_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x, b, a, _ = inputs
    count = _rows(x) * _samples_of(x)
    return Cost(2 * count * x.dtype.itemsize, 2 * count * int(b.shape[0] + a.shape[0]))


# ---- sosfilt


def _infer_sosfilt(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, sos, zi = inputs
    _require_signal("sosfilt", x, *_REAL)
    _require_like("sosfilt", "sos", sos, float64)
    _require_like("sosfilt", "zi", zi, float64)
    fits = len(sos.shape) == 2 and sos.shape[0] != 0 and sos.shape[1] == 6
    require(fits, "sosfilt", f"sos must have the shape [sections, 6]; got {list(sos.shape)}")
    _require_shape("sosfilt", "zi", zi, (*x.shape[:-1], sos.shape[0], 2))
    return x, zi


def _sosfilt(x: Any, sos: Any, zi: Any) -> Any:
    """Sections of second order one after another, each in transposed direct form II. Their a[0] is 1."""
    y, z = np.moveaxis(x.astype(np.float64), -1, 0).copy(), zi.copy()
    for time in range(len(y)):
        for section, (b0, b1, b2, _, a1, a2) in enumerate(sos):
            value = y[time]
            out = b0 * value + z[..., section, 0]
            z[..., section, 0] = b1 * value - a1 * out + z[..., section, 1]
            z[..., section, 1] = b2 * value - a2 * out
            y[time] = out
    return np.moveaxis(y, 0, -1).astype(x.dtype), z


def _sosfilt_samples() -> Iterator[Sample]:
    rng = np.random.default_rng(91)
    for shape, count in (((7,), 1), ((3, 33), 2), ((9, 5), 3), ((2, 8, 140), 7), ((0, 4), 4)):
        for dtype in (np.float32, np.float64):
            sos, zi = rng.standard_normal((count, 6)), rng.standard_normal((*shape[:-1], count, 2))
            sos[:, 3], sos[:, 4:] = 1.0, 0.4 * np.tanh(sos[:, 4:])
            yield Sample((rng.standard_normal(shape).astype(dtype), sos, zi), {}, f"{shape}, {count} sections")


def _sosfilt_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x, sos, _ = inputs
    count = _rows(x) * _samples_of(x)
    return Cost(2 * count * x.dtype.itemsize, 10 * count * int(sos.shape[0]))


# ---- upfirdn


def _infer_upfirdn(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, h = inputs
    up, down = attributes["up"], attributes["down"]
    _require_signal("upfirdn", x, *_REAL)
    _require_like("upfirdn", "h", h, x.dtype)
    require(up >= 1 and down >= 1, "upfirdn", f"up and down must be at least 1; got {up} and {down}")
    fits = len(h.shape) == 1 and h.shape[0] != 0
    require(fits, "upfirdn", f"h must have one dimension and an item; got {list(h.shape)}")
    size = x.shape[-1]
    if not isinstance(size, int) or size < 1:
        require(False, "upfirdn", f"the filtered axis must have a known size of at least 1; got {size!r}")
    return (TensorSpec((*x.shape[:-1], upfirdn_size(int(h.shape[0]), int(size), up, down)), x.dtype),)


def upfirdn_size(taps: int, size: int, up: int, down: int) -> int:
    """How many samples upfirdn gives."""
    return ((size - 1) * up + taps - 1) // down + 1


def _upfirdn(x: Any, h: Any, up: int, down: int) -> Any:
    """Every `down`-th sample of the convolution of h with x, between whose samples up - 1 zeros stand."""
    spread = (x.shape[-1] - 1) * up + 1
    whole = np.zeros((*x.shape[:-1], spread + len(h) - 1))
    for place, tap in enumerate(h.astype(np.float64)):
        whole[..., place : place + spread : up] += tap * x
    return whole[..., ::down].astype(x.dtype)


def _upfirdn_samples() -> Iterator[Sample]:
    rng = np.random.default_rng(92)
    sizes = (((5,), 3), ((3, 33), 8), ((2, 2, 300), 31), ((1, 7), 40), ((9, 1), 1), ((0, 4), 2))
    for shape, taps in sizes:
        for up, down in ((1, 1), (1, 3), (2, 1), (3, 2), (4, 6), (7, 5)):
            for dtype in (np.float32, np.float64):
                x, h = rng.standard_normal(shape).astype(dtype), rng.standard_normal(taps).astype(dtype)
                yield Sample((x, h), {"up": up, "down": down}, f"{shape}, {taps} taps, {up} over {down}")


def _upfirdn_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    (x, h), up, down = inputs, attributes["up"], attributes["down"]
    taps, size = int(h.shape[0]), _samples_of(x)
    outputs = upfirdn_size(taps, size, up, down)
    return Cost(_rows(x) * (size + outputs) * x.dtype.itemsize, 2 * _rows(x) * outputs * max(taps // up, 1))


SPECS = (
    OpSpec("lfilter", ("x", "b", "a", "zi"), _infer_lfilter, _lfilter, _lfilter_samples, cost=_lfilter_cost,
           domain=DOMAIN),
    OpSpec("sosfilt", ("x", "sos", "zi"), _infer_sosfilt, _sosfilt, _sosfilt_samples, cost=_sosfilt_cost,
           domain=DOMAIN),
    OpSpec("upfirdn", ("x", "h"), _infer_upfirdn, _upfirdn, _upfirdn_samples,
           (Attribute("up", int, 1), Attribute("down", int, 1)), cost=_upfirdn_cost, domain=DOMAIN),
)  # fmt: skip
"""All of them."""
