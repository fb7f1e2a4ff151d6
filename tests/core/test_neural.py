"""Ops of vision and speech networks against plain loops over their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

import perfxapi as px
from perfxapi import nn
from perfxapi.backend import REGISTRY
from perfxapi.custom import Attribute, OpSpec, Sample, SourceKernels, add_kernels, is_absent, register_op
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.ops import spec as specs

RNG = np.random.default_rng


def normal(seed: int, *shape: int) -> Any:
    return RNG(seed).standard_normal(shape)


def run(op: str, *operands: Any, **attributes: Any) -> Any:
    """The op by the reference backend, on float64 operands."""
    given = [None if operand is None else px.asarray(operand, device="numpy") for operand in operands]
    results = getattr(px.nn, op)(*given, **attributes)
    return tuple(map(np.asarray, results)) if isinstance(results, tuple) else np.asarray(results)


def taps(place: Sequence[int], sizes: Sequence[int], attributes: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """For one output place: each position in the window, and the input position it reads."""
    rank = len(place)
    strides, dilations = (attributes.get(name) or (1,) * rank for name in ("strides", "dilations"))
    begin = (attributes.get("pads") or (0,) * rank)[:rank]
    for k in np.ndindex(*sizes):
        yield k, tuple(place[a] * strides[a] + k[a] * dilations[a] - begin[a] for a in range(rank))


def is_inside(position: Sequence[int], spatial: Sequence[int]) -> bool:
    return all(0 <= at < size for at, size in zip(position, spatial, strict=True))


GEOMETRIES = [
    ((5,), (2,), {}, (4,)),
    ((9,), (3,), {"strides": (2,), "dilations": (2,), "pads": (1, 2)}, (4,)),
    ((5, 4), (3, 2), {"pads": (1, 0, 1, 1)}, (5, 4)),
    ((7, 6), (2, 3), {"strides": (3, 1), "dilations": (1, 2), "pads": (0, 2, 2, 1)}, (3, 5)),
    ((3, 4, 5), (2, 1, 3), {"strides": (1, 2, 2), "pads": (1, 0, 0, 0, 0, 1)}, (3, 2, 2)),
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("spatial", "kernel", "attributes", "places"), GEOMETRIES)
def test_convolution(
    spatial: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any], places: tuple[int, ...], groups: int
) -> None:
    x, weight, bias = normal(1, 2, 4, *spatial), normal(2, 6, 4 // groups, *kernel), normal(3, 6)
    expected = np.zeros((2, 6, *places))
    for n, m, *place in np.ndindex(*expected.shape):
        group = m // (6 // groups)
        for channel, (k, at) in product(range(4 // groups), list(taps(place, kernel, attributes))):
            if is_inside(at, spatial):
                source = (n, group * (4 // groups) + channel, *at)
                expected[(n, m, *place)] += weight[(m, channel, *k)] * x[source]
    found = run("convolution", x, weight, **attributes, groups=groups)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    biased = run("convolution", x, weight, bias, **attributes, groups=groups)
    np.testing.assert_allclose(biased - found, np.broadcast_to(bias.reshape(-1, *[1] * len(places)), found.shape))


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("spatial", "kernel", "attributes", "places"), GEOMETRIES)
def test_a_transposed_convolution_is_the_transpose(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    attributes: dict[str, Any],
    places: tuple[int, ...],
    groups: int,
    more: int,
) -> None:
    """<y, convolution(x)> = <transpose(y), x> for all x; what output_padding adds is reached by no window or by the
    last.
    """
    y, weight = normal(4, 2, 6, *places), normal(5, 6, 4 // groups, *kernel)
    back = run("convolution_transpose", y, weight, **attributes, groups=groups, output_padding=(more,) * len(kernel))
    x = normal(6, *back.shape)
    forward = run("convolution", x, weight, **attributes, groups=groups)
    within = forward[(slice(None), slice(None), *(slice(0, size) for size in places))]
    assert within.shape == y.shape
    if forward.shape == y.shape:
        assert np.vdot(y, forward) == pytest.approx(np.vdot(back, x), rel=1e-10)
    biased = run(
        "convolution_transpose",
        y,
        weight,
        np.arange(4.0),
        **attributes,
        groups=groups,
        output_padding=(more,) * len(kernel),
    )
    np.testing.assert_allclose(biased[:, 2], back[:, 2] + 2)


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize(("spatial", "window", "attributes", "places"), GEOMETRIES)
def test_pools(
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    attributes: dict[str, Any],
    places: tuple[int, ...],
    ceil_mode: int,
) -> None:
    x = normal(7, 2, 3, *spatial)
    named = {**attributes, "window": window, "ceil_mode": ceil_mode}
    largest, where = run("max_pool_with_indices", x, **named)
    if not ceil_mode:
        assert largest.shape[2:] == places
    found = {mode: run("pool", x, **named, mode=mode, p=3) for mode in ("max", "average", "lp")}
    with_pads = run("pool", x, **named, mode="average", count_include_pad=1)
    pads = attributes.get("pads", (0,) * 2 * len(window))
    end = [size + pad for size, pad in zip(spatial, pads[len(window) :], strict=True)]
    for n, c, *place in np.ndindex(*largest.shape):
        index = (n, c, *place)
        positions = [at for _, at in taps(place, window, attributes)]
        values = {at: x[(n, c, *at)] for at in positions if is_inside(at, spatial)}
        best = max(values, key=lambda at: values[at])
        assert found["max"][index] == largest[index] == values[best]
        assert where[index] == np.ravel_multi_index((n, c, *best), x.shape)
        total = math.fsum(values.values())
        assert found["average"][index] == pytest.approx(total / len(values))
        counted = sum(all(p < e for p, e in zip(at, end, strict=True)) for at in positions)
        assert with_pads[index] == pytest.approx(total / counted)
        assert found["lp"][index] == pytest.approx(sum(abs(v) ** 3 for v in values.values()) ** (1 / 3))


def test_with_ceil_mode_no_window_begins_in_the_pad_at_the_end() -> None:
    x = np.arange(3.0).reshape(1, 1, 3)
    named = {"window": (1,), "strides": (2,), "pads": (0, 1), "mode": "max"}
    np.testing.assert_array_equal(run("pool", x, **named, ceil_mode=1), [[[0, 2]]])
    x = np.arange(4.0).reshape(1, 1, 4)
    assert run("pool", x, **{**named, "window": (3,)}, ceil_mode=0).shape == (1, 1, 2)
    assert run("pool", x, window=(3,), strides=(2,), mode="max", ceil_mode=1).shape == (1, 1, 2)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def lstm_by_loops(x: Any, weight: Any, recurrence: Any, bias: Any, h: Any, c: Any, peepholes: Any) -> Any:
    """One sequence [length, inputs]: each unit of each gate by itself."""
    size, states = len(h), []
    for values in x:
        row = lambda g, j, values=values, h=h: (  # noqa: E731
            weight[g * size + j] @ values + recurrence[g * size + j] @ h + bias[g * size + j] + bias[(4 + g) * size + j]
        )
        new_h, new_c = np.zeros(size), np.zeros(size)
        for j in range(size):
            i, f = sigmoid(row(0, j) + peepholes[j] * c[j]), sigmoid(row(2, j) + peepholes[2 * size + j] * c[j])
            new_c[j] = f * c[j] + i * math.tanh(row(3, j))
            new_h[j] = sigmoid(row(1, j) + peepholes[size + j] * new_c[j]) * math.tanh(new_c[j])
        h, c = new_h, new_c
        states.append(h)
    return np.array(states), h, c


@pytest.mark.parametrize("reverse", [0, 1])
def test_lstm(reverse: int) -> None:
    length, batch, inputs, size = 5, 3, 4, 6
    x, weight, recurrence = normal(8, length, batch, inputs), normal(9, 24, inputs), normal(10, 24, size)
    bias, peepholes, lengths = normal(11, 48), normal(12, 18), np.array([5, 0, 3], np.int32)
    h, c = normal(13, batch, size), normal(14, batch, size)
    y, last_h, last_c = run("lstm", x, weight, recurrence, bias, lengths, h, c, peepholes, reverse=reverse)
    for b, count in enumerate(lengths.tolist()):
        steps = slice(None, None, -1) if reverse else slice(None)
        states, want_h, want_c = lstm_by_loops(x[:count, b][steps], weight, recurrence, bias, h[b], c[b], peepholes)
        np.testing.assert_allclose(y[:count, b], states[steps].reshape(-1, size), atol=1e-12)
        np.testing.assert_array_equal(y[count:, b], 0)
        np.testing.assert_allclose((last_h[b], last_c[b]), (want_h, want_c), atol=1e-12)


@pytest.mark.parametrize("linear", [0, 1])
def test_gru(linear: int) -> None:
    size = 3
    x, weight, recurrence, bias = normal(15, 4, 1, 2), normal(16, 9, 2), normal(17, 9, size), normal(18, 18)
    y, last = run("gru", x, weight, recurrence, bias, None, None, linear_before_reset=linear)
    h = np.zeros(size)
    for step in range(4):
        by_x, by_h = weight @ x[step, 0] + bias[:9], recurrence @ h + bias[9:]
        gates = by_x + by_h
        z, r = (np.array([sigmoid(v) for v in gates[g * size : (g + 1) * size]]) for g in range(2))
        inner = r * by_h[6:] if linear else recurrence[6:] @ (r * h) + bias[15:]
        h = (1 - z) * np.tanh(by_x[6:] + inner) + z * h
        np.testing.assert_allclose(y[step, 0], h, atol=1e-12)
    np.testing.assert_array_equal(last, y[-1])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn(activation: str) -> None:
    x, weight, recurrence, state = normal(19, 3, 2, 4), normal(20, 5, 4), normal(21, 5, 5), normal(22, 2, 5)
    y, last = run("rnn", x, weight, recurrence, None, None, state, activation=activation)
    for step in range(3):
        for b in range(2):
            total = weight @ x[step, b] + recurrence @ state[b]
            state[b] = np.tanh(total) if activation == "tanh" else np.maximum(total, 0)
        np.testing.assert_allclose(y[step], state, atol=1e-12)
    np.testing.assert_array_equal(last, y[-1])


def test_lengths_out_of_range_are_refused() -> None:
    operands = normal(8, 3, 2, 4), normal(9, 5, 4), normal(10, 5, 5), None
    for wrong in (-1, 4):
        with pytest.raises(InvalidArgumentError, match="lengths must lie between 0 and 3"):
            run("rnn", *operands, np.array([1, wrong], np.int32))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_resample_is_a_product_with_a_sparse_matrix(axis: int) -> None:
    x, weights = normal(23, 4, 5, 6), normal(24, 7, 3)
    indices = RNG(25).integers(0, x.shape[axis], (7, 3)).astype(np.int32)
    matrix = np.zeros((7, x.shape[axis]))
    for place, tap in np.ndindex(7, 3):
        matrix[place, indices[place, tap]] += weights[place, tap]
    expected = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    np.testing.assert_allclose(run("resample", x, indices, weights, axis=axis), expected, atol=1e-12)


def reflected(position: int, size: int, align_corners: int) -> int:
    """Walks until it is inside: at the pixels' centers with corners aligned, else at their edges."""
    while not 0 <= position < size:
        if position < 0:
            position = -position if align_corners else -1 - position
        else:
            position = 2 * (size - 1) - position if align_corners else 2 * size - 1 - position
    return position


