"""What an op is, free of any backend: signature, shape and dtype rule, NumPy reference, samples, cost.

An op lives in one place, its OpSpec. Adding one makes it run (on the reference backend) and be tested (by the
conformance kit) on every backend at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import REGISTRY
from perfxapi.dims import Shape, Size
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError, UnknownNameError
from perfxapi.memory import Range, View

Attributes = Mapping[str, Any]

INTEGERS = ("int", "uint")
REALS = (*INTEGERS, "float")
FLOATS = ("float", "complex")
NUMBERS = (*REALS, "complex")
ALL_KINDS = ("bool", *NUMBERS)
"""Kinds of dtypes that ops take, as `require_kind` wants them."""
MAX_LIST = 12
"""Numbers that an attribute of kind `list` may have (`PERFX_MAX_LIST` of the C ABI)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A shape (which may hold symbolic dimensions) and a dtype."""

    shape: Shape
    dtype: DType


class QuantizedArray:
    """Block-quantized values on the host, as references see them."""

    def __init__(self, raw: npt.NDArray[np.uint8], dtype: DType) -> None:
        self.raw, self.dtype = raw, dtype
        self.shape = (*raw.shape[:-1], raw.shape[-1] // dtype.block_bytes * dtype.block_size)

    @cached_property
    def values(self) -> npt.NDArray[np.float32]:
        """All values in float32, computed once."""
        return self.rows(slice(None))

    def rows(self, index: Any) -> npt.NDArray[np.float32]:
        """The selected rows in float32."""
        from perfxapi.quantization import dequantize

        return dequantize(self.raw[index], self.dtype)


@dataclass(frozen=True, slots=True)
class BFloat16Array:
    """bfloat16 bit patterns in a sample. References get them widened to float32."""

    bits: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of an op: an int, a float, one of `choices`, (kind `tuple`) a set of axes, ascending, or (kind
    `list`) at most MAX_LIST whole numbers in any order, as a tuple.

    Native code gets the index of a choice, of a set of axes a mask with a bit for each, and of a list its length
    followed by MAX_LIST numbers.
    """

    name: str
    kind: type
    default: Any = None
    choices: tuple[str, ...] = ()

    def check(self, op: str, value: Any) -> Any:
        """The value in canonical form. Raises InvalidArgumentError."""
        if self.choices:
            if value not in self.choices:
                raise InvalidArgumentError(f"{op}: {self.name} must be one of {', '.join(self.choices)}; got {value!r}")
            return value
        if self.kind is tuple:
            return self._check_axes(op, value)
        if self.kind is list:
            return self._check_list(op, value)
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise InvalidArgumentError(f"{op}: {self.name} must be {self.kind.__name__}; got {value!r}")
        return self.kind(value)

    def _check_axes(self, op: str, value: Any) -> tuple[int, ...]:
        axes = tuple(value) if isinstance(value, tuple | list) else (-1,)
        if any(type(axis) is not int or axis < 0 for axis in axes) or len(set(axes)) < len(axes):
            raise InvalidArgumentError(f"{op}: {self.name} must be a tuple of different axes from 0 on; got {value!r}")
        return tuple(sorted(axes))

    def _check_list(self, op: str, value: Any) -> tuple[int, ...]:
        items = tuple(value) if isinstance(value, tuple | list) else (None,)
        whole = all(isinstance(item, int | np.integer) and not isinstance(item, bool) for item in items)
        if not whole or len(items) > MAX_LIST or any(abs(int(item)) >= 1 << 62 for item in items):
            raise InvalidArgumentError(
                f"{op}: {self.name} must be a tuple of at most {MAX_LIST} whole numbers; got {value!r}"
            )
        return tuple(int(item) for item in items)


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs (NumPy arrays, QuantizedArray, BFloat16Array) and attributes on which a backend meets the reference."""

    inputs: tuple[Any, ...]
    attributes: Attributes = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes that must move through memory and floating-point (or integer) operations."""

    nbytes: int
    flops: int


InferFn = Callable[[Sequence[TensorSpec], Attributes], tuple[TensorSpec, ...]]
RangesFn = Callable[[Sequence[View], Attributes], dict[int, list[Range]]]


