"""Pooling: the largest element, the mean or the p-norm of each window of every channel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.ops.spec import (
    REALS,
    Attribute,
    Attributes,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_kind,
)
from perfxapi.ops.windows import WINDOW_ATTRIBUTES, Windows

MODES = ("max", "average", "lp")
_WINDOW = (Attribute("window", list), *WINDOW_ATTRIBUTES, Attribute("ceil_mode", int, 0))


def _places(op: str, x: TensorSpec, attributes: Attributes) -> tuple[int, ...]:
    windows = Windows.of(op, attributes["window"], attributes)
    problem = f"x must be [batch, channels] and {len(windows.sizes)} spatial sizes; got {list(x.shape)}"
    require(len(x.shape) == 2 + len(windows.sizes), op, problem)
    return windows.places(op, x.shape[2:], ceil_mode=bool(attributes["ceil_mode"]))


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x,) = inputs
    require_kind("pool", x, *(REALS if attributes["mode"] == "max" else ("float",)))
    require(attributes["p"] >= 1, "pool", f"p must be at least 1; got {attributes['p']}")
    return (TensorSpec((*x.shape[:2], *_places("pool", x, attributes)), x.dtype),)


def _infer_with_indices(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (x,) = inputs
    require_kind("max_pool_with_indices", x, *REALS)
    shape = (*x.shape[:2], *_places("max_pool_with_indices", x, attributes))
    return TensorSpec(shape, x.dtype), TensorSpec(shape, dtypes.int64)


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _counts(windows: Windows, spatial: Sequence[int], places: Sequence[int], with_pads: bool) -> Any:
    """How many elements of each window are averaged: those of x, or those of x and its pads."""
    counts: Any = np.ones(())
    rows = zip(
        spatial, places, windows.sizes, windows.strides, windows.dilations, windows.begin, windows.end, strict=True
    )
    for size, count, taps, stride, dilation, begin, end in rows:
        at = np.arange(count)[:, None] * stride + np.arange(taps) * dilation
        inside = (at < begin + size + end) if with_pads else (at >= begin) & (at < begin + size)
        counts = counts[..., None] * inside.sum(axis=1)
    return counts


def _pool(
    x: Any, mode: str, window: tuple[int, ...], ceil_mode: int, count_include_pad: int, p: int, **attributes: Any
) -> Any:
    windows = Windows.of("pool", window, attributes)
    places = windows.places("pool", x.shape[2:], ceil_mode=bool(ceil_mode))
    inside = tuple(range(-len(window), 0))
    if mode == "max":
        return windows.view(x, places, _lowest(x.dtype)).max(axis=inside)
    wide = windows.view(x.astype(np.float64), places, 0.0)
    if mode == "lp":
        return ((np.abs(wide) ** p).sum(axis=inside) ** (1 / p)).astype(x.dtype)
    with np.errstate(all="ignore"):
        means = wide.sum(axis=inside) / _counts(windows, x.shape[2:], places, bool(count_include_pad))
    return means.astype(x.dtype)


def _max_pool_with_indices(x: Any, window: tuple[int, ...], ceil_mode: int, **attributes: Any) -> tuple[Any, Any]:
    windows = Windows.of("max_pool_with_indices", window, attributes)
    places = windows.places("max_pool_with_indices", x.shape[2:], ceil_mode=bool(ceil_mode))
    shape = (*x.shape[:2], *places)
    elements = windows.view(x, places, _lowest(x.dtype)).reshape(*shape, math.prod(window))
    numbers = np.arange(x.size).reshape(x.shape)
    indices = windows.view(numbers, places, -1).reshape(*shape, math.prod(window))
    largest = elements.max(axis=-1)
    chosen = ((elements == largest[..., None]) | (elements != elements)) & (indices >= 0)
    first = np.argmax(chosen, axis=-1)[..., None]
    return largest, np.take_along_axis(indices, first, -1)[..., 0]


_POOLED: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 3, 8, 9), {"window": (2, 2), "strides": (2, 2)}),
    ((2, 5, 12, 37), {"window": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((1, 2, 10, 40), {"window": (3, 3), "pads": (1, 1, 1, 1)}),
    ((1, 2, 7, 9), {"window": (2, 3), "strides": (2, 2), "ceil_mode": 1, "pads": (0, 1, 1, 0)}),
    ((1, 1, 9, 9), {"window": (3, 2), "dilations": (2, 3), "pads": (1, 2, 1, 0)}),
    ((3, 4, 25), {"window": (4,), "strides": (3,)}),
    ((1, 2, 4, 5, 6), {"window": (2, 2, 2), "strides": (1, 2, 2), "pads": (0, 0, 0, 1, 1, 1)}),
    ((0, 2, 4, 4), {"window": (2, 2)}),
    ((1, 2, 3, 3), {"window": (2, 2), "strides": (2, 2), "ceil_mode": 1, "pads": (0, 0, 1, 1)}),
)


def _max_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(52)
    for shape, attributes in _POOLED:
        yield Sample((rng.standard_normal(shape).astype(np.float32),), attributes, f"{list(shape)}")
    for kind in (np.float64, np.float16, np.int8, np.uint8, np.int32):
        numbers = rng.integers(0, 100, (1, 2, 6, 7)).astype(kind)
        yield Sample((numbers,), {"window": (3, 3), "pads": (1, 1, 1, 1)}, "other numbers")
    hostile = rng.standard_normal((1, 2, 8, 20)).astype(np.float32)
    hostile[0, 0, 3, 4], hostile[0, 1, :4, :9], hostile[0, 1, 6, 10] = np.nan, -np.inf, np.inf
    yield Sample((hostile,), {"window": (3, 3), "strides": (1, 2), "pads": (1, 1, 1, 1)}, "not finite")


def _samples() -> Iterable[Sample]:
    for sample in _max_samples():
        yield Sample(sample.inputs, {**sample.attributes, "mode": "max"}, sample.label)
        if sample.inputs[0].dtype.kind == "f":
            for more in ({"mode": "average"}, {"mode": "average", "count_include_pad": 1}, {"mode": "lp", "p": 3}):
                yield Sample(sample.inputs, {**sample.attributes, **more}, f"{sample.label}, {more['mode']}")


register_op(
    OpSpec(
        "pool",
        ("x",),
        _infer,
        _pool,
        _samples,
        (
            Attribute("mode", str, choices=MODES),
            *_WINDOW,
            Attribute("count_include_pad", int, 0),
            Attribute("p", int, 2),
        ),
        tolerance=4e-6,
        domain="neural",
    )
)
register_op(
    OpSpec(
        "max_pool_with_indices",
        ("x",),
        _infer_with_indices,
        _max_pool_with_indices,
        _max_samples,
        _WINDOW,
        domain="neural",
    )
)
