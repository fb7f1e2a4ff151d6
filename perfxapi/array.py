"""The array that users hold: a view of a buffer and the device it lives on."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.dims import Dim, Shape, Size, product
from perfxapi.dispatch import call_op
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import InvalidArgumentError, TraceError
from perfxapi.memory import HOST, Buffer, View
from perfxapi.ops.spec import OpSpec, op_spec
from perfxapi.policy import get_device

MAX_NDIM = 64


class Array:
    """An n-dimensional array on a device.

    Made by `asarray`, `constant`, `state` and by ops. Indexing with integers, slices, `...` and None, `reshape` of
    contiguous arrays and `permute_dims` give views of the same bytes. `numpy.asarray(array)` reads it (moving it to the
    host if it must).
    """

    __slots__ = ("device", "view")
    __array_priority__ = 100.0

    def __init__(self, view: View, device: Device) -> None:
        self.view, self.device = view, device

    @property
    def shape(self) -> Shape:
        """Sizes of the dimensions; while tracing, some may be symbolic."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.view.shape)

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self.view.dtype

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.view.shape)

    def reshape(self, *shape: Size | Sequence[Size]) -> Array:
        """The same elements in another shape; one size may be -1 where all are known.

        A non-contiguous array is copied first.
        """
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        target = _complete_shape(self.shape, sizes)  # type: ignore[arg-type]
        if self.dtype.is_quantized and (not target or target[-1] != self.shape[-1]):
            raise InvalidArgumentError(f"reshape: rows of {self.dtype.name} must keep their {self.shape[-1]} columns")
        if not self.view.is_contiguous:
            if _is_traced(self.view):
                raise TraceError("reshape of a non-contiguous array cannot be traced; reshape before slicing")
            return _on_host(np.ascontiguousarray(self.view.host()), self.dtype, self.device).reshape(*target)
        return self._viewed(target, View.contiguous(self.dtype, target), self.view.offset)

    def permute_dims(self, axes: Sequence[int]) -> Array:
        """The array with its axes in the given order."""
        if sorted(axes) != list(range(self.ndim)) or self.dtype.is_quantized:
            raise InvalidArgumentError(f"permute_dims: {tuple(axes)} is not an order of {self.ndim} axes to permute")
        view = self.view
        return self._viewed(tuple(view.shape[a] for a in axes), tuple(view.strides[a] for a in axes), view.offset)

    def __getitem__(self, key: Any) -> Array:
        shape, strides, offset = _index(self.view, key if isinstance(key, tuple) else (key,))
        return self._viewed(shape, strides, offset)

    def _viewed(self, shape: Shape, strides: Shape, offset: int) -> Array:
        return Array(View(self.view.buffer, self.dtype, shape, strides, offset), self.device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if _is_traced(self.view):
            raise TraceError("the values of a traced array are only known when its graph runs")
        values = _host_values(self.view)
        if self.dtype.is_quantized:
            from perfxapi.quantization import dequantize

            return dequantize(values, self.dtype).astype(dtype or np.float32, copy=False)
        if self.dtype is dtypes.bfloat16:
            values = dtypes.bfloat16_to_float32(values)
        return np.array(values, dtype, copy=bool(copy)) if copy else np.asarray(values, dtype)

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __int__(self) -> int:
        return int(np.asarray(self))

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __len__(self) -> int:
        if not self.shape:
            raise InvalidArgumentError("an array of 0 dimensions has no length")
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        if _is_traced(self.view) or self.dtype.is_quantized:
            return f"Array(shape={self.shape}, dtype={self.dtype.name}, device={self.device})"
        body = np.array2string(np.asarray(self), prefix="Array(")
        return f"Array({body}, dtype={self.dtype.name}, device={self.device})"

    def __add__(self, other: Any) -> Array:
        return _binary("add", self, other)

    def __radd__(self, other: Any) -> Array:
        return _binary("add", other, self)

    def __sub__(self, other: Any) -> Array:
        return _binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Array:
        return _binary("subtract", other, self)

    def __mul__(self, other: Any) -> Array:
        return _binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Array:
        return _binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Array:
        return _binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return _binary("divide", other, self)

    def __matmul__(self, other: Any) -> Array:
        return _binary("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Array:
        return _binary("matmul", other, self)


def _is_traced(view: View) -> bool:
    return not isinstance(view.buffer, Buffer)


def _host_values(view: View) -> npt.NDArray[Any]:
    """A view's elements on the host. State that lives elsewhere stays there: the user gets a copy."""
    if view.buffer.home in (None, HOST):
        return view.host()
    return view.over(view.buffer.fetch([view.extent])[0])


def _complete_shape(shape: Shape, sizes: tuple[Size, ...]) -> Shape:
    wanted: list[Size] = [size if isinstance(size, Dim) else operator.index(size) for size in sizes]
    if any(isinstance(size, int) and size < -1 for size in wanted):
        raise InvalidArgumentError(f"reshape: {sizes} has a negative size")
    holes = [index for index, size in enumerate(wanted) if isinstance(size, int) and size == -1]
    total = product(shape)
    if len(holes) == 1:
        rest = product(size for index, size in enumerate(wanted) if index != holes[0])
        if isinstance(total, Dim) or isinstance(rest, Dim):
            raise TraceError("reshape: a size of -1 cannot be worked out among symbolic dimensions; name it")
        wanted[holes[0]] = total // rest if rest else 0
    if len(holes) > 1 or product(wanted) != total:
        raise InvalidArgumentError(f"reshape: {shape} does not fit into {sizes}")
    if len(wanted) > MAX_NDIM:
        raise InvalidArgumentError(f"reshape: {len(wanted)} dimensions are more than {MAX_NDIM}")
    return tuple(wanted)


def _index(view: View, key: tuple[Any, ...]) -> tuple[Shape, Shape, int]:
    if view.dtype.is_quantized:
        raise InvalidArgumentError("quantized arrays cannot be indexed: use embedding or take_rows")
    ellipses = [place for place, item in enumerate(key) if item is Ellipsis]
    new_axes = sum(item is None for item in key)
    taken = len(key) - new_axes - len(ellipses)
    if len(ellipses) > 1 or taken > len(view.shape) or len(view.shape) + new_axes > MAX_NDIM:
        raise InvalidArgumentError(f"index {key!r} does not fit an array of {len(view.shape)} dimensions")
    fill = (slice(None),) * (len(view.shape) - taken)
    at = ellipses[0] if ellipses else len(key)
    items = (*key[:at], *fill, *key[at + 1 :])
    shape: list[Size] = []
    strides: list[Size] = []
    offset, axis = view.offset, 0
    for item in items:
        if item is None:
            shape.append(1)
            strides.append(0)
            continue
        start, length, step = _axis_index(item, view.shape[axis], axis)
        stride = view.strides[axis]
        if start:
            if isinstance(stride, Dim):
                raise TraceError("an index into an axis whose stride is symbolic cannot be traced")
            offset += start * stride
        if length is not None:
            shape.append(length)
            strides.append(stride if step == 1 else stride * step)
        axis += 1
    return tuple(shape), tuple(strides), view.offset if 0 in shape else offset


def _axis_index(item: Any, size: Size, axis: int) -> tuple[int, Size | None, int]:
    """Start, length (None: the axis goes) and step of one index item."""
    if isinstance(item, slice) and item == slice(None):
        return 0, size, 1
    if isinstance(size, Dim):
        raise TraceError(f"axis {axis} has the symbolic size {size!r}: only a full slice can be traced")
    if isinstance(item, slice):
        try:
            start, stop, step = item.indices(size)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"index {item!r} of axis {axis}: {error}") from None
        length = len(range(start, stop, step))
        return start if length else 0, length, step
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        position = int(item) + (size if item < 0 else 0)
        if not 0 <= position < size:
            raise InvalidArgumentError(f"index {item} is out of range for axis {axis} of size {size}")
        return position, None, 1
    raise InvalidArgumentError(f"index {item!r} is not an integer, slice, ... or None")


def asarray(values: Any, dtype: DType | str | None = None, *, device: Device | str | None = None) -> Array:
    """An array of `values` (an Array, NumPy array, number or nested sequence) on `device`, copied only if it must be.

    Raises InvalidArgumentError for dtypes that cannot be held (object, strings) and for more than 64 dimensions.
    """
    if isinstance(values, Array) and (dtype is None or dtype_of(dtype) is values.dtype):
        return values if device is None else _moved(values, get_device(device))
    try:
        data = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"asarray: {error}") from None
    if data.ndim > MAX_NDIM:
        raise InvalidArgumentError(f"asarray: {data.ndim} dimensions are more than {MAX_NDIM}")
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if data.dtype.kind not in "biufc" or data.dtype.itemsize > 16:
        raise InvalidArgumentError(f"asarray: NumPy dtype {data.dtype} cannot be held on a device")
    if dtype is not None:
        data = _converted(data, dtype_of(dtype))
    return _on_host(data, dtype_of(dtype) if dtype is not None else dtype_of(data.dtype), get_device(device))


