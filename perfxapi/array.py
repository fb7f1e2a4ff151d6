"""The array that users hold: a view of a buffer and the device it lives on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import REGISTRY
from perfxapi.device import Device
from perfxapi.dims import Shape, Size, product
from perfxapi.dispatch import call_op
from perfxapi.dtypes import DType, complex_of, dtype_of
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError, NoLengthError, TraceError
from perfxapi.indexing import MAX_NDIM, complete_shape, index_view, reshaped_strides
from perfxapi.memory import HOST, Buffer, Layout, View
from perfxapi.ops.spec import ALL_KINDS, FLOATS, INTEGERS, NUMBERS, REALS, OpSpec, op_spec
from perfxapi.policy import get_device
from perfxapi.ready import Known

API_VERSIONS: Final = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")
"""Versions of the Python array API standard that the namespace answers to; it has all of the last."""


Operator: TypeAlias = "Callable[[Array, Any], Array]"


class Array:
    """An n-dimensional array on a device, as the Python array API standard (2025.12) describes it.

    Made by `asarray`, `constant`, `state` and by functions. Indexing with integers, slices, `...` and None, `reshape`
    of contiguous arrays and `permute_dims` give views of the same bytes. `numpy.asarray(array)` reads it (moving it to
    the host if it must). Like NumPy's, arrays are not hashable: `==` compares their elements.
    """

    # The result of a ready call has a layout and a block of fresh memory that nothing else knows of; it gets its view
    # when one is asked for.
    __slots__ = ("_block", "_layout", "_view", "device")
    __array_priority__ = 100.0
    __hash__ = None  # type: ignore[assignment]

    # Operators and the indexing of parts are functions of the standard; perfxapi.standard.operators binds them.
    __add__: ClassVar[Operator]
    __radd__: ClassVar[Operator]
    __iadd__: ClassVar[Operator]
    __sub__: ClassVar[Operator]
    __rsub__: ClassVar[Operator]
    __isub__: ClassVar[Operator]
    __mul__: ClassVar[Operator]
    __rmul__: ClassVar[Operator]
    __imul__: ClassVar[Operator]
    __truediv__: ClassVar[Operator]
    __rtruediv__: ClassVar[Operator]
    __itruediv__: ClassVar[Operator]
    __floordiv__: ClassVar[Operator]
    __rfloordiv__: ClassVar[Operator]
    __ifloordiv__: ClassVar[Operator]
    __mod__: ClassVar[Operator]
    __rmod__: ClassVar[Operator]
    __imod__: ClassVar[Operator]
    __pow__: ClassVar[Operator]
    __rpow__: ClassVar[Operator]
    __ipow__: ClassVar[Operator]
    __matmul__: ClassVar[Operator]
    __rmatmul__: ClassVar[Operator]
    __imatmul__: ClassVar[Operator]
    __and__: ClassVar[Operator]
    __rand__: ClassVar[Operator]
    __iand__: ClassVar[Operator]
    __or__: ClassVar[Operator]
    __ror__: ClassVar[Operator]
    __ior__: ClassVar[Operator]
    __xor__: ClassVar[Operator]
    __rxor__: ClassVar[Operator]
    __ixor__: ClassVar[Operator]
    __lshift__: ClassVar[Operator]
    __rlshift__: ClassVar[Operator]
    __ilshift__: ClassVar[Operator]
    __rshift__: ClassVar[Operator]
    __rrshift__: ClassVar[Operator]
    __irshift__: ClassVar[Operator]
    __lt__: ClassVar[Operator]
    __le__: ClassVar[Operator]
    __gt__: ClassVar[Operator]
    __ge__: ClassVar[Operator]
    __eq__: ClassVar[Operator]  # type: ignore[assignment]
    __ne__: ClassVar[Operator]  # type: ignore[assignment]
    __neg__: ClassVar[Callable[[Array], Array]]
    __pos__: ClassVar[Callable[[Array], Array]]
    __abs__: ClassVar[Callable[[Array], Array]]
    __invert__: ClassVar[Callable[[Array], Array]]
    __getitem__: ClassVar[Callable[[Array, Any], Array]]
    __setitem__: ClassVar[Callable[[Array, Any, Any], None]]
    __dlpack__: ClassVar[Callable[..., Any]]
    __dlpack_device__: ClassVar[Callable[[Array], tuple[Any, int]]]

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

    @property
    def T(self) -> Array:  # noqa: N802
        """The transpose of a matrix: an array of two dimensions."""
        if self.ndim != 2:
            raise InvalidArgumentError(f"T: {list(self.shape)} is no matrix; mT transposes the last two axes")
        return self.permute_dims((1, 0))

    @property
    def mT(self) -> Array:  # noqa: N802
        """Each matrix of a stack transposed: the last two axes change places."""
        if self.ndim < 2:
            raise InvalidArgumentError(f"mT: {list(self.shape)} has no two axes to transpose")
        return self.permute_dims((*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The module whose functions take this array. Raises InvalidArgumentError for a version it does not have."""
        if api_version is not None and api_version not in API_VERSIONS:
            raise InvalidArgumentError(f"api_version must be one of {', '.join(API_VERSIONS)}; got {api_version!r}")
        return sys.modules["perfxapi"]

    def to_device(self, device: Device | str, /, *, stream: Any = None) -> Array:
        """The same elements on another device. Until it is written to, both share what bytes they can.

        `stream` must be None: the order of work is kept without one.
        """
        if stream is not None:
            raise InvalidArgumentError(f"to_device: stream must be None; got {stream!r}")
        return moved(self, get_device(device))

    def reshape(self, *shape: Size | Sequence[Size]) -> Array:
        """The same elements in another shape; one size may be -1 where all are known.

        They are copied where no strides over the same bytes give that shape.
        """
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        target = complete_shape(self.shape, sizes)  # type: ignore[arg-type]
        if self.dtype.is_quantized and (not target or target[-1] != self.shape[-1]):
            raise InvalidArgumentError(f"reshape: rows of {self.dtype.name} must keep their {self.shape[-1]} columns")
        strides = reshaped_strides(self.view, target)
        if strides is None:
            copied: Array = apply("astype", self, dtype=self.dtype.name)
            return copied.reshape(*target)
        return self.viewed(target, strides, self.view.offset)

    def permute_dims(self, axes: Sequence[int]) -> Array:
        """The array with its axes in the given order; negative ones count from the last."""
        order = [axis + self.ndim if axis < 0 else axis for axis in axes]
        if sorted(order) != list(range(self.ndim)) or self.dtype.is_quantized:
            raise InvalidArgumentError(f"permute_dims: {tuple(axes)} is not an order of {self.ndim} axes to permute")
        view = self.view
        return self.viewed(tuple(view.shape[a] for a in order), tuple(view.strides[a] for a in order), view.offset)

    def part(self, key: tuple[Any, ...]) -> Array:
        """The part that integers, slices, `...` and None choose: another view of the same bytes."""
        shape, strides, offset = index_view(self.view, key)
        return self.viewed(shape, strides, offset)

    def viewed(self, shape: Shape, strides: Shape, offset: int, dtype: DType | None = None) -> Array:
        """Another view of the same bytes; strides and offset are bytes."""
        return Array(View(self.view.buffer, dtype or self.dtype, shape, strides, offset), self.device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if is_traced(self.view):
            raise TraceError("the values of a traced array are only known when its graph runs")
        values = _host_values(self.view)
        if self.dtype.is_quantized:
            from perfxapi.quantization import dequantize

            return dequantize(values, self.dtype).astype(dtype or np.float32, copy=False)
        if self.dtype is dtypes.bfloat16:
            values = dtypes.bfloat16_to_float32(values)
        return np.array(values, dtype, copy=bool(copy)) if copy else np.asarray(values, dtype)

    def _number(self, *kinds: str) -> Any:
        """The only element, as Python's number."""
        if is_traced(self.view):
            raise TraceError("the values of a traced array are only known when its graph runs")
        if self.dtype.kind not in kinds:
            raise InvalidDTypeError(f"an element of {self.dtype.name} is no such number: convert the array by astype")
        if product(self.shape) != 1:
            raise InvalidArgumentError(f"an array of shape {list(self.shape)} is no number: only one of one element is")
        return np.asarray(self).reshape(()).item()

    def __float__(self) -> float:
        return float(self._number("bool", *REALS))

    def __int__(self) -> int:
        return int(self._number("bool", *REALS))

    def __index__(self) -> int:
        return int(self._number(*INTEGERS))

    def __complex__(self) -> complex:
        return complex(self._number(*ALL_KINDS))

    def __bool__(self) -> bool:
        return bool(self._number(*ALL_KINDS))

    def __len__(self) -> int:
        if not self.shape:
            raise NoLengthError("an array of 0 dimensions has no length")
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Array]:
        return (self.part((index,)) for index in range(len(self)))

    def __repr__(self) -> str:
        if is_traced(self.view) or self.dtype.is_quantized:
            return f"Array(shape={self.shape}, dtype={self.dtype.name}, device={self.device})"
        body = np.array2string(np.asarray(self), prefix="Array(")
        return f"Array({body}, dtype={self.dtype.name}, device={self.device})"


