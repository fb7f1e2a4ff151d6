"""The array that users hold: a view of a buffer and the device it lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.dims import Shape, Size, product
from perfxapi.dispatch import call_op
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import InvalidArgumentError, TraceError
from perfxapi.indexing import MAX_NDIM, complete_shape, index_view
from perfxapi.memory import HOST, Buffer, Layout, View, layout_of
from perfxapi.ops.spec import OpSpec, op_spec
from perfxapi.policy import get_device
from perfxapi.ready import Known, ReadyCall
from perfxapi.settings import settings


class Array:
    """An n-dimensional array on a device.

    Made by `asarray`, `constant`, `state` and by ops. Indexing with integers, slices, `...` and None, `reshape` of
    contiguous arrays and `permute_dims` give views of the same bytes. `numpy.asarray(array)` reads it (moving it to the
    host if it must).
    """

    # The result of a ready call has a layout and a block of fresh memory that nothing else knows of; it gets its view
    # when one is asked for.
    __slots__ = ("_block", "_layout", "_view", "device")
    __array_priority__ = 100.0

    def __init__(self, view: View | None, device: Device, layout: Layout | None = None, block: Any = None) -> None:
        self._view, self.device, self._layout, self._block = view, device, layout, block

    @property
    def view(self) -> View:
        """The bytes of the array and how they are laid out: what kernels see of it."""
        return self._view if self._view is not None else self._make_view()

    def _make_view(self) -> View:
        with _making_view:
            if self._view is None:
                assert self._layout is not None
                pointer, slab, start, nbytes = self._block
                buffer = Buffer.from_host(slab[start : start + nbytes])
                buffer.pointer = pointer
                self._view = View(buffer, self._layout.dtype, self._layout.shape, self._layout.strides)
            return self._view

    @property
    def _form(self) -> View | Layout:
        return self._view or self._layout  # type: ignore[return-value]

    @property
    def shape(self) -> Shape:
        """Sizes of the dimensions; while tracing, some may be symbolic."""
        return self._form.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._form.shape)

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._form.dtype

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self._form.shape)

    def reshape(self, *shape: Size | Sequence[Size]) -> Array:
        """The same elements in another shape; one size may be -1 where all are known.

        A non-contiguous array is copied first.
        """
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        target = complete_shape(self.shape, sizes)  # type: ignore[arg-type]
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
        shape, strides, offset = index_view(self.view, key if isinstance(key, tuple) else (key,))
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
        return add(self, other)

    def __radd__(self, other: Any) -> Array:
        return add(other, self)

    def __sub__(self, other: Any) -> Array:
        return subtract(self, other)

    def __rsub__(self, other: Any) -> Array:
        return subtract(other, self)

    def __mul__(self, other: Any) -> Array:
        return multiply(self, other)

    def __rmul__(self, other: Any) -> Array:
        return multiply(other, self)

    def __truediv__(self, other: Any) -> Array:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return divide(other, self)

    def __matmul__(self, other: Any) -> Array:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Array:
        return matmul(other, self)


_making_view = threading.Lock()


def _is_traced(view: View) -> bool:
    return not isinstance(view.buffer, Buffer)


def _host_values(view: View) -> npt.NDArray[Any]:
    """A view's elements on the host. State that lives elsewhere stays there: the user gets a copy."""
    if view.buffer.home in (None, HOST):
        return view.host()
    return view.over(view.buffer.fetch([view.extent])[0])


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


# ---- functions of the array API standard: what is computed once is ready the next time


def _unary(name: str, meaning: str) -> Callable[[Any], Array]:
    spec, known = op_spec(name), Known()
    quick = known.quick

    def function(x: Any, /) -> Array:
        try:
            ready = quick[x._layout]
        except (AttributeError, KeyError):
            return _computed(spec, known, x)
        if x.device is ready.device and ready.generation == REGISTRY.generation and ready.settings is settings():
            pointer = x._block[0] if x._view is None else x._view.buffer.pointer
            if pointer is not None:
                block = ready.launch(pointer)
                if block is not None:
                    return _finished(ready, block)
        return _computed(spec, known, x)

    return _described(function, spec, meaning)