def _moved(array: Array, device: Device) -> Array:
    """The same elements on another device. Bytes are copied when they are first used there, if they must be."""
    home = array.view.buffer.home
    if home not in (None, device.memory_space):
        raise InvalidArgumentError(f"asarray: state {array.view.buffer.name!r} lives in {home!r}, not on {device}")
    return Array(array.view, device)


def _converted(data: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    if dtype.is_quantized:
        raise InvalidArgumentError(
            f"asarray cannot quantize to {dtype.name}: use perfxapi.quantization.quantize and constant"
        )
    if dtype is dtypes.bfloat16:
        return dtypes.float32_to_bfloat16(data.astype(np.float32))
    return data.astype(dtype.numpy, copy=False)


def _on_host(data: npt.NDArray[Any], dtype: DType, device: Device) -> Array:
    if not (data.flags.c_contiguous and data.flags.aligned):
        data = data.copy(order="C")
    raw = data.reshape(-1).view(np.uint8)
    return Array(View(Buffer.from_host(raw), dtype, data.shape), device)


def constant(
    data: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]],
    dtype: DType | str | None = None,
    shape: Sequence[int] | None = None,
    *,
    name: str = "",
    release: Callable[[], None] | None = None,
    device: Device | str | None = None,
) -> Array:
    """An array that never changes (a weight), over `data` without a copy.

    `data` is the values, or with `dtype` and `shape` their raw bytes (for quantized types and bfloat16). Backends may
    keep a form of their own and then call `release`; `data` must remain readable. A function, which needs `dtype` and
    `shape`, returns these bytes when they are read; they are dropped on release, and made again where they must.
    """
    if callable(data):
        if dtype is None or shape is None:
            raise InvalidArgumentError(f"constant {name!r}: data made on demand needs a dtype and a shape")
        return _constant_on_demand(data, dtype_of(dtype), shape, name, release, get_device(device))
    kind = dtype_of(dtype if dtype is not None else data.dtype)
    sizes = _checked_sizes("constant", shape if shape is not None else data.shape, kind)
    raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if raw.__array_interface__["data"][0] % min(kind.numpy.itemsize if not kind.is_quantized else 2, 16):
        raw = raw.copy()  # kernels read whole elements
    expected = View(None, kind, sizes).nbytes
    if raw.nbytes != expected:
        raise InvalidArgumentError(
            f"constant {name!r}: {sizes} of {kind.name} takes {expected} bytes; got {raw.nbytes}"
        )
    buffer = Buffer.from_host(raw, name=name, constant=True)
    buffer.release = release
    return Array(View(buffer, kind, sizes), get_device(device))


