"""Constants that a convolution's result is multiplied by or that are added to it go into its weight and bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import perfxapi as px
from perfxapi.graph import Graph, fuse

RNG = np.random.default_rng(7)
IMAGE = (2, 6, 5, 7)


def constant(*shape: int, dtype: Any = np.float32) -> px.Array:
    return px.constant(RNG.uniform(0.5, 2, shape).astype(dtype), device="numpy")


WEIGHT, BIAS, CHANNELS = constant(8, 3, 3, 3), constant(8), constant(8, 1, 1)


def traced(model: Callable[[px.Array], px.Array], dtype: px.DType = px.float32) -> Graph:
    return px.graph.trace(model, {"x": px.TensorSpec(IMAGE, dtype)}, device="numpy")


def ops_of(graph: Graph) -> list[str]:
    return [node.spec.name for node in graph.nodes]


def convolved(x: px.Array, *bias: px.Array) -> px.Array:
    result: px.Array = px.nn.convolution(x, WEIGHT, *bias, groups=2)
    return result


def transposed(x: px.Array) -> px.Array:
    result: px.Array = px.nn.convolution_transpose(x, constant(6, 4, 2, 2), constant(12), groups=3, strides=(2, 2))
    return result


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (lambda x: convolved(x, BIAS) * CHANNELS + constant(1, 8, 1, 1), ["convolution"]),
        (lambda x: (constant(8, 1, 1) + convolved(x) / CHANNELS - 3) * 2, ["convolution"]),
        (lambda x: px.tanh(transposed(x) * constant(12, 1, 1) + constant(12, 1, 1)), ["convolution_transpose", "tanh"]),
    ],
)
def test_what_is_folded_is_the_same_up_to_rounding(model: Callable[[px.Array], px.Array], left: list[str]) -> None:
    graph = traced(model)
    plan = px.graph.compile(graph, device="numpy", bounds={})
    assert ops_of(plan.graph) == left
    x = RNG.standard_normal(IMAGE).astype(np.float32)
    (found,) = plan(x=x).values()
    values: dict[Any, Any] = {graph.inputs["x"]: x.astype(np.float64)}
    for node in graph.nodes:  # every node by its reference, in float64
        operands = [
            values[view.buffer] if view.buffer in values else np.asarray(view.host(), np.float64)  # type: ignore[union-attr]
            for view in node.inputs
        ]
        values[node.outputs[0]] = node.spec.reference(*operands, **node.attributes)
    np.testing.assert_allclose(np.asarray(found), values[graph.nodes[-1].outputs[0]], rtol=1e-5, atol=1e-5)


def twice(x: px.Array) -> px.Array:
    y = convolved(x)
    return y * CHANNELS + px.tanh(y)


@pytest.mark.parametrize(
    "model",
    [
        twice,
        lambda x: convolved(x) * constant(5),
        lambda x: convolved(x) * constant(2, 8, 1, 1),
        lambda x: CHANNELS / convolved(x),
        lambda x: CHANNELS - convolved(x),
        lambda x: convolved(x) * px.max(x),
        lambda x: convolved(x) / 0.0,
        lambda x: convolved(x) + float("inf"),
        lambda x: px.nn.convolution(x, px.nn.tanh(x)[:1, :, :3, :3]) * 2,
        lambda x: convolved(x).reshape(8, 2, 3, 5) * constant(2, 1, 1),
    ],
    ids=[
        "used twice",
        "along rows",
        "each image",
        "divisor",
        "subtracted from",
        "no constant",
        "divided by zero",
        "infinite",
        "weight",
        "view",
    ],
)
def test_what_is_left_alone(model: Callable[[px.Array], px.Array]) -> None:
    graph = traced(model)
    assert ops_of(fuse(graph, lambda node: node.spec.name.startswith("convolution"))) == ops_of(graph)


def test_short_floats_are_rounded_after_each_step() -> None:
    weight = constant(8, 6, 3, 3, dtype=np.float16)
    graph = traced(lambda x: px.nn.convolution(x, weight) * constant(8, 1, 1, dtype=np.float16), px.float16)
    assert ops_of(fuse(graph, lambda node: True)) == ["convolution", "multiply"]


def test_nothing_is_folded_where_the_target_has_no_convolution() -> None:
    graph = traced(lambda x: convolved(x) * 2)
    assert ops_of(fuse(graph, lambda node: False)) == ["convolution", "multiply"]