def weight_at(distance: float, mode: str) -> float:
    """The interpolation kernel: a triangle, or Keys' with a = -3/4."""
    s = abs(distance)
    if mode == "linear":
        return max(0.0, 1 - s)
    a = -0.75
    return (a + 2) * s**3 - (a + 3) * s**2 + 1 if s <= 1 else a * (s**3 - 5 * s**2 + 8 * s - 4) if s < 2 else 0.0


def sampled(pixels: Any, point: Sequence[float], mode: str, padding: str, align_corners: int) -> float:
    """One channel at one point in pixels, summed over all pixels near it."""
    if mode == "nearest":
        near = [[(round(p), 1.0)] for p in point]
    else:
        near = [[(at, weight_at(p - at, mode)) for at in range(math.floor(p) - 3, math.floor(p) + 5)] for p in point]
    total = 0.0
    for chosen in product(*near):
        weight, at = math.prod(w for _, w in chosen), [position for position, _ in chosen]
        if padding == "border":
            at = [min(max(p, 0), size - 1) for p, size in zip(at, pixels.shape, strict=True)]
        elif padding == "reflection":
            at = [reflected(p, size, align_corners) for p, size in zip(at, pixels.shape, strict=True)]
        total += weight * pixels[tuple(at)] if is_inside(at, pixels.shape) else 0.0
    return total


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, align_corners: int) -> None:
    for spatial, places in (((4, 5), (3, 3)), ((2, 3, 4), (2, 1, 2))):
        x = normal(26, 2, 2, *spatial)
        grid = RNG(27).uniform(-1.8, 1.8, (2, *places, len(spatial)))
        found = run("grid_sample", x, grid, mode=mode, padding=padding, align_corners=align_corners)
        for n, c, *place in np.ndindex(*found.shape):
            at = grid[(n, *place)][::-1]
            point = [
                (g + 1) / 2 * (s - 1) if align_corners else ((g + 1) * s - 1) / 2
                for g, s in zip(at, spatial, strict=True)
            ]
            expected = sampled(x[n, c], point, mode, padding, align_corners)
            assert found[(n, c, *place)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (5, 3, 4)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    x, scale, bias = normal(28, 5, 3, 4), normal(29, *shape), normal(30, *shape)
    found = run("layer_norm", x, scale, bias, eps=0.01).reshape(-1, scale.size)
    for row, got in zip(x.reshape(-1, scale.size), found, strict=True):
        expected = (row - row.mean()) / math.sqrt(row.var() + 0.01) * scale.ravel() + bias.ravel()
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_erf_and_gelu() -> None:
    x = np.linspace(-7, 7, 2001)
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(run("erf", x), expected, rtol=1e-13, atol=1e-300)
    gelu = [0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x]
    np.testing.assert_allclose(run("gelu", x), gelu, atol=1e-14)
    np.testing.assert_array_equal(run("erf", np.array([0.0, np.inf, -np.inf, np.nan])), [0, 1, -1, np.nan])


# ---- operands and attributes


def test_optional_operands_are_left_out_or_none_or_named() -> None:
    x, weight = normal(31, 2, 1, 3), normal(32, 4, 3)
    recurrence, state = normal(33, 4, 4), normal(34, 1, 4)
    arrays = [px.asarray(values) for values in (x, weight, recurrence)]
    named, _ = px.nn.rnn(*arrays, state=px.asarray(state))
    given, _ = px.nn.rnn(*arrays, None, None, px.asarray(state))
    np.testing.assert_array_equal(np.asarray(named), np.asarray(given))
    assert "bias=None" in (px.nn.rnn.__doc__ or "")
    with pytest.raises(InvalidArgumentError, match="rnn: recurrence must be given"):
        px.nn.rnn(*arrays[:2])


def test_an_absent_operand_is_a_constant_of_a_graph() -> None:
    weight = px.asarray(normal(35, 2, 3, 3).astype(np.float32))
    spec = {"x": px.TensorSpec((px.Dim("batch"), 3, 10), px.float32)}
    graph = px.graph.trace(lambda x: px.nn.convolution(x, weight, pads=(1, 1)), spec)
    plan = px.graph.compile(graph, device="numpy", bounds={"batch": 4})
    x = normal(36, 2, 3, 10).astype(np.float32)
    expected = run("convolution", x, np.asarray(weight), pads=(1, 1))
    np.testing.assert_allclose(np.asarray(plan(x=x)["output"]), expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", [1, "11", (1, 2.5), (True, 1), tuple(range(13))])
def test_a_list_attribute_takes_whole_numbers(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="strides must be a tuple of at most 12 whole numbers"):
        run("convolution", normal(1, 1, 1, 4, 4), normal(2, 1, 1, 2, 2), strides=wrong)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"strides": (1,)}, "strides must have 2 numbers"),
        ({"strides": (0, 1)}, "must be at least 1"),
        ({"pads": (1, 1)}, "pads must have 4 numbers"),
        ({"pads": (0, 0, 0, -1)}, "pads must not be negative"),
        ({"dilations": (4, 4)}, "a window of 9 does not fit"),
        ({"groups": 0}, "groups must be at least 1"),
        ({"groups": 2}, "do not go with a weight"),
    ],
)
def test_what_does_not_fit_a_convolution_is_refused(attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        run("convolution", normal(1, 1, 2, 5, 5), normal(2, 4, 2, 3, 3), **attributes)


def test_shapes_and_dtypes_that_do_not_fit_are_refused() -> None:
    x, weight = normal(1, 1, 2, 5, 5), normal(2, 4, 2, 3, 3)
    with pytest.raises(InvalidArgumentError, match="do not go along"):
        run("convolution", x, weight[0])
    with pytest.raises(InvalidArgumentError, match="1 to 3 spatial axes"):
        run("convolution", normal(1, 1, 1, 1, 1, 1, 1), normal(1, 1, 1, 1, 1, 1, 1))
    with pytest.raises(InvalidArgumentError, match="the bias must have the shape"):
        run("convolution", x, weight, normal(3, 3))
    with pytest.raises(InvalidDTypeError, match="int64 is not of the kinds float"):
        run("convolution", x.astype(np.int64), weight)
    with pytest.raises(InvalidArgumentError, match="output_padding must have 2 numbers"):
        run("convolution_transpose", normal(1, 1, 4, 3, 3), weight, output_padding=(1,))
    with pytest.raises(InvalidArgumentError, match="the pads leave"):
        run("convolution_transpose", normal(1, 1, 4, 1, 1), weight, pads=(2, 2, 2, 2))
    with pytest.raises(InvalidDTypeError, match="is not of the kinds float"):
        run("pool", np.ones((1, 1, 4), np.int32), window=(2,), mode="average")
    with pytest.raises(InvalidArgumentError, match="2 spatial sizes"):
        run("pool", np.ones((1, 1, 4)), window=(2, 2), mode="max")
    with pytest.raises(InvalidArgumentError, match="has not 4 gates"):
        run("lstm", normal(1, 2, 1, 3), normal(2, 12, 3), normal(3, 12, 4))
    with pytest.raises(InvalidArgumentError, match="an index lies outside"):
        run("resample", np.ones((2, 3)), np.array([[3]], np.int32), np.ones((1, 1)), axis=1)
    with pytest.raises(InvalidArgumentError, match="axis must be one of"):
        run("resample", np.ones((2, 3)), np.array([[0]], np.int32), np.ones((1, 1)), axis=2)
    with pytest.raises(InvalidArgumentError, match="must have the last sizes"):
        run("layer_norm", np.ones(3), np.ones((3, 3)))


NUMBERS = """
#include "perfx/kernel.h"
static int32_t accepts(const PxCall* call) { return call->num_attrs == 2 + PERFX_MAX_LIST ? PX_OK : PX_UNSUPPORTED; }
static int32_t run(const PxCall* call, const PxThread* thread) {
  float* y = (float*)call->operands[2].data;
  if (thread->index > 0) return PX_OK;
  for (int i = 0; i < 2 + PERFX_MAX_LIST; ++i) y[i] = (float)call->attrs[i].i;
  y[2 + PERFX_MAX_LIST] = (float)call->operands[1].shape[0];
  return PX_OK;
}
PERFX_LIBRARY("numbers", {"numbers", accepts, 0, run})
"""


def numbers(x: Any, y: Any, numbers: tuple[int, ...], last: int) -> Any:
    """What a kernel finds: the list's length, its numbers and zeros, the other attribute, and the size of y."""
    length = 0 if is_absent(y) else len(y)
    return np.array([len(numbers), *numbers, *[0] * (12 - len(numbers)), last, length], np.float32)


@pytest.mark.usefixtures("own_kernel_folder")
def test_how_lists_and_absent_operands_reach_native_code() -> None:
    rule: Any = lambda inputs, attributes: (px.TensorSpec((15,), px.float32),)  # noqa: E731
    attributes = (Attribute("numbers", list, (7, 7, -3)), Attribute("last", int))
    samples = lambda: [Sample((np.ones(2, np.float32), np.ones(3, np.float32)), {"last": 1})]  # noqa: E731
    register_op(OpSpec("numbers", ("x", "y"), rule, numbers, samples, attributes, optional=(1,)))
    add_kernels("numbers", SourceKernels(("numbers",), NUMBERS))
    try:
        x = px.asarray(np.ones(2, np.float32), device="cpu")
        for given, operand in (((5, -1), x), ((), None), (tuple(range(12)), None)):
            length = np.empty(0 if operand is None else 2)
            expected = numbers(None, length, given, 9)
            got = px.nn.numbers(x, operand, numbers=given, last=9)
            np.testing.assert_array_equal(np.asarray(got), expected)
        assert np.asarray(px.nn.numbers(x, last=9))[:4].tolist() == [3, 7, 7, -3]
    finally:
        REGISTRY.unregister("numbers")
        del specs._REGISTRY["numbers"]
        nn._function.cache_clear()
