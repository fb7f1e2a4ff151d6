"""Convolutions over one to three spatial axes, with groups, and their transposes (Dumoulin and Visin 2016).

`convolution` correlates, as networks do: kernels are not turned round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi.dtypes import result_type
from perfxapi.ops.elementwise import num_elements
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    is_absent,
    register_op,
    require,
    require_kind,
    require_shape,
)
from perfxapi.ops.windows import WINDOW_ATTRIBUTES, Windows, known_size

_GROUPS = Attribute("groups", int, 1)


def _check(op: str, inputs: Sequence[TensorSpec], groups: int, num_channels: Any) -> None:
    """What convolutions and their transposes ask of operands; the result has `num_channels` channels."""
    x, weight, bias = inputs
    for spec in (x, weight) if is_absent(bias) else inputs:
        require_kind(op, spec, "float")
    require(len(x.shape) == len(weight.shape), op, f"x {list(x.shape)} and weight {list(weight.shape)} do not go along")
    require(len(x.shape) > 2, op, f"x must be [batch, channels, spatial sizes...]; got {list(x.shape)}")
    require(groups >= 1, op, f"groups must be at least 1; got {groups}")
    if not is_absent(bias):
        require_shape(op, "the bias", bias, num_channels)


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, weight, _ = inputs
    groups = attributes["groups"]
    _check("convolution", inputs, groups, weight.shape[0])
    channels, filters = known_size("convolution", x.shape[1]), known_size("convolution", weight.shape[0])
    fits = channels == weight.shape[1] * groups and filters % groups == 0
    problem = f"{channels} channels in {groups} groups do not go with a weight of {list(weight.shape)}"
    require(fits, "convolution", problem)
    windows = Windows.of("convolution", weight.shape[2:], attributes)
    places = windows.places("convolution", x.shape[2:])
    return (TensorSpec((x.shape[0], filters, *places), result_type(x.dtype, weight.dtype)),)


def _convolution(x: Any, weight: Any, bias: Any, groups: int, **attributes: Any) -> Any:
    windows = Windows.of("convolution", weight.shape[2:], attributes)
    places = windows.places("convolution", x.shape[2:])
    batch, channels, filters, rank = len(x), x.shape[1], len(weight), len(places)
    view = windows.view(x.astype(np.float64), places, 0.0)
    # [batch, channels, sizes..., places...]: the columns that a group's filters are multiplied with
    columns = view.transpose(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    inner = channels // groups * math.prod(windows.sizes)
    columns = columns.reshape(batch, groups, inner, math.prod(places))
    rows = weight.astype(np.float64).reshape(groups, filters // groups, inner)
    result = (rows @ columns).reshape(batch, filters, *places)
    return _biased(result, bias).astype(np.result_type(x, weight))


def _biased(result: Any, bias: Any) -> Any:
    return result if is_absent(bias) else result + bias.reshape(-1, *(1,) * (result.ndim - 2))


def _cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    """Every operand once, and one multiplication and addition for each weight and place."""
    (result,) = _infer(inputs, attributes)
    nbytes = sum(num_elements(spec) * spec.dtype.itemsize for spec in (*inputs, result))
    weight = inputs[1]
    return Cost(nbytes, 2 * num_elements(result) * num_elements(TensorSpec(weight.shape[1:], weight.dtype)))


_ABSENT = np.empty(0, np.float32)
_IMAGES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 3, 9, 11), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, 8, 7), (6, 4, 1, 1), {}),
    ((1, 17, 5, 33), (40, 17, 1, 1), {}),
    ((2, 8, 14, 13), (24, 8, 3, 3), {"pads": (0, 1, 2, 3), "strides": (2, 1)}),
    ((1, 3, 32, 30), (16, 3, 7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    ((1, 6, 12, 12), (9, 2, 3, 2), {"groups": 3, "dilations": (2, 3)}),
    ((1, 4, 6, 6), (8, 4, 1, 1), {"strides": (2, 2)}),
    ((2, 20, 9, 35), (20, 1, 3, 3), {"groups": 20, "pads": (1, 1, 1, 1)}),
    ((1, 18, 15, 40), (18, 1, 5, 5), {"groups": 18, "pads": (2, 2, 2, 2), "strides": (2, 2)}),
    ((1, 16, 10, 20), (16, 1, 3, 3), {"groups": 16, "pads": (2, 4, 2, 4), "dilations": (2, 4)}),
    ((1, 4, 6, 6), (8, 1, 3, 3), {"groups": 4, "pads": (1, 1, 1, 1)}),
    ((1, 3, 4, 130), (3, 1, 3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}),
    ((1, 2, 5, 6), (3, 2, 5, 6), {}),
    ((0, 2, 5, 5), (3, 2, 3, 3), {}),
    ((2, 5, 40), (7, 5, 3), {"pads": (1, 1)}),
    ((1, 1, 500), (20, 1, 64), {"strides": (32,)}),
    ((1, 12, 50), (12, 1, 4), {"groups": 12, "pads": (3, 0)}),
    ((1, 2, 5, 6, 7), (4, 2, 3, 2, 3), {"pads": (1, 0, 1, 1, 1, 1), "strides": (1, 2, 2)}),
)


def _operands(rng: np.random.Generator, x: tuple[int, ...], weight: tuple[int, ...], bias: int) -> tuple[Any, ...]:
    data = [rng.standard_normal(shape).astype(np.float32) for shape in (x, weight)]
    return (*data, rng.standard_normal(bias).astype(np.float32) if bias else _ABSENT)


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(50)
    for number, (x, weight, attributes) in enumerate(_IMAGES):
        operands = _operands(rng, x, weight, weight[0] if number % 3 else 0)
        yield Sample(operands, attributes, f"{list(x)} by {list(weight)}")
    wide = tuple(values.astype(np.float64) for values in _operands(rng, (1, 2, 6, 6), (3, 2, 3, 3), 3))
    yield Sample(wide, {}, "float64")
    short = tuple(values.astype(np.float16) for values in _operands(rng, (1, 2, 6, 6), (3, 2, 3, 3), 3))
    yield Sample(short, {}, "float16")
    x, weight_values, bias = _operands(rng, (1, 3, 8, 8), (4, 3, 3, 3), 4)
    x[0, 1, 2, 3], x[0, 2, 7, 7] = np.nan, np.inf
    yield Sample((x, weight_values, bias), {"pads": (1, 1, 1, 1)}, "not finite")


register_op(
    OpSpec(
        "convolution",
        ("x", "weight", "bias"),
        _infer,
        _convolution,
        _samples,
        (*WINDOW_ATTRIBUTES, _GROUPS),
        cost=_cost,
        weights=(1, 2),
        optional=(2,),
        domain="neural",
    )
)


def _transposed_sizes(x: Sequence[Any], windows: Windows, more: tuple[int, ...]) -> tuple[int, ...]:
    rows = zip(x, windows.spans, windows.strides, windows.begin, windows.end, more, strict=True)
    return tuple(
        (known_size("convolution_transpose", size) - 1) * stride + span + extra - begin - end
        for size, span, stride, begin, end, extra in rows
    )


def _output_padding(given: tuple[int, ...], count: int) -> tuple[int, ...]:
    padding = given or (0,) * count
    fits = len(padding) == count and min(padding) >= 0
    require(fits, "convolution_transpose", f"output_padding must have {count} numbers from 0 on; got {given}")
    return padding


def _infer_transpose(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    op, (x, weight, _), groups = "convolution_transpose", inputs, attributes["groups"]
    filters = known_size(op, weight.shape[1]) * groups if len(weight.shape) > 1 else 0
    _check(op, inputs, groups, filters)
    fits = known_size(op, x.shape[1]) == weight.shape[0] and x.shape[1] % groups == 0
    require(fits, op, f"{x.shape[1]!r} channels in {groups} groups do not go with a weight of {list(weight.shape)}")
    windows = Windows.of(op, weight.shape[2:], attributes)
    more = _output_padding(attributes["output_padding"], len(windows.sizes))
    sizes = _transposed_sizes(x.shape[2:], windows, more)
    require(min(sizes) >= 0, op, f"the pads leave a result of {list(sizes)}")
    return (TensorSpec((x.shape[0], filters, *sizes), result_type(x.dtype, weight.dtype)),)


def _convolution_transpose(
    x: Any, weight: Any, bias: Any, output_padding: tuple[int, ...], groups: int, **attributes: Any
) -> Any:
    windows = Windows.of("convolution_transpose", weight.shape[2:], attributes)
    spatial, rank = x.shape[2:], x.ndim - 2
    more = _output_padding(output_padding, rank)
    sizes = _transposed_sizes(spatial, windows, more)
    batch, channels, filters = len(x), x.shape[1], weight.shape[1]
    rows = weight.astype(np.float64).reshape(groups, channels // groups, -1).swapaxes(1, 2)
    columns = rows @ x.astype(np.float64).reshape(batch, groups, channels // groups, math.prod(spatial))
    columns = columns.reshape(batch, groups * filters, *windows.sizes, *spatial)
    spans = [before + size + after for before, size, after in zip(windows.begin, sizes, windows.end, strict=True)]
    whole = np.zeros((batch, groups * filters, *spans))
    for position in np.ndindex(*windows.sizes):
        target = tuple(
            slice(k * dilation, k * dilation + (size - 1) * stride + 1, stride)
            for k, dilation, stride, size in zip(position, windows.dilations, windows.strides, spatial, strict=True)
        )
        if math.prod(spatial):
            whole[(slice(None), slice(None), *target)] += columns[(slice(None), slice(None), *position)]
    kept = tuple(slice(before, before + size) for before, size in zip(windows.begin, sizes, strict=True))
    return _biased(whole[(slice(None), slice(None), *kept)], bias).astype(np.result_type(x, weight))


_TRANSPOSED: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 1, 3, 3), (1, 2, 3, 3), {}),
    ((2, 6, 5, 7), (6, 4, 2, 2), {"strides": (2, 2)}),
    ((1, 24, 10, 12), (24, 24, 2, 2), {"strides": (2, 2)}),
    ((1, 4, 6, 5), (4, 3, 3, 4), {"strides": (2, 3), "pads": (1, 0, 1, 2), "output_padding": (1, 0)}),
    ((1, 6, 4, 4), (6, 2, 3, 3), {"groups": 3, "dilations": (2, 1)}),
    ((1, 3, 20), (3, 5, 4), {"strides": (2,), "pads": (1, 1)}),
    ((1, 2, 3, 4, 2), (2, 2, 2, 2, 2), {"strides": (1, 2, 1)}),
    ((0, 2, 3, 3), (2, 2, 3, 3), {}),
)


def _transpose_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(51)
    for number, (x, weight, attributes) in enumerate(_TRANSPOSED):
        filters = weight[1] * attributes.get("groups", 1)
        operands = _operands(rng, x, weight, filters if number % 2 else 0)
        yield Sample(operands, attributes, f"{list(x)} by {list(weight)}")
    wide = tuple(values.astype(np.float64) for values in _operands(rng, (1, 2, 4, 4), (2, 3, 3, 3), 3))
    yield Sample(wide, {}, "float64")


register_op(
    OpSpec(
        "convolution_transpose",
        ("x", "weight", "bias"),
        _infer_transpose,
        _convolution_transpose,
        _transpose_samples,
        (*WINDOW_ATTRIBUTES, Attribute("output_padding", list, ()), _GROUPS),
        weights=(1, 2),
        optional=(2,),
        domain="neural",
    )
)
