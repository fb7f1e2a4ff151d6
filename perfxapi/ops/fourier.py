"""Discrete Fourier transforms along one axis (array API standard, extension fft), by the FFT that NumPy carries.

Lengths are the operand's own: the functions of the standard cut and pad with zeros first, and go axis by axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from perfxapi import dtypes
from perfxapi.dtypes import complex_of, real_of
from perfxapi.errors import InvalidDTypeError
from perfxapi.ops.elementwise import num_elements
from perfxapi.ops.reduction import AXIS, require_axis
from perfxapi.ops.spec import Attribute, Attributes, Cost, OpSpec, Sample, TensorSpec, register_op, require

Norm = Literal["backward", "ortho", "forward"]
NORMS = ("backward", "ortho", "forward")
_NORM = Attribute("norm", str, "backward", NORMS)
_REAL = (dtypes.float32, dtypes.float64)
_COMPLEX = (dtypes.complex64, dtypes.complex128)


def _check(op: str, x: TensorSpec, attributes: Attributes, accepted: Sequence[dtypes.DType]) -> tuple[int, int]:
    """The axis and its size."""
    if x.dtype not in accepted:
        raise InvalidDTypeError(f"{op}: {x.dtype.name} is none of {', '.join(dtype.name for dtype in accepted)}")
    axis = attributes["axis"]
    require_axis(op, x, axis)
    size = x.shape[axis]
    if not isinstance(size, int) or size < 1:
        require(False, op, f"the transformed axis must have a known size of at least 1; got {size!r}")
    return axis, int(size)


def _infer_fft(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    _check("fft", inputs[0], attributes, _COMPLEX)
    return (inputs[0],)


def _infer_rfft(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x,) = inputs
    axis, size = _check("rfft", x, attributes, _REAL)
    return (TensorSpec((*x.shape[:axis], size // 2 + 1, *x.shape[axis + 1 :]), complex_of(x.dtype)),)


def _infer_irfft(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x,), count = inputs, attributes["n"]
    axis, size = _check("irfft", x, attributes, _COMPLEX)
    require(count >= 1 and size == count // 2 + 1, "irfft", f"{count} values come from {count // 2 + 1}, not {size}")
    return (TensorSpec((*x.shape[:axis], count, *x.shape[axis + 1 :]), real_of(x.dtype)),)


def _fft(x: Any, axis: int, inverse: int, norm: Norm) -> Any:
    return (np.fft.ifft if inverse else np.fft.fft)(x, axis=axis, norm=norm)


def _rfft(x: Any, axis: int, norm: Norm) -> Any:
    return np.fft.rfft(x, axis=axis, norm=norm)


def _irfft(x: Any, axis: int, n: int, norm: Norm) -> Any:
    return np.fft.irfft(x, n, axis=axis, norm=norm)


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x = inputs[0]
    count, size = num_elements(x), x.shape[attributes["axis"]]
    steps = max(size, 2).bit_length() if isinstance(size, int) else 1
    return Cost(2 * count * x.dtype.itemsize, 5 * count * steps)


def _signals(real: bool) -> Iterable[tuple[Any, int]]:
    rng = np.random.default_rng(80)
    for shape, axis in (((1,), 0), ((16,), 0), ((3, 15), 1), ((12, 2), 0), ((56,), 0), ((2, 14), 1), ((11, 2), 0)):
        for single in (True, False):
            x = rng.standard_normal(shape) + (0 if real else 1j * rng.standard_normal(shape))
            kind = (np.float32 if real else np.complex64) if single else x.dtype
            yield x.astype(kind), axis


def _fft_samples() -> Iterable[Sample]:
    for x, axis in _signals(real=False):
        for inverse in (0, 1):
            for norm in NORMS:
                yield Sample((x,), {"axis": axis, "inverse": inverse, "norm": norm}, f"{x.shape}, axis {axis}, {norm}")


def _rfft_samples() -> Iterable[Sample]:
    for x, axis in _signals(real=True):
        yield from (Sample((x,), {"axis": axis, "norm": norm}, f"{x.shape}, axis {axis}, {norm}") for norm in NORMS)


def _irfft_samples() -> Iterable[Sample]:
    for sample in _rfft_samples():
        (x,), axis = sample.inputs, sample.attributes["axis"]
        yield Sample((np.fft.rfft(x, axis=axis),), {**sample.attributes, "n": x.shape[axis]}, sample.label)


def _register(name: str, infer: Any, reference: Any, samples: Any, *attributes: Attribute) -> None:
    register_op(OpSpec(name, ("x",), infer, reference, samples, attributes, cost=_cost, domain="array"))


_register("fft", _infer_fft, _fft, _fft_samples, AXIS, Attribute("inverse", int, 0), _NORM)
_register("rfft", _infer_rfft, _rfft, _rfft_samples, AXIS, _NORM)
_register("irfft", _infer_irfft, _irfft, _irfft_samples, AXIS, Attribute("n", int), _NORM)
