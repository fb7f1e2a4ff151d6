"""Reductions over a set of axes, positions of extremes, and running sums and products (array API standard).

Reductions keep the dtype: the functions of the standard convert first where it says so. `all` is `min` of truth values,
`any` their `max`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.dims import Shape
from perfxapi.ops.arithmetic import quiet
from perfxapi.ops.elementwise import num_elements
from perfxapi.ops.spec import (
    NUMBERS,
    REALS,
    Attribute,
    Attributes,
    Cost,
    InferFn,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
)

AXIS = Attribute("axis", int)
AXES = Attribute("axes", tuple)
KEEPDIMS = Attribute("keepdims", int, 0)
_EXTREMES = ("max", "min", "argmax", "argmin")


def require_axis(op: str, spec: TensorSpec, axis: int) -> None:
    """Raises InvalidArgumentError unless the operand has that axis, counted from the front."""
    require(0 <= axis < len(spec.shape), op, f"axis {axis} is not one of {len(spec.shape)}")


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: int) -> Shape:
    """The shape without the axes; with `keepdims` they stay, of size 1."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _infer_reduction(name: str, kinds: tuple[str, ...]) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        x, axes = inputs[0], attributes["axes"]
        require_kind(name, x, *kinds)
        for axis in axes:
            require_axis(name, x, axis)
        sizes = [x.shape[axis] for axis in axes]
        require(name not in _EXTREMES or 0 not in sizes, name, f"there is no extreme of no elements: {list(x.shape)}")
        return (TensorSpec(reduced_shape(x.shape, axes, attributes["keepdims"]), x.dtype),)

    return infer


def _infer_position(name: str) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        x, axis = inputs[0], attributes["axis"]
        require_kind(name, x, *REALS)
        require_axis(name, x, axis)
        require(x.shape[axis] != 0, name, f"there is no extreme of no elements: {list(x.shape)}")
        return (TensorSpec(reduced_shape(x.shape, (axis,), attributes["keepdims"]), dtypes.int64),)

    return infer


def _infer_running(name: str) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        require_kind(name, inputs[0], *NUMBERS)
        require_axis(name, inputs[0], attributes["axis"])
        return (inputs[0],)

    return infer


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    count = num_elements(inputs[0])
    return Cost(2 * count * inputs[0].dtype.itemsize, count)


def _inputs() -> Iterable[tuple[Any, str]]:
    rng = np.random.default_rng(50)
    for shape in ((7,), (3, 5), (2, 3, 33), (64, 65)):
        yield rng.uniform(0.8, 1.2, shape).astype(np.float32), f"shape {shape}"
    yield rng.uniform(0.8, 1.2, (3, 8)), "float64"
    yield rng.integers(-3, 4, (3, 8)), "int64"
    yield np.array([[1, np.nan, 3], [np.inf, 1, -np.inf]], np.float32), "not finite"
    yield rng.integers(-128, 128, (30, 17)).astype(np.int8), "int8"
    yield rng.integers(0, 1 << 16, (9, 11)).astype(np.uint16), "uint16"
    yield rng.uniform(0.8, 1.2, (5, 9)).astype(np.float16), "float16"


def _large_inputs() -> Iterable[tuple[Any, str]]:
    """Whole numbers, whose sums are exact in any order, in so many rows and columns that threads share them."""
    rng = np.random.default_rng(51)
    for shape, kind in (((3, 17000), np.float32), ((2500, 12), np.float64), ((2, 40, 1100), np.float32)):
        yield rng.integers(-4, 5, shape).astype(kind), f"shape {shape}"


def _reduction_samples() -> Iterable[Sample]:
    for x, label in _inputs():
        last = x.ndim - 1
        for axes in {(), (0,), (last,), tuple(range(x.ndim))}:
            yield Sample((x,), {"axes": axes, "keepdims": len(axes) % 2}, f"{label}, axes {axes}")
    for x, label in _large_inputs():
        for axes in {(0,), (x.ndim - 1,), (0, x.ndim - 1)}:
            yield Sample((x,), {"axes": axes}, f"{label}, axes {axes}")


def _axis_samples() -> Iterable[Sample]:
    for x, label in _inputs():
        yield from (Sample((x,), {"axis": axis}, f"{label}, axis {axis}") for axis in {0, x.ndim - 1})


def _position_samples() -> Iterable[Sample]:
    yield from _axis_samples()
    for x, label in _large_inputs():
        yield from (Sample((x,), {"axis": axis}, f"{label}, axis {axis}") for axis in range(x.ndim))


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, axes: tuple[int, ...], keepdims: int) -> Any:
        return function(x, axis=axes, keepdims=bool(keepdims))

    return quiet(reference)


def _sum(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _prod(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _position(function: Callable[..., Any]) -> Callable[..., Any]:
    return quiet(lambda x, axis, keepdims: function(x, axis=axis, keepdims=bool(keepdims)))


def _running(function: Callable[..., Any]) -> Callable[..., Any]:
    return quiet(lambda x, axis: function(x, axis=axis, dtype=x.dtype))


def _register(name: str, infer: InferFn, reference: Any, samples: Any, *attributes: Attribute) -> None:
    register_op(OpSpec(name, ("x",), infer, reference, samples, attributes, cost=_cost, domain="array"))


_REDUCTIONS: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    ("sum", _sum, NUMBERS),
    ("prod", _prod, NUMBERS),
    ("max", np.max, ("bool", *REALS)),
    ("min", np.min, ("bool", *REALS)),
)
for _name, _function, _kinds in _REDUCTIONS:
    _register(_name, _infer_reduction(_name, _kinds), _reduce(_function), _reduction_samples, AXES, KEEPDIMS)
_register("argmax", _infer_position("argmax"), _position(np.argmax), _position_samples, AXIS, KEEPDIMS)
_register("argmin", _infer_position("argmin"), _position(np.argmin), _position_samples, AXIS, KEEPDIMS)
_register("cumulative_sum", _infer_running("cumulative_sum"), _running(np.cumsum), _axis_samples, AXIS)
_register("cumulative_prod", _infer_running("cumulative_prod"), _running(np.cumprod), _axis_samples, AXIS)
