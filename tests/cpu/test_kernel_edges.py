"""Native kernels at the edges of what they take: nothing to reduce, repeated numbers, indices past every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import perfxapi as px
from perfxapi.errors import InvalidArgumentError


def on(device: str, *arrays: Any) -> list[px.Array]:
    return [px.asarray(array, device=device) for array in arrays]


def test_reductions_over_nothing() -> None:
    x = np.zeros((0, 16), np.float32)
    for device in ("cpu", "numpy"):
        (array,) = on(device, x)
        assert np.asarray(px.sum(array, axis=0)).tolist() == [0] * 16
        assert np.asarray(px.prod(array, axis=0)).tolist() == [1] * 16
    assert px.sum(px.asarray(x, device="cpu"), axis=1).shape == (0,)


@pytest.mark.parametrize("op", ["argmax", "argmin"])
def test_positions_of_nothing_in_a_plan_are_refused(op: str) -> None:
    function = getattr(px, op)
    graph = px.graph.trace(
        lambda x: function(x, axis=0), {"x": px.TensorSpec((px.Dim("n"), 5), px.float32)}, device="cpu"
    )
    plan = px.graph.compile(graph, device="cpu", bounds={"n": 4})
    assert np.asarray(plan(x=np.eye(4, 5, dtype=np.float32))["output"]).shape == (5,)
    with pytest.raises((InvalidArgumentError, ValueError)):
        plan(x=np.zeros((0, 5), np.float32))


@pytest.mark.parametrize(("indices", "axis", "shape"), [((0, 2), 1, (2, 3)), ((2, 2), 0, (3, 0))])
def test_resampling_to_nothing(indices: tuple[int, int], axis: int, shape: tuple[int, ...]) -> None:
    places, weights = np.zeros(indices, np.int32), np.ones(indices, np.float32)
    results = [
        px.nn.resample(*on(device, np.zeros(shape, np.float32), places, weights), axis=axis)
        for device in ("cpu", "numpy")
    ]
    assert results[0].shape == results[1].shape
    assert 0 in results[0].shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_reductions_of_one_number_repeated(dtype: str) -> None:
    for size in (10, 1500, 5000):
        results = {}
        for device in ("cpu", "numpy"):
            array = px.broadcast_to(px.asarray(1.5, dtype=dtype, device=device), (size,))
            found = [px.sum(array), px.max(array), px.min(array), px.argmax(array), px.argmin(array)]
            results[device] = [float(value) for value in found]
        np.testing.assert_allclose(results["cpu"], results["numpy"], rtol=1e-2)


def test_an_index_past_int64_is_out_of_range() -> None:
    x, index = on("cpu", np.arange(5.0), np.array([2**64 - 1], np.uint64))
    with pytest.raises(InvalidArgumentError):
        px.take(x, index, axis=0)


def test_gelu_of_infinity() -> None:
    for size in (1, 17):
        values = np.asarray(px.nn.gelu(px.asarray(np.full(size, np.inf, np.float32), device="cpu")))
        assert np.isposinf(values).all()


def test_state_is_read_where_it_was_read() -> None:
    """An assignment between the steps of what would be a chain."""
    state = px.state((3,), "float32", device="cpu")
    state[...] = 1.0

    def function(z: px.Array) -> px.Array:
        before = z + state
        px.apply("assign", state, z)
        return px.exp(before)

    graph = px.graph.trace(function, {"z": px.TensorSpec((3,), px.float32)}, device="cpu")
    plan = px.graph.compile(graph, device="cpu", bounds={})
    found = np.asarray(plan(z=np.full(3, 2, np.float32))["output"])
    np.testing.assert_allclose(found, np.exp(np.full(3, 3.0)), rtol=1e-6)


def test_folding_stops_where_numbers_would_overflow() -> None:
    weight, factor = px.asarray(np.full((1, 1, 1), 1e20, np.float32)), px.asarray(np.full((1, 1), 1e20, np.float32))
    graph = px.graph.trace(
        lambda x: px.nn.convolution(x, weight) * factor, {"x": px.TensorSpec((1, 1, 4), px.float32)}, device="cpu"
    )
    plan = px.graph.compile(graph, device="cpu", bounds={})
    found = np.asarray(plan(x=np.full((1, 1, 4), 1e-20, np.float32))["output"])
    np.testing.assert_allclose(found, np.full((1, 1, 4), 1e20), rtol=1e-6)


def test_numbers_of_a_list_fit_the_abi() -> None:
    with pytest.raises(InvalidArgumentError, match="strides"):
        px.nn.convolution(px.ones((1, 1, 4), dtype="float32"), px.ones((1, 1, 1), dtype="float32"), strides=(2**63,))
