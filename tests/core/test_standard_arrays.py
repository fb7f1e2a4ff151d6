"""What arrays do beside computing: writing to parts, indexing, dtypes; and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from standard_table import sample

import perfxapi as px
from perfxapi.errors import (
    InvalidArgumentError,
    InvalidDTypeError,
    InvalidIndexError,
    TraceError,
)
from perfxapi.standard.data_types import KINDS

Values = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _on_numpy() -> Any:
    with px.use_device("numpy"):
        yield


# ---- writing to parts


@given(arrays.arrays(np.int32, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)), st.data())
def test_writing_to_a_part(values: Values, data: st.DataObject) -> None:
    index = data.draw(arrays.basic_indices(values.shape))
    array, expected = px.asarray(values, copy=True), values.copy()
    part = np.asarray(expected[index])
    new = data.draw(arrays.arrays(np.int32, part.shape) | st.integers(-9, 9))
    expected[index] = new
    array[index] = px.asarray(new) if isinstance(new, np.ndarray) else new
    assert np.array_equal(np.asarray(array), expected)


def test_views_see_what_is_written() -> None:
    whole = px.asarray(sample(4, 6))
    row, turned = whole[1], whole.T
    whole[1, 2:4] = 50.0
    row[0] = -1.0
    turned[5, :] = px.asarray(np.float32([7, 8, 9, 10]))
    assert np.asarray(whole)[1].tolist() == [-1, 7, 50, 50, 10, 8]
    assert np.asarray(whole)[:, 5].tolist() == [7, 8, 9, 10]


def test_a_part_may_be_written_to_another_that_overlaps() -> None:
    x = px.asarray(sample(8))
    x[1:] = x[:-1]
    assert np.asarray(x).tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    x[::-1] = x
    assert np.asarray(x).tolist() == [6, 5, 4, 3, 2, 1, 0, 0]


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_operators_in_place(device: str) -> None:
    with px.use_device(device, fallback="allow"):
        x = px.asarray(sample(3, 4), copy=True)
        row, expected = x[0], sample(3, 4)
        x += 1
        x *= x
        x[1] -= 2.0
        x /= 2
        expected = (expected + 1) ** 2
        expected[1] -= 2
        expected /= 2
        assert np.allclose(np.asarray(x), expected)
        assert np.allclose(np.asarray(row), expected[0]), "views see it"
        whole = px.asarray(np.array([6, 7]), copy=True)
        whole //= 2
        whole <<= 2
        whole |= 1
        whole %= 8
        assert np.asarray(whole).tolist() == [5, 5]


def test_bfloat16_is_filled_with_a_value() -> None:
    assert np.asarray(px.full(2, -2.5, dtype="bfloat16")).tolist() == [-2.5, -2.5]
    assert float(px.full((), -math.inf, dtype="bfloat16")) == -math.inf


def test_bfloat16_is_written_in_place_too() -> None:
    x = px.zeros(3, dtype="bfloat16")
    x[1:] = 2.5
    x += 1
    assert np.asarray(x).tolist() == [1, 3.5, 3.5]


@pytest.mark.parametrize(
    ("write", "error", "problem"),
    [
        (lambda x: x.__setitem__(0, 1.5), InvalidDTypeError, "1.5 does not fit an array of int32"),
        (lambda x: x.__setitem__(0, px.asarray([1.0])), InvalidDTypeError, "have no common dtype"),
        (
            lambda x: x.__setitem__(0, px.asarray([1])),
            InvalidDTypeError,
            "int64 cannot be written to an array of int32",
        ),
        (lambda x: x.__setitem__(slice(2), px.zeros(3, dtype="int32")), InvalidArgumentError, "sizes 2 and 3"),
        (lambda x: x.__setitem__(9, 1), InvalidIndexError, "index 9 is out of range for axis 0 of size 3"),
        (lambda x: x.__iadd__(px.zeros((2, 3), dtype="int32")), InvalidArgumentError, r"\[2, 3\] does not fit \[3\]"),
        (lambda x: x.__iadd__(px.zeros(3, dtype="int64")), InvalidDTypeError, "int64 does not fit int32"),
        (lambda x: x.__itruediv__(2), InvalidDTypeError, "int32 is not of the kinds"),
    ],
)
def test_what_cannot_be_written(write: Callable[[Any], Any], error: type[Exception], problem: str) -> None:
    x = px.asarray(np.array([1, 2, 3], np.int32), copy=True)
    with pytest.raises(error, match=problem):
        write(x)
    assert np.asarray(x).tolist() == [1, 2, 3]


def test_constants_are_never_written() -> None:
    weight = px.constant(np.ones(3, np.float32))
    with pytest.raises(InvalidArgumentError, match="the array is a constant"):
        weight[0] = 2
    with pytest.raises(InvalidArgumentError, match=r"write to asarray\(x, copy=True\)"):
        weight += 1
    assert np.asarray(weight).tolist() == [1, 1, 1]


def test_tracing_binds_a_name_and_writes_nothing() -> None:
    def model(x: px.Array) -> px.Array:
        y = x
        y += 1
        with pytest.raises(TraceError, match="cannot be written in place"):
            x[0] = 3
        return y * x

    run = px.graph.compile(px.graph.trace(model, {"x": px.TensorSpec((2,), px.float32)}), bounds={})
    assert np.asarray(run(x=np.float32([2, 3]))["output"]).tolist() == [6, 12]


# ---- indexing by arrays

INDICES: list[Callable[[Callable[[Any], Any]], Any]] = [
    lambda a: a([0, 2, 1]),
    lambda a: a([[0, -1], [1, 1]]),
    lambda a: (a([0, 1]), a([3, 2])),
    lambda a: (a([0, 1]), a([3, 2]), 4),
    lambda a: (1, a([3, 2])),
    lambda a: (slice(None), a([3, 2])),
    lambda a: (slice(1), a([[3], [2]]), slice(1, 3)),
    lambda a: (a([0, 1]), slice(None), a([4, 0])),
    lambda a: (0, slice(None), a([4, 0])),
    lambda a: (..., a([4, 0])),
    lambda a: (None, a([1, 1])),
    lambda a: (a([1, 1]), None, slice(None, None, -1)),
    lambda a: a(np.zeros((0,), np.int64)),
    lambda a: (a([[0], [1]]), a([[3, 2, 0]])),
    lambda a: a(1),
    lambda a: (a(1), slice(2)),
    lambda a: a(sample(3, 4) % 2 == 0),
    lambda a: a(sample(3) > 0),
    lambda a: a(sample(3, 4, 5) % 3 == 0),
    lambda a: a(True),
    lambda a: a(False),
]


@pytest.mark.parametrize("make", INDICES, ids=range(len(INDICES)))
def test_reading_and_writing_by_arrays(make: Callable[[Callable[[Any], Any]], Any]) -> None:
    ours, theirs = make(lambda v: px.asarray(np.asarray(v))), make(np.asarray)
    values = sample(3, 4, 5)
    for array, expected in ((px.asarray(values), values), (px.asarray(values)[::-1], values[::-1])):
        got = array[ours]
        assert np.array_equal(np.asarray(got), expected[theirs])
    target, turned = px.asarray(values, copy=True), px.asarray(values.transpose(2, 1, 0).copy()).permute_dims((2, 1, 0))
    wanted = values.copy()
    new = -1 - np.arange(wanted[theirs].size, dtype=np.float32).reshape(wanted[theirs].shape)
    wanted[theirs] = new
    distinct = np.unique(wanted[theirs]).size == new.size
    for written in (target, turned):
        written[ours] = px.asarray(new)
        assert not distinct or np.array_equal(np.asarray(written), wanted)
        written[ours] = 7.0
        wanted_number = values.copy()
        wanted_number[theirs] = 7
        assert np.array_equal(np.asarray(written) == 7, (wanted_number == 7) | (np.asarray(written) == 7))
        assert (np.asarray(written)[theirs] == 7).all()


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (lambda: px.asarray([3]), "index 3 is out of range for an axis of size 3"),
        (lambda: px.asarray([0, -4]), "index -4 is out of range"),
        (lambda: px.asarray([0.0]), "an array of float64 is no index"),
        (lambda: px.asarray([True]), r"a mask of shape \[1\] does not fit"),
        (lambda: (px.asarray([True, False, True]), 0), "a mask must be the only index"),
        (lambda: (0, 0, px.asarray([0])), "does not fit an array of 2 dimensions"),
    ],
)
def test_arrays_that_are_no_index(key: Callable[[], Any], problem: str) -> None:
    x = px.zeros((3, 4))
    with pytest.raises(InvalidIndexError, match=problem):
        x[key()]
    with pytest.raises(IndexError):
        x[key()] = 1.0


# ---- numbers, dtypes


def test_python_numbers_beside_arrays() -> None:
    single, whole, truth = px.ones(2, dtype="float32"), px.ones(2, dtype="int8"), px.asarray([True, False])
    assert (single + 1j).dtype is px.complex64
    assert (1 + single).dtype is px.float32
    assert (whole * 3).dtype is px.int8
    assert (truth == True).dtype is px.bool  # noqa: E712
    assert (px.ones(2, dtype="bfloat16") * 2.5).dtype is px.bfloat16
    for wrong in (
        lambda: whole + 1.0,
        lambda: truth + 1,
        lambda: whole + 1j,
        lambda: single + True,
        lambda: whole & 1.0,
    ):
        with pytest.raises(InvalidDTypeError, match="does not fit an array of"):
            wrong()
    with pytest.raises(InvalidArgumentError, match="300 does not fit an array of int8"):
        whole + 300


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: px.ones(2) + px.ones(2, dtype="int32"),
        lambda: px.ones(2, dtype="uint64") + px.ones(2, dtype="int8"),
        lambda: px.concat([px.ones(2), px.asarray([True])]),
        lambda: px.where(px.asarray([True]), px.ones(2), px.ones(2, dtype="int32")),
        lambda: px.matmul(px.ones((2, 2)), px.ones((2, 2), dtype="int64")),
        lambda: px.result_type(px.int8, px.float32),
    ],
)
def test_kinds_do_not_mix(mixed: Callable[[], Any]) -> None:
    with pytest.raises(InvalidDTypeError, match="have no common dtype: convert one of them by astype"):
        mixed()


def test_limits_of_dtypes() -> None:
    for dtype in (px.float16, px.float32, px.float64, px.complex64):
        want = np.finfo(dtype.numpy)  # type: ignore[type-var]
        got = px.finfo(dtype)
        assert (got.bits, got.eps, got.max, got.min) == (want.bits, want.eps, want.max, want.min)
        assert got.smallest_normal == want.smallest_normal
    half = px.finfo(px.bfloat16)
    bits = np.array([0x7F7F, 0xFF7F, 0x0080, 0x3F81], np.uint16)
    assert [half.max, half.min, half.smallest_normal, 1 + half.eps] == np.asarray(
        px.constant(bits, "bfloat16")
    ).tolist()
    assert px.iinfo(px.uint8)[:3] == (8, 255, 0)
    assert px.finfo(px.complex128).dtype is px.float64
    for wrong in (lambda: px.finfo(px.int8), lambda: px.iinfo(px.float32), lambda: px.iinfo(px.bool)):
        with pytest.raises(InvalidDTypeError):
            wrong()


def test_kinds_of_dtypes() -> None:
    for kind, ours in KINDS.items():
        for dtype in (px.bool, px.int8, px.uint64, px.float16, px.bfloat16, px.float32, px.complex128):
            assert px.isdtype(dtype, kind) == (dtype.kind in ours)
    assert px.isdtype(px.int8, (px.float32, "integral"))
    with pytest.raises(InvalidArgumentError, match="kind must be one of bool, signed integer"):
        px.isdtype(px.int8, "whole")
    assert px.result_type(px.ones(1, dtype="float32"), 1, 2.0, 1j) is px.complex64
    assert px.can_cast(px.int8, px.int64)
    assert not px.can_cast(px.float64, px.int64)


def test_conversions() -> None:
    x = px.asarray([1.5, -2.5, 0.0])
    assert px.astype(x, px.float64, copy=False) is x
    assert px.astype(x, px.float64) is not x
    assert np.asarray(px.astype(x, px.int32)).tolist() == [1, -2, 0]
    assert np.asarray(px.astype(x, "bfloat16")).tolist() == [1.5, -2.5, 0]
    with pytest.raises(InvalidDTypeError, match="complex128 does not fit float32: take real"):
        px.astype(x + 1j, px.float32)
    with pytest.raises(InvalidDTypeError, match="cannot quantize"):
        px.asarray(x, "q8_0")


# ---- making arrays


def test_copies_and_shared_memory() -> None:
    values = np.zeros(3)
    shared, copied = px.asarray(values), px.asarray(values, copy=True)
    values[0] = 5
    assert (float(shared[0]), float(copied[0])) == (5, 0)
    assert px.asarray(shared, copy=False) is shared
    for wrong in (lambda: px.asarray([1.0], copy=False), lambda: px.asarray(values[::2], copy=False)):
        with pytest.raises(InvalidArgumentError, match="copy=False, but this needs one"):
            wrong()
    with pytest.raises(InvalidArgumentError, match="copy=False, but float64 to float32 needs one"):
        px.asarray(shared, dtype="float32", copy=False)
    turned = px.ones((2, 3)).T
    with pytest.raises(InvalidArgumentError, match=r"reshape: copy=False"):
        px.reshape(turned, (6,), copy=False)
    assert px.reshape(turned, (3, 1, 2), copy=False).view.buffer is turned.view.buffer


@given(arrays.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_reshape_is_a_view_where_numpys_is(shape: tuple[int, ...], data: st.DataObject) -> None:
    values = sample(*shape)
    part = values.transpose(data.draw(st.permutations(range(values.ndim))))[
        data.draw(st.sampled_from([..., slice(None, None, -1)]))
    ]
    target = data.draw(st.permutations((*part.shape, 1)))
    array = px.asarray(values).permute_dims(list(np.argsort(np.argsort(values.strides))))  # only its buffer is used
    array = array.viewed(
        part.shape, part.strides, part.__array_interface__["data"][0] - values.__array_interface__["data"][0]
    )
    shared = np.shares_memory(part.reshape(target), values) if values.size > 1 else True
    ours = array.reshape(target)
    assert np.array_equal(np.asarray(ours), part.reshape(target))
    assert values.size <= 1 or (ours.view.buffer is array.view.buffer) == shared


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: px.zeros((1 << 40, 1 << 40)), "more memory than can be addressed"),
        (lambda: px.zeros((0, 1 << 40, 1 << 40)), "more memory than can be addressed"),
        (lambda: px.ones((-1, 2)), "sizes must not be negative"),
        (lambda: px.zeros((1,) * 65), "nor more than 64"),
        (lambda: px.zeros(2.5), "must be whole numbers"),
        (lambda: px.zeros(2, dtype="q8_0"), "holds no single elements"),
        (lambda: px.full(2, 300, dtype="uint8"), "300 does not fit uint8"),
        (lambda: px.full(2, [1, 2]), "fill_value must be a number"),
        (lambda: px.full(2, 1j, dtype="float32"), "complex numbers do not fit float32"),
        (lambda: px.arange(0, 10, 0), "a step other than 0"),
        (lambda: px.arange(0, math.inf), "must be finite"),
        (lambda: px.arange(1 << 62), "more memory than can be addressed"),
        (lambda: px.tile(px.ones(4), (1 << 62,)), "more memory than can be addressed"),
        (lambda: px.repeat(px.ones(4), 1 << 60), "repeat: .* more memory than can be addressed"),
        (lambda: px.nn.pool(px.ones((1, 1, 4, 4)), mode="max", window=(2, 2), pads=(1 << 40,) * 4), "more memory"),
        (lambda: px.linspace(0, 1, -1), "sizes must not be negative"),
        (lambda: px.meshgrid(px.ones((2, 2))), "must be vectors"),
        (lambda: px.tril(px.ones(3)), "two dimensions or more"),
        (lambda: px.asarray(np.array([object()])), "cannot be held"),
        (lambda: px.broadcast_to(px.ones(3), (2, 2)), "do not broadcast|does not fit"),
        (lambda: px.broadcast_to(px.ones((2, 1)), (2,)), "does not fit"),
        (lambda: px.expand_dims(px.ones(1), (0, 0)), "names an axis twice"),
        (lambda: px.squeeze(px.ones((2, 1)), 0), "is not of size 1"),
        (lambda: px.moveaxis(px.ones((2, 3)), 0, (0, 1)), "1 axes cannot go to 2 places"),
        (lambda: px.concat([]), "at least one array"),
        (lambda: px.concat([px.ones((2, 3)), px.ones((2, 4))]), r"must have the shape \[any, 3\]"),
        (lambda: px.stack([px.ones(2), px.ones(3)]), "different shapes"),
        (lambda: px.repeat(px.ones(3), px.asarray([1, 2])), "a count, or 3 of them"),
        (lambda: px.repeat(px.ones(3), -1), "from 0 on"),
        (lambda: px.tile(px.ones(3), (-1,)), "must not be negative"),
        (lambda: px.roll(px.ones((2, 2)), (1, 2), axis=0), "2 shifts for 1 axes"),
        (lambda: px.max(px.zeros((0,))), "no extreme of no elements"),
        (lambda: px.argmin(px.zeros((2, 0)), axis=1), "no extreme of no elements"),
        (lambda: px.cumulative_sum(px.ones((2, 2))), "axis must be given"),
        (lambda: px.take(px.ones(3), px.asarray([3])), "an index lies outside -3..2"),
        (lambda: px.take(px.ones((2, 2)), px.asarray([0])), "axis must be given"),
        (lambda: px.nonzero(px.asarray(1.0)), "no dimension"),
        (lambda: px.matmul(px.ones((2, 3)), px.ones((2, 3))), "inner sizes differ"),
        (lambda: px.matmul(px.ones(()), px.ones(3)), "at least one dimension"),
        (lambda: px.tensordot(px.ones((2, 3)), px.ones((2, 3)), axes=1), "differ in size"),
        (lambda: px.linalg.inv(px.ones((2, 2))), "solve: Singular matrix"),
        (lambda: px.linalg.inv(px.ones((2, 3))), "takes square matrices"),
        (lambda: px.linalg.cholesky(-px.eye(2)), "cholesky: "),
        (lambda: px.linalg.det(px.ones(3)), "two dimensions or more"),
        (lambda: px.linalg.cross(px.ones(2), px.ones(2)), "must be of size 3"),
        (lambda: px.linalg.matrix_norm(px.ones((2, 2)), ord=3), 'ord must be "fro"'),
        (lambda: px.fft.fft(px.ones(3), n=0), "length must be at least 1"),
        (lambda: px.fft.fft(px.zeros(0)), "known size of at least 1"),
        (lambda: px.fft.fft(px.ones(3), norm="both"), "norm must be one of backward, ortho, forward"),
        (lambda: px.pow(px.asarray([2]), px.asarray([-1])), "to a negative power"),
        (lambda: float(px.ones(2)), "is no number: only one of one element is"),
        (lambda: px.ones((2, 2, 2)).T, "is no matrix"),
        (lambda: px.ones(2).__array_namespace__(api_version="2019.12"), "api_version must be one of"),
        (lambda: px.where(px.ones(2), 1, 2), "where: float64 is not of the kinds bool"),
        (lambda: px.ones(3, device="numpy").to_device("numpy", stream=1), "stream must be None"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_typed_error(make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        make()


@pytest.mark.parametrize("op", ["sum", "flip", "sort", "argmax", "unstack", "squeeze", "cumulative_sum", "any", "diff"])
def test_an_axis_that_is_not_there(op: str) -> None:
    with pytest.raises(
        InvalidIndexError, match=f"{'argsort' if op == 'sort' else op}: axis 2 is not one of the 2 axes"
    ):
        getattr(px, op)(px.ones((2, 3)), axis=2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: px.exp(x), lambda x: px.sqrt(x), lambda x: px.mean(x), lambda x: px.fft.fft(x), lambda x: px.imag(x),
        lambda x: px.linalg.vector_norm(x), lambda x: px.logical_not(x), lambda x: x / x,
    ],
)  # fmt: skip
def test_kinds_that_a_function_does_not_take(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        call(px.asarray([1, 2]))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: px.zeros(n), lambda n: px.full(n, 3.0), lambda n: px.linspace(0, 1, n), lambda n: px.arange(n),
        lambda n: px.repeat(px.ones(1), n),
    ],
)  # fmt: skip
def test_an_array_that_does_not_fit_into_memory_is_an_error_of_ours(make: Any) -> None:
    with pytest.raises(px.errors.OutOfMemoryError, match=r"(zeros|full|linspace|arange|repeat): .*allocate"):
        make(1 << 48)