def _constant_on_demand(
    make: Callable[[], npt.NDArray[Any]],
    dtype: DType,
    shape: Sequence[int],
    name: str,
    release: Callable[[], None] | None,
    device: Device,
) -> Array:
    sizes = _checked_sizes("constant", shape, dtype)
    expected = View(None, dtype, sizes).nbytes

    def make_bytes() -> npt.NDArray[np.uint8]:
        raw = np.ascontiguousarray(make()).reshape(-1).view(np.uint8)
        if raw.nbytes != expected:
            raise InvalidArgumentError(
                f"constant {name!r}: {sizes} of {dtype.name} takes {expected} bytes; {raw.nbytes} were made"
            )
        return raw

    buffer = Buffer.on_demand(expected, make_bytes, name=name)
    buffer.release = release
    return Array(View(buffer, dtype, sizes), device)


def _checked_sizes(what: str, shape: Sequence[int], dtype: DType) -> tuple[int, ...]:
    """A shape that memory can hold. Raises InvalidArgumentError."""
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise InvalidArgumentError(f"{what}: the shape must be whole numbers; got {shape!r}") from None
    if any(size < 0 for size in sizes) or len(sizes) > MAX_NDIM:
        raise InvalidArgumentError(
            f"{what}: {sizes} is not a shape: sizes must not be negative, nor more than {MAX_NDIM}"
        )
    if dtype.is_quantized and (not sizes or sizes[-1] % dtype.block_size):
        raise InvalidArgumentError(f"{what}: {dtype.name} needs rows of a multiple of {dtype.block_size}; got {sizes}")
    if math.prod(sizes) * dtype.itemsize >= 1 << 63:
        raise InvalidArgumentError(f"{what}: {sizes} of {dtype.name} is more memory than can be addressed")
    return sizes


