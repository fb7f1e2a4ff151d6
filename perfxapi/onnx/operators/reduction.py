"""Reductions, positions of extremes, running sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.dtypes import DType
from perfxapi.onnx.operators.elementwise import truncated_quotient
from perfxapi.onnx.operators.precision import rounded_once
from perfxapi.onnx.registry import OperatorNode, known, known_ints, operator

# The opset from which each reduction takes its axes as an operand, not as an attribute.
_AXES_ARE_OPERAND = {"ReduceSum": 13}
_DEFAULT_AXES_ARE_OPERAND = 18


def _sum(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return px.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _product(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return px.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _mean(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    if x.dtype.kind == "float":
        return px.mean(x, axis=axis, keepdims=keepdims)
    count = math.prod(int(x.shape[place]) for place in axis)
    wide = px.astype(x, dtypes.int64 if x.dtype.kind == "int" else dtypes.uint64, copy=False)
    return truncated_quotient(_sum(wide, axis, keepdims), px.asarray(max(count, 1), dtype=wide.dtype, device=x.device))


def _of_floats(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function that whole numbers are converted to float64 for; its result, converted back, is rounded towards 0."""
    return lambda x, *rest: function(x if x.dtype.kind == "float" else px.astype(x, dtypes.float64), *rest)


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """The peak is taken out of the exponent; where it is infinite, nothing is."""
    if not axis or any(x.shape[place] == 0 for place in axis):
        return px.log(_sum(px.exp(x), axis, keepdims))
    peak = px.max(x, axis=axis, keepdims=True)
    shift = px.where(px.isfinite(peak), peak, 0)
    sums = px.log(_sum(px.exp(px.subtract(x, shift)), axis, keepdims))
    return px.add(sums, shift if keepdims else px.squeeze(shift, axis=axis))


def _lowest(dtype: DType) -> Any:
    """What the largest of no elements is."""
    return False if dtype.kind == "bool" else -px.inf if dtype.kind == "float" else px.iinfo(dtype).min


def _highest(dtype: DType) -> Any:
    """What the smallest of no elements is."""
    return True if dtype.kind == "bool" else px.inf if dtype.kind == "float" else px.iinfo(dtype).max


def _extreme(function: Callable[..., Array], of_none: Callable[[DType], Any]) -> Callable[..., Array]:
    def reduced(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        if all(x.shape[place] != 0 for place in axis):
            return function(x, axis=axis, keepdims=keepdims)
        sizes = [1 if place in axis else size for place, size in enumerate(x.shape) if keepdims or place not in axis]
        return px.full(tuple(sizes), of_none(x.dtype), dtype=x.dtype, device=x.device)  # type: ignore[arg-type]

    return reduced


_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...], bool], Array]] = {
    "ReduceL1": lambda x, axis, keepdims: _sum(px.abs(x), axis, keepdims),
    "ReduceL2": _of_floats(lambda x, axis, keepdims: px.sqrt(_sum(px.multiply(x, x), axis, keepdims))),
    "ReduceLogSum": _of_floats(lambda x, axis, keepdims: px.log(_sum(x, axis, keepdims))),
    "ReduceLogSumExp": _of_floats(_log_sum_exp),
    "ReduceMax": _extreme(px.max, _lowest),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(px.min, _highest),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axis, keepdims: _sum(px.multiply(x, x), axis, keepdims),
}


def _axes(node: OperatorNode, x: Array, operand: Array | None) -> tuple[int, ...] | None:
    """The axes to reduce; None where the node reduces none."""
    if node.version >= _AXES_ARE_OPERAND.get(node.op_type, _DEFAULT_AXES_ARE_OPERAND):
        given = known_ints(operand) if operand is not None else []
    else:
        given = list(node.attribute("axes") or [])
    if not given:
        return None if node.attribute("noop_with_empty_axes", 0) else tuple(range(x.ndim))
    return tuple(axis + x.ndim if axis < 0 else axis for axis in given)


def _register_reductions() -> None:
    for name, function in _REDUCTIONS.items():

        def reduced(node: OperatorNode, x: Array, axes: Array | None = None, function: Any = function) -> Array:
            places = _axes(node, x, axes)
            if places is None:
                places = ()
            result: Array = rounded_once(function)(x, places, bool(node.attribute("keepdims", 1)))
            return result

        operator(name)(reduced)


_register_reductions()


@operator("ArgMax", "ArgMin")
def position_of_extreme(node: OperatorNode, x: Array) -> Array:
    """Where the largest (least) element is along an axis: the first, or the last one where `select_last_index` is 1."""
    find = px.argmax if node.op_type == "ArgMax" else px.argmin
    axis, keepdims = node.attribute("axis", 0), bool(node.attribute("keepdims", 1))
    if not node.attribute("select_last_index", 0):
        return find(x, axis=axis, keepdims=keepdims)
    from_end = find(px.flip(x, axis=axis), axis=axis, keepdims=keepdims)
    return px.subtract(int(x.shape[axis]) - 1, from_end)


@operator("CumSum", "CumProd")
def running(node: OperatorNode, x: Array, axis: Array) -> Array:
    """The sums (products) up to each element: without it where `exclusive`, from the end where `reverse`."""
    is_sum = node.op_type == "CumSum"
    place = int(known(axis).reshape(-1)[0])
    place = place + x.ndim if place < 0 else place
    source = px.flip(x, axis=place) if node.attribute("reverse", 0) else x
    function = px.cumulative_sum if is_sum else px.cumulative_prod
    result = rounded_once(lambda wide: function(wide, axis=place, dtype=wide.dtype))(source)
    if node.attribute("exclusive", 0) and x.shape[place] != 0:
        sizes = (*x.shape[:place], 1, *x.shape[place + 1 :])
        first = px.full(sizes, 0 if is_sum else 1, dtype=x.dtype, device=x.device)  # type: ignore[arg-type]
        before = (slice(None),) * place
        result = px.concat([first, result[(*before, slice(None, -1))]], axis=place)
    return px.flip(result, axis=place) if node.attribute("reverse", 0) else result
