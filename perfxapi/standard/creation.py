"""Arrays made of nothing but numbers (array API standard 2025.12, "Creation functions").

They are filled in the host's memory and go to their device when they are first used there.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.array import Array, apply, asarray, converted, on_host
from perfxapi.creation import checked_sizes
from perfxapi.device import Device
from perfxapi.dtypes import DType, complex_of, dtype_of
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.memory import told_memory
from perfxapi.policy import get_device
from perfxapi.standard.data_types import result_type
from perfxapi.standard.elementwise import less_equal
from perfxapi.standard.manipulation import broadcast_to, expand_dims

DTypeLike = DType | str | None
DeviceLike = Device | str | None
_DEFAULTS = {bool: dtypes.bool_, int: dtypes.int64, float: dtypes.float64, complex: dtypes.complex128}


def default_dtype(value: Any) -> DType:
    """The dtype of arrays made of Python numbers of that type."""
    for kind, dtype in _DEFAULTS.items():
        if isinstance(value, kind):
            return dtype
    return asarray(value).dtype


def _shape(name: str, shape: int | Sequence[int], dtype: DType) -> tuple[int, ...]:
    if dtype.is_quantized:
        raise InvalidDTypeError(f"{name}: {dtype.name} holds no single elements: use perfxapi.quantization")
    return checked_sizes(name, shape if isinstance(shape, tuple | list) else (shape,), dtype)


def _made(data: npt.NDArray[Any], dtype: DType, device: DeviceLike) -> Array:
    return on_host(converted(data, dtype), dtype, get_device(device))


def zeros(shape: int | Sequence[int], *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """Zeros, of float64 by default. Pages cost memory only when they are written."""
    kind = dtypes.float64 if dtype is None else dtype_of(dtype)
    with told_memory("zeros"):
        return on_host(np.zeros(_shape("zeros", shape, kind), kind.numpy), kind, get_device(device))


def empty(shape: int | Sequence[int], *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """An array to be written to; until then it holds zeros, never what was in memory before."""
    return zeros(shape, dtype=dtype, device=device)


def full(shape: int | Sequence[int], fill_value: Any, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """`fill_value` everywhere; without a dtype, that of the value (int64, float64, complex128, bool)."""
    kind = default_dtype(fill_value) if dtype is None else dtype_of(dtype)
    sizes = _shape("full", shape, kind)
    value = np.asarray(fill_value)
    if value.ndim:
        raise InvalidArgumentError(f"full: fill_value must be a number; got an array of shape {value.shape}")
    try:
        with told_memory("full"):
            return on_host(np.full(sizes, converted(_number(fill_value, kind), kind)), kind, get_device(device))
    except OverflowError as error:
        raise InvalidArgumentError(f"full: {fill_value!r} does not fit {kind.name}: {error}") from None


def _number(value: Any, kind: DType) -> npt.NDArray[Any]:
    whole = isinstance(value, int) and kind.kind in ("int", "uint")
    return np.asarray(value, kind.numpy) if whole else np.asarray(value)


def ones(shape: int | Sequence[int], *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """Ones, of float64 by default."""
    return full(shape, 1, dtype=dtypes.float64 if dtype is None else dtype, device=device)


def zeros_like(x: Array, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """Zeros of the shape, dtype and device of x, where no others are given."""
    return zeros(x.shape, dtype=dtype or x.dtype, device=device or x.device)  # type: ignore[arg-type]


def empty_like(x: Array, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """An array to be written to, of the shape, dtype and device of x, where no others are given."""
    return zeros_like(x, dtype=dtype, device=device)


def ones_like(x: Array, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """Ones of the shape, dtype and device of x, where no others are given."""
    return full_like(x, 1, dtype=dtype, device=device)


def full_like(x: Array, /, fill_value: Any, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Array:
    """`fill_value` everywhere, in the shape, dtype and on the device of x, where no others are given."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, device=device or x.device)  # type: ignore[arg-type]


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Array:
    """`start`, `start + step`, ... before `stop`; with one argument, from 0 to before it."""
    first, last = (0, start) if stop is None else (start, stop)
    whole = all(isinstance(number, int | np.integer) for number in (first, last, step))
    kind = dtype_of(dtype) if dtype is not None else dtypes.int64 if whole else dtypes.float64
    if not step or not all(map(math.isfinite, (first, last, step))):
        raise InvalidArgumentError(
            f"arange: start, stop and a step other than 0 must be finite; got {start, stop, step}"
        )
    count = max(0, -(-(last - first) // step)) if whole else max(0, math.ceil((last - first) / step))
    _shape("arange", int(count), kind)
    if kind.kind in ("int", "uint") and whole:
        with told_memory("arange"):
            steps = np.arange(int(count), dtype=np.uint64 if kind is dtypes.uint64 else np.int64)
        return _made(steps * steps.dtype.type(step % 2**64 if kind is dtypes.uint64 else step)
                     + steps.dtype.type(first % 2**64 if kind is dtypes.uint64 else first), kind, device)  # fmt: skip
    with told_memory("arange"):
        return _made(np.arange(int(count)) * step + first, kind, device)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    endpoint: bool = True,
) -> Array:
    """`num` numbers at equal distances from `start` to `stop`, which is the last one where `endpoint` says so."""
    is_complex = isinstance(start, complex) or isinstance(stop, complex)
    kind = dtype_of(dtype) if dtype is not None else dtypes.complex128 if is_complex else dtypes.float64
    if is_complex:
        kind = complex_of(kind) if kind.kind == "float" else kind
    _shape("linspace", num, kind)
    with np.errstate(all="ignore"), told_memory("linspace"):
        return _made(np.linspace(start, stop, operator.index(num), endpoint=endpoint), kind, device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: DTypeLike = None, device: DeviceLike = None
) -> Array:
    """Ones on the diagonal `k` places right of the main one, zeros elsewhere."""
    kind = dtypes.float64 if dtype is None else dtype_of(dtype)
    rows, columns = _shape("eye", (n_rows, n_rows if n_cols is None else n_cols), kind)
    with told_memory("eye"):
        return _made(np.eye(rows, columns, operator.index(k), dtype=np.bool_), kind, device)


def tril(x: Array, /, *, k: int = 0) -> Array:
    """The lower triangles of a stack of matrices, up to the diagonal `k` places right of the main one; zeros beside."""
    return _triangle("tril", x, k, lower=True)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """The upper triangles of a stack of matrices, from the diagonal `k` places right of the main one; zeros beside."""
    return _triangle("triu", x, k, lower=False)


def _triangle(name: str, x: Array, k: int, *, lower: bool) -> Array:
    if x.ndim < 2:
        raise InvalidArgumentError(f"{name}: a stack of matrices has two dimensions or more; got {list(x.shape)}")
    rows, columns = (int(size) for size in x.shape[-2:])
    row, column = arange(rows, device=x.device)[:, None], arange(columns, device=x.device)[None, :]
    chosen = less_equal(column, row + operator.index(k)) if lower else less_equal(row + operator.index(k), column)
    result: Array = apply("where", chosen, x, zeros((), dtype=x.dtype, device=x.device))
    return result


def meshgrid(*arrays: Array, indexing: Literal["xy", "ij"] = "xy") -> tuple[Array, ...]:
    """The coordinates of a grid over vectors, each a view of its vector. With "xy" the first two axes change places."""
    if indexing not in ("xy", "ij"):
        raise InvalidArgumentError(f'meshgrid: indexing must be "xy" or "ij"; got {indexing!r}')
    if any(array.ndim != 1 for array in arrays):
        raise InvalidArgumentError(f"meshgrid: arrays must be vectors; got {[list(array.shape) for array in arrays]}")
    if len({array.dtype for array in arrays}) > 1:
        result_type(*arrays)
    order = [1, 0, *range(2, len(arrays))] if indexing == "xy" and len(arrays) > 1 else list(range(len(arrays)))
    shape = tuple(int(arrays[place].shape[0]) for place in order)
    others = [tuple(a for a in range(len(arrays)) if a != order.index(place)) for place in range(len(arrays))]
    return tuple(broadcast_to(expand_dims(array, axes), shape) for array, axes in zip(arrays, others, strict=True))