def state(shape: Sequence[int], dtype: DType | str, *, device: Device | str | None = None, name: str = "") -> Array:
    """Zeros that ops write in place and that live on one device (a KV cache). Pages cost memory only when written."""
    kind, home = dtype_of(dtype), get_device(device)
    if kind.is_quantized:
        raise InvalidArgumentError(f"state {name!r}: {kind.name} cannot be written element by element")
    sizes = _checked_sizes("state", shape, kind)
    buffer = Buffer.state(View(None, kind, sizes).nbytes, home.memory_space, name=name)
    return Array(View(buffer, kind, sizes), home)


def apply(op: str | OpSpec, *operands: Any, **attributes: Any) -> Any:
    """Runs (or, for traced operands, records) an op by name. Returns an Array, a tuple of them, or None.

    Plain numbers become arrays of the dtype of the first Array operand. Arrays on different devices raise
    InvalidArgumentError.
    """
    spec = op_spec(op) if isinstance(op, str) else op
    first = next((operand for operand in operands if isinstance(operand, Array)), None)
    arrays = [operand if isinstance(operand, Array) else _promote(operand, first) for operand in operands]
    views = [array.view for array in arrays]
    tracer = next((view.buffer.tracer for view in views if _is_traced(view)), None)
    if tracer is not None:
        device = next(array.device for array in arrays if _is_traced(array.view))
        results = tracer.record(spec, views, attributes)
    else:
        device = _common_device(spec.name, arrays)
        results, device = call_op(spec, views, attributes, device)
    wrapped = tuple(Array(view, device) for view in results)
    return wrapped[0] if len(wrapped) == 1 else wrapped or None


def _binary(op: str, left: Any, right: Any) -> Array:
    result: Array = apply(op, left, right)
    return result


def _promote(operand: Any, like: Array | None) -> Array:
    if like is not None and isinstance(operand, int | float) and not like.dtype.is_quantized:
        if isinstance(operand, float) and like.dtype.kind not in ("float", "complex"):
            raise InvalidArgumentError(f"{operand!r} does not fit an array of {like.dtype.name}: convert one of them")
        try:
            return _on_host(_converted(_scalar(operand, like.dtype), like.dtype), like.dtype, like.device)
        except OverflowError as error:
            raise InvalidArgumentError(f"{operand!r} does not fit an array of {like.dtype.name}: {error}") from None
    return asarray(operand, device=like.device if like is not None else None)


def _scalar(value: float, dtype: DType) -> npt.NDArray[Any]:
    return np.asarray(value, np.float32 if dtype is dtypes.bfloat16 else dtype.numpy)


def _common_device(op: str, arrays: Sequence[Array]) -> Device:
    """Where an op runs: the device of its operands that are not constants.

    Devices that share the host's memory may be mixed, and those that are lost do not count.
    """
    movable = [array.device for array in arrays if not array.view.buffer.constant] or [array.device for array in arrays]
    working = [device for device in movable if not REGISTRY.lost(device)] or movable
    if len(set(working)) > 1 and {device.memory_space for device in working} != {HOST}:
        names = ", ".join(sorted({str(device) for device in working}))
        raise InvalidArgumentError(
            f"{op}: operands live on different devices ({names}): move them with asarray(x, device=...)"
        )
    return working[0] if working else get_device()


def matmul(a: Any, b: Any) -> Array:
    """The matrix product `a @ b` of the array API: vectors, matrices, and stacks of matrices that are broadcast.

    `a` [..., M, K] and `b` [..., K, N] give [..., M, N]; a vector is a row on the left, a column on the right. Raises
    InvalidArgumentError where the inner sizes differ.
    """
    return _binary("matmul", a, b)