_making_view = threading.Lock()


def is_traced(view: View) -> bool:
    """Whether a view is of a value that is only known when its graph runs."""
    return not isinstance(view.buffer, Buffer)


def _host_values(view: View) -> npt.NDArray[Any]:
    """A view's elements on the host. State that lives elsewhere stays there: the user gets a copy."""
    if view.buffer.home in (None, HOST):
        return view.host()
    return view.over(view.buffer.fetch([view.extent])[0])


def asarray(
    obj: Any, /, dtype: DType | str | None = None, *, device: Device | str | None = None, copy: bool | None = None
) -> Array:
    """An array of `obj` (an Array, NumPy array, number or nested sequence) on `device`.

    `copy`: True always copies; False never does, and raises InvalidArgumentError where it must; None copies where it
    must. Without a copy, NumPy's memory is shared. Raises InvalidArgumentError for dtypes that cannot be held (object,
    strings) and for more than 64 dimensions.
    """
    kind = None if dtype is None else dtype_of(dtype)
    if isinstance(obj, Array) and not (kind is not None and obj.dtype.is_quantized and kind is not obj.dtype):
        return _as_array(obj, kind, device, copy)
    try:
        data = np.asarray(obj)
        original = None if isinstance(obj, bool | int | float | complex | list | tuple) else data
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"asarray: {error}") from None
    if data.ndim > MAX_NDIM:
        raise InvalidArgumentError(f"asarray: {data.ndim} dimensions are more than {MAX_NDIM}")
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if data.dtype.kind not in "biufc" or data.dtype.itemsize > 16:
        raise InvalidArgumentError(f"asarray: NumPy dtype {data.dtype} cannot be held on a device")
    if kind is not None:
        data = converted(data, kind)
    if copy is False and not (original is data and data.flags.c_contiguous and data.flags.aligned):
        raise InvalidArgumentError("asarray: copy=False, but this needs one: another dtype or layout, or no array")
    if copy and data is original:
        data = data.copy()
    return on_host(data, kind if kind is not None else dtype_of(data.dtype), get_device(device))


