"""Arrays: making them, looking at parts of them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from simulated import SPACE, SimulatedBackend

import perfxapi as px
from perfxapi.errors import InvalidArgumentError, NoLengthError, TraceError, UnknownNameError
from perfxapi.quantization import quantize

Values = np.ndarray[Any, Any]
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@pytest.fixture(autouse=True)
def _on_numpy() -> Any:
    with px.use_device("numpy"):
        yield


@given(arrays.arrays(np.int32, shapes), st.data())
def test_indexing_is_numpys(values: Values, data: st.DataObject) -> None:
    index = data.draw(arrays.basic_indices(values.shape, allow_newaxis=True))
    assert np.array_equal(np.asarray(px.asarray(values)[index]), values[index])


@given(arrays.arrays(np.float32, shapes, elements=st.floats(-9, 9, width=32)), st.data())
def test_views_of_views_and_reshape(values: Values, data: st.DataObject) -> None:
    first = data.draw(arrays.basic_indices(values.shape, allow_newaxis=False))
    part, expected = px.asarray(values)[first], values[first]
    axes = data.draw(st.permutations(range(np.ndim(expected))))
    turned, turned_expected = part.permute_dims(axes), np.transpose(expected, axes)
    assert np.array_equal(np.asarray(turned), turned_expected)
    flat = turned.reshape(-1) if turned.size else turned.reshape(0)
    assert np.array_equal(np.asarray(flat), turned_expected.reshape(-1))


def test_views_share_bytes() -> None:
    logits = px.asarray(np.zeros((2, 3), np.float32))
    row = logits[1:2]
    none, ones = px.asarray(np.zeros(0, np.int32)), px.asarray(np.ones(1, np.float32))
    bias = [px.asarray(np.array(v)) for v in (np.int32([0]), np.int32([2]), np.float32([5]))]
    starts = px.asarray(np.zeros(2, np.int32))
    px.nn.adjust_logits(row, none, starts, none, ones, ones, ones, *bias)
    assert np.asarray(logits).tolist() == [[0, 0, 0], [0, 0, 5]]


@pytest.mark.parametrize(
    "index",
    [
        5,
        -4,
        (0, 0, 0),
        (..., ...),
        True,
        "a",
        1.0,
        np.array([0, 1]),
        slice(None, None, 0),
        slice("a"),
        (None,) * 63,
        [0],
    ],
)
def test_an_index_that_does_not_fit_is_a_typed_error(index: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="index"):
        px.asarray(np.zeros((3, 2), np.float32))[index]


@pytest.mark.parametrize("shape", [(5,), (-2, -3), (-1, -1), (7, -1), (6, 1, 1, 2), (1,) * 64 + (6,)])
def test_a_shape_that_does_not_fit_is_a_typed_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="reshape"):
        px.asarray(np.zeros((2, 3), np.float32)).reshape(*shape)


def test_zero_dimensions() -> None:
    scalar = px.asarray(np.float32(2.5))
    assert (scalar.shape, scalar.ndim, scalar.size) == ((), 0, 1)
    assert float(scalar) == 2.5
    assert int(scalar) == 2
    assert np.asarray(scalar + scalar).shape == ()
    assert scalar[None, ...].shape == (1,)
    with pytest.raises(NoLengthError, match="has no length"):
        len(scalar)
    assert not np.iterable(scalar)  # as libraries ask: a TypeError says no


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5), (2, 0, 4)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    empty = px.asarray(np.zeros(shape, np.float32))
    assert np.asarray(px.nn.exp(empty + empty)).shape == shape
    assert np.asarray(empty.reshape(-1)).shape == (0,)


def test_negative_strides_and_gaps_are_copied_in_and_viewed_after() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    for part in (values[::-1], values[:, ::-2], values.T, values[::2, 1::3]):
        array = px.asarray(part)
        assert np.array_equal(np.asarray(array), part)
        assert np.array_equal(np.asarray(array[::-1]), part[::-1])
        assert np.allclose(np.asarray(px.nn.exp(array[::-1])), np.exp(part[::-1]))


def test_misaligned_and_foreign_byte_order() -> None:
    raw = np.zeros(41, np.uint8)
    misaligned = raw[1:].view(np.float32)
    misaligned[:] = np.arange(10)
    assert not misaligned.flags.aligned
    array = px.asarray(misaligned)
    assert array.view.buffer.readable()[0].__array_interface__["data"][0] % 4 == 0
    assert np.array_equal(np.asarray(array), np.arange(10))
    big = px.asarray(np.arange(5, dtype=">i4"))
    assert big.dtype is px.int32
    assert np.array_equal(np.asarray(big), np.arange(5))
    assert np.asarray(px.asarray(np.array(3, ">f8"))).shape == ()


@pytest.mark.parametrize(
    "values",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([1, "a"], object),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros(2, [("a", "f4")]),
        [[1, 2], [3]],
        object(),
        None,
        b"bytes",
    ],
)
def test_what_no_device_can_hold_is_refused(values: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="asarray"):
        px.asarray(values)


def test_65_dimensions_are_refused() -> None:
    nested: Any = 1.0
    for _ in range(65):
        nested = [nested]
    with pytest.raises(InvalidArgumentError, match="asarray"):
        px.asarray(nested)
    assert px.asarray(np.zeros((1,) * 64, np.float32)).ndim == 64
    with pytest.raises(InvalidArgumentError, match="does not fit an array of 64"):
        px.asarray(np.zeros((1,) * 64, np.float32))[None]


def test_64_dimensions_compute() -> None:
    deep = px.asarray(np.full((1,) * 64, 2, np.float32))
    with px.use_device("auto", fallback="allow"):
        assert np.asarray(deep + deep).reshape(-1).tolist() == [4]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1 << 40, 1 << 40), "float32"),
        ((-1, 4), "float32"),
        ((2.5,), "float32"),
        ((1 << 61,), "float64"),
        ((3, 33), "q8_0"),
        ((), "q4_0"),
        ((1,) * 65, "int8"),
    ],
)
def test_a_shape_that_memory_cannot_hold_is_refused(shape: Any, dtype: str) -> None:
    with pytest.raises(InvalidArgumentError, match="constant"):
        px.constant(np.zeros(4, np.uint8), dtype, shape)
    with pytest.raises(InvalidArgumentError, match="state"):
        px.state(shape, dtype)


def test_constants_take_raw_bytes() -> None:
    values = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    weight = px.constant(quantize(values, px.q8_0), "q8_0", (4, 64))
    assert np.abs(np.asarray(weight) - values).max() < 0.05
    assert "q8_0" in repr(weight)
    half = px.constant(np.array([0x3F80, 0xC000], np.uint16), "bfloat16", (2,))
    assert np.asarray(half).tolist() == [1, -2]
    with pytest.raises(InvalidArgumentError, match=r"\(4, 64\) of q8_0 takes 272 bytes; got 8"):
        px.constant(np.zeros(8, np.uint8), "q8_0", (4, 64))


def test_constants_made_on_demand() -> None:
    values = np.arange(4, dtype=np.float32)
    weight = px.constant(lambda: values * 2, "float32", (2, 2))
    assert np.asarray(weight).tolist() == [[0, 2], [4, 6]]
    with pytest.raises(InvalidArgumentError, match="needs a dtype and a shape"):
        px.constant(lambda: values)
    with pytest.raises(InvalidArgumentError, match="takes 20 bytes; 16 were made"):
        np.asarray(px.constant(lambda: values, "float32", (5,), name="w"))


def test_a_misaligned_constant_is_copied() -> None:
    raw = np.zeros(17, np.uint8)[1:]
    raw[:] = np.arange(4, dtype=np.float32).view(np.uint8)
    weight = px.constant(raw, "float32", (4,))
    assert weight.view.buffer.readable()[0].__array_interface__["data"][0] % 4 == 0
    assert np.asarray(weight).tolist() == [0, 1, 2, 3]


def test_quantized_rows_stay_whole() -> None:
    weight = px.constant(np.zeros(2 * 2 * 34, np.uint8), "q8_0", (2, 64))
    assert np.asarray(weight.reshape(1, 2, 64)).shape == (1, 2, 64)
    with pytest.raises(InvalidArgumentError, match="must keep their 64 columns"):
        weight.reshape(4, 32)
    with pytest.raises(InvalidArgumentError, match="cannot be indexed"):
        weight[0]
    with pytest.raises(InvalidArgumentError, match="permute_dims"):
        weight.permute_dims((1, 0))


def test_numbers_take_the_dtype_of_the_array() -> None:
    x = px.asarray(np.array([1, 2], np.float32))
    assert (x + 1).dtype is px.float32
    assert np.asarray(2 / x).tolist() == [2, 1]
    assert np.asarray(1 - x).tolist() == [0, -1]
    half = px.constant(np.array([0x3F80], np.uint16), "bfloat16", (1,))
    total = half + 2.5
    assert total.dtype is px.bfloat16
    assert np.asarray(total).tolist() == [3.5]
    counts = px.asarray(np.array([1, 2], np.uint8))
    assert np.asarray(counts * 3).tolist() == [3, 6]
    with pytest.raises(InvalidArgumentError, match=r"1.5 does not fit an array of uint8"):
        counts + 1.5
    with pytest.raises(InvalidArgumentError, match="300 does not fit an array of uint8"):
        counts + 300


def test_asarray_keeps_what_fits_and_converts_what_does_not() -> None:
    x = px.asarray(np.array([1, 2], np.float32))
    assert px.asarray(x) is x
    assert px.asarray(x, "float32") is x
    assert np.asarray(px.asarray(x, "int64")).dtype == np.int64
    half = px.asarray(x, "bfloat16")
    assert half.dtype is px.bfloat16
    assert px.asarray(half, device="numpy").dtype is px.bfloat16
    with pytest.raises(InvalidArgumentError, match="cannot quantize"):
        px.asarray(x, "q8_0")
    with pytest.raises(UnknownNameError):
        px.asarray(x, "float31")


def test_arrays_read_like_numpys() -> None:
    x = px.asarray(np.array([[1, 2], [3, 4]], np.int32))
    assert [np.asarray(row).tolist() for row in x] == [[1, 2], [3, 4]]
    assert len(x) == 2
    assert bool(px.asarray(np.array([0.0]))) is False
    assert repr(px.asarray(np.array([1.5]))) == "Array([1.5], dtype=float64, device=numpy:0)"
    copied = np.array(x, copy=True)
    copied[:] = 0
    assert np.asarray(x).sum() == 10


def test_mixed_devices(sim: SimulatedBackend) -> None:
    there, here = px.asarray(np.ones(2, np.float32), device="sim"), px.asarray(np.ones(2, np.float32), device="numpy")
    with pytest.raises(InvalidArgumentError, match=r"add: operands live on different devices \(numpy:0, sim:0\)"):
        there + here
    assert str((there + px.asarray(here, device="sim")).device) == "sim:0"
    weight = px.constant(np.ones(2, np.float32))
    assert str((there + weight).device) == "sim:0", "constants go where they are needed"
    other_host = px.asarray(np.ones(2, np.float32), device=px.get_device("auto"))
    assert np.asarray(here + other_host).tolist() == [2, 2], "host devices share their memory"


def test_moving_shares_bytes_until_they_are_needed(sim: SimulatedBackend) -> None:
    x = px.asarray(np.ones(4, np.float32))
    moved = px.asarray(x, device="sim")
    assert sim.memory.writes == []
    moved + moved
    assert sim.memory.writes == [(0, 16)]
    assert x.view.buffer.valid_spaces == {"host", SPACE}


def test_state_is_not_moved_but_can_be_read(sim: SimulatedBackend) -> None:
    cache = px.state((2, 3), "float32", device="sim", name="cache")
    with pytest.raises(InvalidArgumentError, match="state 'cache' lives in 'sim', not on numpy:0"):
        px.asarray(cache, device="numpy")
    assert np.asarray(cache).tolist() == [[0] * 3] * 2
    assert cache.view.buffer.valid_spaces == {SPACE}


def test_the_callers_read_only_bytes_are_never_written() -> None:
    original = bytes(np.zeros(4, np.float32))
    for device in px.all_devices():
        with px.use_device(device, fallback="allow"):
            none, ones = px.asarray(np.zeros(0, np.int32)), px.asarray(np.ones(1, np.float32))
            bias = [px.asarray(v) for v in (np.zeros(1, np.int32), np.full(1, 2, np.int32), np.full(1, 9, np.float32))]
            logits = px.asarray(np.frombuffer(original, np.float32).reshape(1, 4))
            px.nn.adjust_logits(logits, none, px.asarray(np.zeros(2, np.int32)), none, ones, ones, ones, *bias)
        assert np.asarray(logits).tolist() == [[0, 0, 9, 0]]
    assert original == bytes(16)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "problem"),
    [
        ("exp", [np.zeros(3, np.int32)], {}, "exp: int32 is not of the kinds float"),
        ("add", [np.zeros(3), np.zeros(4)], {}, "add: sizes 3 and 4 do not broadcast"),
        ("add", [np.zeros(3)], {}, r"add takes 2 inputs \(a, b\); got 1"),
        ("rms_norm", [np.zeros((2, 3)), np.zeros(4)], {}, r"rms_norm: the weight must have the shape \[3\]; got \[4\]"),
        ("rms_norm", [np.zeros((2, 3)), np.zeros(3)], {"epsilon": 1}, "unknown attribute of rms_norm 'epsilon'"),
        ("rms_norm", [np.zeros((2, 3)), np.zeros(3)], {"eps": "x"}, "rms_norm: eps must be float; got 'x'"),
        ("linear", [np.zeros((2, 3)), np.zeros((4, 5))], {}, r"linear: the weight must have the shape \[any, 3\]"),
        (
            "linear",
            [np.zeros((2, 3)), np.zeros((4, 3))],
            {"activation_format": "int4"},
            "must be one of float32, int8, int16",
        ),
        ("linear", [np.zeros((2, 3)), np.zeros((4, 3))], {"activation_format": "int8"}, "columns in 32s"),
        ("embedding", [np.zeros(2, np.int64), np.zeros((4, 3))], {}, "embedding: tokens must be int32; got int64"),
        ("embedding", [np.int32([4]), np.zeros((4, 3))], {}, "embedding: a token id lies outside the table"),
        ("take_rows", [np.zeros((4, 3)), np.int32([-1])], {}, "take_rows: an index lies outside x"),
        ("topk", [np.zeros((1, 3))], {"k": 4}, r"topk: k must lie in 1..3; got 4"),
        ("topk", [np.zeros((1, 3))], {}, "topk: attribute k is required"),
        ("softmax", [np.float32(1)], {}, "softmax: x must have at least one dimension"),
        ("divide", [np.int32([1]), np.int32([1])], {}, "divide: int32 is not of the kinds"),
        ("rope", [np.zeros((2, 1, 4)), np.zeros((2, 6))], {}, "must be even and no more than the 4 of x"),
        (
            "add_rms_norm",
            [np.zeros((2, 4)), np.zeros((1, 4)), np.zeros(4)],
            {},
            r"add_rms_norm: y must have the shape \[2, 4\]",
        ),
        (
            "gated_activation",
            [np.zeros(2), np.zeros(2)],
            {"activation": "relu"},
            "must be one of gelu_tanh, silu; got 'relu'",
        ),
    ],
)
def test_operands_that_do_not_fit(op: str, operands: list[Any], attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises((InvalidArgumentError, UnknownNameError), match=problem):
        getattr(px.nn, op)(*(px.asarray(operand) for operand in operands), **attributes)


def test_an_unknown_op_is_an_attribute_error_with_a_hint() -> None:
    with pytest.raises(AttributeError, match=r"unknown op 'rms_nrom'. Did you mean 'rms_norm'"):
        px.nn.rms_nrom  # noqa: B018
    assert "rms_norm" in dir(px.nn)
    assert "rms_norm(x, weight, *, eps=1e-06)" in str(px.nn.rms_norm.__doc__)


def test_traced_arrays_have_no_values() -> None:
    def peek(x: px.Array) -> px.Array:
        return px.asarray(np.asarray(x))

    with pytest.raises(TraceError, match="only known when its graph runs"):
        px.graph.trace(peek, {"x": px.TensorSpec((3,), px.float32)})