def _binary(name: str, meaning: str) -> Callable[[Any, Any], Array]:
    spec, known = op_spec(name), Known()
    quick = known.quick

    def function(x1: Any, x2: Any, /) -> Array:
        try:
            ready = quick[x1._layout, x2._layout]
        except AttributeError:
            return _with_number(function, spec, x1, x2)
        except KeyError:
            return _computed(spec, known, x1, x2)
        if (
            x1.device is ready.device is x2.device
            and ready.generation == REGISTRY.generation
            and ready.settings is settings()
        ):
            first = x1._block[0] if x1._view is None else x1._view.buffer.pointer
            second = x2._block[0] if x2._view is None else x2._view.buffer.pointer
            if first is not None and second is not None:
                block = ready.launch(first, second)
                if block is not None:
                    return _finished(ready, block)
        return _computed(spec, known, x1, x2)

    return _described(function, spec, meaning)


def _finished(ready: ReadyCall, block: Any) -> Array:
    """Counts a launched call; its result."""
    ready.row.count += 1
    return Array(None, ready.device, ready.layout, block)


def _described(function: Callable[..., Array], spec: OpSpec, meaning: str) -> Callable[..., Array]:
    function.__name__ = function.__qualname__ = spec.name
    function.__doc__ = (
        f"{meaning}, element by element (array API standard).\n\n"
        "Operands are Arrays, or what `asarray` takes; a plain number takes the dtype of the Array beside it. Raises\n"
        "InvalidArgumentError where shapes do not broadcast or dtypes do not fit."
    )
    return function


def _computed(spec: OpSpec, known: Known, *arrays: Any) -> Array:
    """Runs a call that is not ready: its pointers are missing, or it is the first of its kind, or dispatch must."""
    if any(type(a) is not Array or a.device is not arrays[0].device or _is_traced(a.view) for a in arrays):
        return apply(spec, *arrays)  # type: ignore[no-any-return]
    views, device = [array.view for array in arrays], arrays[0].device
    for array in arrays:
        array._layout = layout_of(array.view)
    ready = known.find(views, device)
    if ready is not None:
        block = ready.run(views)
        return Array(None, device, ready.layout, block) if block is not None else apply(spec, *arrays)
    result: Array = apply(spec, *arrays)
    if result.device is device:
        known.add(spec, views, result.view, device)
    return result


_MAX_NUMBERS = 256
_numbers: dict[Any, Array] = {}


def _with_number(function: Callable[[Any, Any], Array], spec: OpSpec, x1: Any, x2: Any) -> Array:
    """A call of which one operand is no Array. For a plain number there is one array beside each layout."""
    number, like = (x2, x1) if type(x1) is Array else (x1, x2)
    if type(like) is not Array or type(number) not in (int, float):
        return apply(spec, x1, x2)  # type: ignore[no-any-return]
    array = _numbers.get((number, type(number), like._layout))
    if array is None or array.device is not like.device:
        if not number or like.dtype.is_quantized:  # 0.0 and -0.0 would be one key
            return apply(spec, x1, x2)  # type: ignore[no-any-return]
        array = _remembered(number, like)
    return function(like, array) if number is x2 else function(array, like)


def _remembered(number: Any, like: Array) -> Array:
    array = _promote(number, like)
    like._layout = layout_of(like.view)
    if len(_numbers) >= _MAX_NUMBERS:
        _numbers.clear()
    _numbers[number, type(number), like._layout] = array
    return array


add = _binary("add", "x1 + x2")
subtract = _binary("subtract", "x1 - x2")
multiply = _binary("multiply", "x1 * x2")
divide = _binary("divide", "x1 / x2 of floating-point operands")
maximum = _binary("maximum", "The larger of x1 and x2, NaN where either is NaN")
minimum = _binary("minimum", "The smaller of x1 and x2, NaN where either is NaN")
exp = _unary("exp", "e to the power of x, of a floating-point operand")
tanh = _unary("tanh", "The hyperbolic tangent of x, of a floating-point operand")
matmul = _binary("matmul", "")
matmul.__doc__ = """The matrix product `x1 @ x2`: vectors, matrices, and stacks of matrices that are broadcast.

`x1` [..., M, K] and `x2` [..., K, N] give [..., M, N]; a vector is a row on the left, a column on the right. Raises
InvalidArgumentError where the inner sizes differ.
"""