@dataclass(frozen=True)
class OpSpec:
    """One op.

    `reference(*inputs, **attributes)` returns an array or a tuple of arrays; an op that mutates operands writes them in
    place. `mutates` and `state` name operands by index: those written in place, and those whose contents are read or
    written only in the byte ranges that `ranges(inputs, attributes)` gives. `decompose(ops, *inputs, **attributes)`
    computes a fused op by simpler ones. `weights` names the operands that are constant in models, which backends may
    keep in a form of their own; the index of a variadic input stands for all of it. `optional` names those that may be
    left out (None): an empty float32 array of one dimension then stands in their place, in the reference as in kernels;
    `is_absent` tells. `tolerance` is (relative to the largest magnitude of the result) what rounding may cost a float32
    kernel; 0 for ops that copy. `domain` is "array" for the primitives that the functions of the array API standard are
    made of, "model" for what language models need, "neural" for what vision and speech networks need beside;
    a plugin names its own.
    """

    name: str
    inputs: tuple[str, ...]
    infer: InferFn
    reference: Callable[..., Any]
    samples: Callable[[], Iterable[Sample]]
    attributes: tuple[Attribute, ...] = ()
    mutates: tuple[int, ...] = ()
    state: tuple[int, ...] = ()
    ranges: RangesFn | None = None
    decompose: Callable[..., Any] | None = None
    cost: Callable[[Sequence[TensorSpec], Attributes], Cost] | None = None
    weights: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    tolerance: float = 2e-6
    domain: str = "model"

    @property
    def is_variadic(self) -> bool:
        """Whether the last input may be given several times."""
        return bool(self.inputs) and self.inputs[-1].startswith("*")

    def is_weight(self, index: int) -> bool:
        """Whether an operand is a constant in models."""
        return min(index, len(self.inputs) - 1) in self.weights

    def input_name(self, index: int) -> str:
        """The name of an operand; those of a variadic input are numbered."""
        last = len(self.inputs) - 1
        return f"{self.inputs[last][1:]}[{index - last}]" if self.is_variadic and index >= last else self.inputs[index]

    def check_attributes(self, given: Attributes) -> dict[str, Any]:
        """All attributes in declared order with defaults filled in. Raises InvalidArgumentError or UnknownNameError."""
        unknown = set(given) - {attribute.name for attribute in self.attributes}
        if unknown:
            raise UnknownNameError(f"attribute of {self.name}", min(unknown), [a.name for a in self.attributes])
        checked = {}
        for attribute in self.attributes:
            value = given.get(attribute.name, attribute.default)
            if value is None:
                raise InvalidArgumentError(f"{self.name}: attribute {attribute.name} is required")
            checked[attribute.name] = attribute.check(self.name, value)
        return checked

    def check_inputs(self, num_inputs: int) -> None:
        """Raises InvalidArgumentError where the number of inputs is wrong."""
        expected = len(self.inputs)
        if num_inputs != expected and not (self.is_variadic and num_inputs >= expected):
            raise InvalidArgumentError(
                f"{self.name} takes {expected} inputs ({', '.join(self.inputs)}); got {num_inputs}"
            )


_REGISTRY: dict[str, OpSpec] = {}


def register_op(spec: OpSpec) -> OpSpec:
    """Makes an op known. A name that another spec has taken raises InvalidArgumentError."""
    if _REGISTRY.get(spec.name, spec) is not spec:
        raise InvalidArgumentError(f"an op named {spec.name!r} is registered already")
    _REGISTRY[spec.name] = spec
    return spec


def op_spec(name: str) -> OpSpec:
    """The op of that name; plugins are asked for one that the core does not have. Raises UnknownNameError."""
    if name not in _REGISTRY:
        REGISTRY.entries()
    try:
        return _REGISTRY[name]
    except KeyError:
        raise UnknownNameError("op", name, sorted(_REGISTRY)) from None


def all_ops() -> tuple[OpSpec, ...]:
    """Every op of the core and of plugins, in order of registration."""
    REGISTRY.entries()
    return tuple(_REGISTRY.values())


def is_absent(operand: Any) -> bool:
    """Whether an optional operand (a TensorSpec, an array) was left out."""
    return tuple(operand.shape) == (0,)


def require(condition: bool, op: str, problem: str) -> None:
    """Raises InvalidArgumentError naming the op unless `condition` holds."""
    if not condition:
        raise InvalidArgumentError(f"{op}: {problem}")


class Typed(Protocol):
    """What has a dtype: a TensorSpec, an array."""

    @property
    def dtype(self) -> DType:
        """Type of the elements."""


def require_kind(op: str, operand: Typed, *kinds: str) -> None:
    """Raises InvalidDTypeError naming the op unless the dtype is of one of the kinds."""
    if operand.dtype.kind not in kinds:
        raise InvalidDTypeError(
            f"{op}: {operand.dtype.name} is not of the kinds {', '.join(kinds)}: convert it by astype"
        )


def require_shape(op: str, name: str, spec: TensorSpec, *expected: Size | None) -> None:
    """Raises InvalidArgumentError unless an operand has these sizes. None stands for any; a symbol only fits itself."""
    fits = len(spec.shape) == len(expected)
    fits = fits and all(want is None or want == size for want, size in zip(expected, spec.shape, strict=True))
    wanted = ", ".join("any" if size is None else repr(size) for size in expected)
    require(fits, op, f"{name} must have the shape [{wanted}]; got {list(spec.shape)}")


def require_indices(op: str, **operands: TensorSpec) -> None:
    """Raises InvalidArgumentError unless every operand is int32."""
    for name, spec in operands.items():
        require(spec.dtype is dtypes.int32, op, f"{name} must be int32; got {spec.dtype.name}")


def float32_of(shape: Shape) -> TensorSpec:
    """A float32 spec of that shape."""
    return TensorSpec(shape, dtypes.float32)