def _as_array(array: Array, dtype: DType | None, device: Device | str | None, copy: bool | None) -> Array:
    """`asarray` of an Array."""
    target = array if device is None else moved(array, get_device(device))
    if dtype is not None and dtype.is_quantized and dtype is not array.dtype:
        raise _cannot_quantize(dtype)
    if dtype is None or dtype is array.dtype:
        if not copy:
            return target
    elif copy is False:
        raise InvalidArgumentError(f"asarray: copy=False, but {array.dtype.name} to {dtype.name} needs one")
    result: Array = apply("astype", target, dtype=(dtype or array.dtype).name)
    return result


def moved(array: Array, device: Device) -> Array:
    """The same elements on another device. Bytes are copied when they are first used there, if they must be."""
    home = array.view.buffer.home
    if home not in (None, device.memory_space):
        raise InvalidArgumentError(f"asarray: state {array.view.buffer.name!r} lives in {home!r}, not on {device}")
    return Array(array.view, device)


def converted(data: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    """Host values as they are stored in a dtype. Raises InvalidArgumentError where they cannot be."""
    if dtype.is_quantized:
        raise _cannot_quantize(dtype)
    if dtype is dtypes.bfloat16:
        return dtypes.float32_to_bfloat16(data.astype(np.float32))
    if data.dtype.kind == "c" and dtype.kind not in ("complex", "bool"):
        raise InvalidDTypeError(f"asarray: complex numbers do not fit {dtype.name}")
    with np.errstate(all="ignore"):
        return data.astype(dtype.numpy, copy=False)


def _cannot_quantize(dtype: DType) -> InvalidArgumentError:
    return InvalidDTypeError(
        f"asarray cannot quantize to {dtype.name}: use perfxapi.quantization.quantize and constant"
    )


def on_host(data: npt.NDArray[Any], dtype: DType, device: Device) -> Array:
    """An array over host memory as it is stored, copied only where it is not contiguous or not aligned."""
    if not (data.flags.c_contiguous and data.flags.aligned):
        data = data.copy(order="C")
    raw = data.reshape(-1).view(np.uint8)
    return Array(View(Buffer.from_host(raw), dtype, data.shape), device)


def apply(op: str | OpSpec, *operands: Any, **attributes: Any) -> Any:
    """Runs (or, for traced operands, records) an op by name. Returns an Array, a tuple of them, or None.

    Plain numbers become arrays of the dtype of the first Array operand, an optional operand that is None or left out at
    the end becomes an empty one. Arrays on different devices raise InvalidArgumentError.
    """
    spec = op_spec(op) if isinstance(op, str) else op
    first = next((operand for operand in operands if isinstance(operand, Array)), None)
    if spec.optional:
        operands = (*_completed(spec, operands, first.device if first is not None else get_device()),)
    arrays = [operand if isinstance(operand, Array) else promote(operand, first) for operand in operands]
    views = [array.view for array in arrays]
    tracer = next((view.buffer.tracer for view in views if is_traced(view)), None)
    if tracer is not None:
        device = next(array.device for array in arrays if is_traced(array.view))
        results = tracer.record(spec, views, attributes)
    else:
        device = _common_device(spec.name, arrays)
        known = _known_calls(spec, attributes) if len(views) <= 2 and attributes else None
        ready = known.find(views, device) if known is not None else None
        if ready is not None and (block := ready.run(views)) is not None:
            return Array(None, device, ready.layout, block)
        asked = device
        results, device = call_op(spec, views, attributes, device)
        if known is not None and ready is None and len(results) == 1 and device is asked:
            known.add(spec, views, results[0], device, spec.check_attributes(attributes))
    wrapped = tuple(Array(view, device) for view in results)
    return wrapped[0] if len(wrapped) == 1 else wrapped or None


_MAX_KNOWN = 1024
_known: dict[Any, Known] = {}


def _known_calls(spec: OpSpec, attributes: Mapping[str, Any]) -> Known | None:
    """The ready calls of a primitive of arrays with these attributes; None for ops whose calls are never ready."""
    if spec.domain != "array" or spec.cost is None or spec.mutates or spec.weights:
        return None
    key = spec.name, *attributes.items()
    try:
        known = _known.get(key)
    except TypeError:  # a list, which dispatch has something to say about
        return None
    if known is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        known = _known[key] = Known()
    return known


def _completed(spec: OpSpec, operands: Sequence[Any], device: Device) -> list[Any]:
    """The operands of an op with an empty array for each optional one that is missing.

    Raises InvalidArgumentError where another one is.
    """
    given = [*operands, *[None] * (len(spec.inputs) - len(operands))]
    spec.check_inputs(len(given))
    missing = [index for index, operand in enumerate(given) if operand is None]
    if required := [spec.inputs[index] for index in missing if index not in spec.optional]:
        raise InvalidArgumentError(f"{spec.name}: {', '.join(required)} must be given")
    return [_absent(device) if operand is None else operand for operand in given]


@cache
def _absent(device: Device) -> Array:
    array = on_host(np.empty(0, np.float32), dtypes.float32, device)
    array.view.buffer.constant = True
    return array


def promote(operand: Any, like: Array | None) -> Array:
    """An operand as an array; a Python number as the standard promotes it beside the array `like`.

    Raises InvalidArgumentError for a number that the dtype does not hold.
    """
    if isinstance(operand, Array):
        return operand
    if like is None or not isinstance(operand, bool | int | float | complex) or like.dtype.is_quantized:
        return asarray(operand, device=like.device if like is not None else None)
    dtype = dtype_beside(operand, like.dtype)
    try:
        return on_host(converted(_scalar(operand, dtype), dtype), dtype, like.device)
    except OverflowError as error:
        raise InvalidArgumentError(f"{operand!r} does not fit an array of {like.dtype.name}: {error}") from None


_KINDS_BESIDE = {bool: ("bool",), int: NUMBERS, float: FLOATS, complex: FLOATS}


def dtype_beside(number: Any, dtype: DType) -> DType:
    """The dtype that a Python number takes beside an array ("Mixing arrays with Python scalars").

    Raises InvalidDTypeError for kinds that do not mix.
    """
    kind = next(kind for kind in (bool, int, float, complex) if isinstance(number, kind))
    if dtype.kind not in _KINDS_BESIDE[kind]:
        raise InvalidDTypeError(f"{number!r} does not fit an array of {dtype.name}: convert one of them")
    return complex_of(dtype) if kind is complex else dtype


def _scalar(value: Any, dtype: DType) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):
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
