"""Operators of numbers, against plain NumPy and Python: signs, types, old opsets, axes."""

import math

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import model, port, run_node

from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx import load

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_whole_numbers_are_divided_towards_zero(dtype):
    a, b = (RNG.integers(-9, 10, 200).astype(np.int64) for _ in range(2))
    a, b = np.abs(a) if dtype == np.uint8 else a, np.where(b == 0, 3, np.abs(b) if dtype == np.uint8 else b)
    expected = [math.trunc(x / y) for x, y in zip(a, b, strict=True)]
    found = run_node("Div", a.astype(dtype), b.astype(dtype))
    assert (found.dtype, found.tolist()) == (dtype, expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_the_remainder_has_the_sign_of_the_dividend_or_of_the_divisor(dtype):
    a, b = RNG.integers(-20, 21, 100).astype(dtype), RNG.choice([-7, -3, 2, 5], 100).astype(dtype)
    like_c = run_node("Mod", a, b, fmod=1)
    assert like_c.tolist() == [math.fmod(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert run_node("Mod", a, b).tolist() == [x % y for x, y in zip(a.tolist(), b.tolist(), strict=True)]


def test_a_power_has_the_type_of_its_base():
    base, exponent = np.array([4, 9], np.int32), np.array([0.5, 2], np.float32)
    found = run_node("Pow", base, exponent, opset=15)
    assert (found.dtype, found.tolist()) == (np.int32, [2, 81])
    assert run_node("Pow", np.float32(3), np.array([2, 3])).tolist() == [9, 27]


def test_the_square_is_a_product():
    x, two = floats(3, 4), np.array([2.0], np.float32)
    square = load(
        model([helper.make_node("Pow", ["x", "two"], ["y"])], [port("x")], [port("y")], {"two": two}), "numpy"
    )
    np.testing.assert_array_equal(np.asarray(square(x)["y"]), x * x)
    (planned,) = square.planned()
    assert [node.spec.name for node in planned.executable.graph.nodes] == ["multiply"]
    np.testing.assert_array_equal(run_node("Pow", x, two), x * x)


def test_shifts_beyond_the_width_lose_all_bits():
    x, by = np.array([-7, 100], np.int8), np.array([9, 30], np.int8)
    assert run_node("BitShift", x, by, direction="RIGHT", opset=28).tolist() == [-1, 0]
    assert run_node("BitShift", x, by, direction="LEFT", opset=28).tolist() == [0, 0]


def test_the_first_versions_lay_an_operand_along_an_axis():
    x, y = floats(2, 3, 4, 5), floats(3, 4)
    found = run_node("Add", x, y, opset=6, axis=1, broadcast=1)
    np.testing.assert_array_equal(found, x + y[:, :, None])
    slope = floats(3)
    expected = np.where(x < 0, x * slope[:, None, None], x)
    np.testing.assert_array_equal(run_node("PRelu", x, slope, opset=6), expected)


@pytest.mark.parametrize("opset", [6, 13])
def test_clip_has_bounds_as_attributes_or_operands(opset):
    x = floats(20)
    bounds = np.float32(-0.5), np.float32(0.25)
    found = run_node("Clip", x, min=-0.5, max=0.25, opset=6) if opset == 6 else run_node("Clip", x, *bounds, opset=13)
    np.testing.assert_array_equal(found, np.clip(x, *bounds))


# ---- casts


def test_strings_are_read_and_written():
    texts = np.array(["1.5", "-INF", "nan", "+inf", "1e-3"], object)
    found = run_node("Cast", texts, to=TensorProto.FLOAT)
    np.testing.assert_allclose(found, [1.5, -np.inf, np.nan, np.inf, 1e-3])
    written = run_node("Cast", np.array([0.1, 1e-7, 3, np.inf, np.nan], np.float32), to=TensorProto.STRING)
    assert written.tolist() == ["0.1", "0.0000001", "3", "INF", "NaN"]
    assert run_node("Cast", np.array([True, False]), to=TensorProto.STRING).tolist() == ["1", "0"]


def test_before_opset_6_types_have_names():
    assert run_node("Cast", np.array([1.7, -2.7]), to="INT32", opset=1).dtype == np.int32
    with pytest.raises(InvalidArgumentError, match="'COLOR' is no element type"):
        run_node("Cast", np.array([1.7]), to="COLOR", opset=1)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_float8_saturates_or_not(dtype):
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = np.array([1.0625, 1e9, -np.inf, np.nan], np.float32)
    largest = float(ml_dtypes.finfo(dtype).max)
    saturated = run_node("Cast", x, to=code).astype(np.float32)
    np.testing.assert_array_equal(saturated, [1, largest, -largest, np.nan])
    loose = run_node("Cast", x, to=code, saturate=0).astype(np.float32)
    overflow = np.nan if dtype is ml_dtypes.float8_e4m3fn else np.inf
    np.testing.assert_array_equal(loose, [1, overflow, -overflow, np.nan])


def test_bits_are_read_as_another_type():
    x = floats(3, 5)
    np.testing.assert_array_equal(
        run_node("BitCast", x[:, ::2], to=TensorProto.INT32, opset=26), x[:, ::2].copy().view(np.int32)
    )


# ---- reductions


WIDE = {
    "ReduceL1": lambda x, axis: np.abs(x).sum(axis),
    "ReduceL2": lambda x, axis: np.sqrt((x * x).sum(axis)),
    "ReduceLogSum": lambda x, axis: np.log(x.sum(axis)),
    "ReduceLogSumExp": lambda x, axis: np.log(np.exp(x).sum(axis)),
    "ReduceMax": np.max,
    "ReduceMean": np.mean,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceSumSquare": lambda x, axis: (x * x).sum(axis),
}


@pytest.mark.parametrize("op", WIDE)
def test_reductions_over_axes_given_either_way(op):
    x = RNG.uniform(0.5, 2, (3, 4, 5)).astype(np.float32)
    expected = WIDE[op](x.astype(np.float64), (0, 2))
    np.testing.assert_allclose(run_node(op, x, np.array([0, -1]), opset=18, keepdims=0), expected, rtol=1e-5)
    np.testing.assert_allclose(run_node(op, x, axes=[0, 2], opset=11, keepdims=0), expected, rtol=1e-5)
    whole = run_node(op, x, opset=11)
    assert whole.shape == (1, 1, 1)
    np.testing.assert_allclose(whole.item(), WIDE[op](x.astype(np.float64), None), rtol=1e-5)


def test_reductions_of_nothing_and_over_nothing():
    empty = np.zeros((2, 0), np.float32)
    assert run_node("ReduceMax", empty, np.array([1]), opset=20, keepdims=0).tolist() == [-np.inf, -np.inf]
    assert run_node("ReduceMin", empty.astype(np.int8), np.array([1]), opset=20, keepdims=0).tolist() == [127, 127]
    x = floats(2, 3)
    np.testing.assert_array_equal(run_node("ReduceSum", x, opset=18, noop_with_empty_axes=1), x)
    huge = np.array([1000.0, 1000.0, -np.inf])
    np.testing.assert_allclose(run_node("ReduceLogSumExp", huge, opset=18), [1000 + math.log(2)])


@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums_and_products(op, exclusive, reverse):
    x = RNG.integers(1, 4, (2, 5))
    function, first = (sum, 0) if op == "CumSum" else (math.prod, 1)
    expected = np.empty_like(x)
    for row, values in enumerate(x.tolist()):
        for place in range(5):
            part = values[place + exclusive :] if reverse else values[: place + 1 - exclusive]
            expected[row, place] = function(part) if part else first
    found = run_node(op, x, np.array(-1), exclusive=exclusive, reverse=reverse, opset=26)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("op", "pick"), [("ArgMax", max), ("ArgMin", min)])
def test_the_last_of_equal_extremes(op, pick):
    x = RNG.integers(0, 3, (4, 9))
    expected = [[8 - row[::-1].index(pick(row))] for row in x.tolist()]
    assert run_node(op, x, axis=1, select_last_index=1).tolist() == expected


# ---- products


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk,kl", [(2, 3), (3, 4), (4, 2)]),
        ("bij,bjk->bki", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)]),
        ("ii->i", [(3, 3)]),
        ("iij,jk->k", [(3, 3, 2), (2, 4)]),
        ("ij->", [(2, 3)]),
        ("i,j", [(2,), (3,)]),
        ("...a,b...->ab...", [(3, 2), (4, 3)]),
        ("ba", [(2, 3)]),
        ("ab,cd,ab->cd", [(2, 3), (4, 5), (2, 3)]),
        ("a...a->...", [(3, 2, 3)]),
    ],
)
def test_einsum(equation, shapes):
    operands = [RNG.standard_normal(shape) for shape in shapes]
    found = run_node("Einsum", *operands, equation=equation.replace("->", " -> "))
    np.testing.assert_allclose(found, np.einsum(equation, *operands), rtol=1e-12)


def test_einsum_refuses_operands_that_do_not_fit():
    with pytest.raises(InvalidArgumentError, match="'ijk' does not fit an operand of 2 axes"):
        run_node("Einsum", floats(2, 3), equation="ijk->i")


def test_gemm():
    a, b, c = floats(3, 2), floats(4, 3), floats(4)
    found = run_node("Gemm", a, b, c, transA=1, transB=1, alpha=0.5, beta=2.0)
    np.testing.assert_allclose(found, 0.5 * a.T @ b.T + 2 * c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_before_opset_13_all_axes_behind_are_one(op, dtype):
    x = floats(2, 3, 4).astype(dtype)
    rows = x.reshape(2, 12).astype(np.float64)
    powers = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    hard = np.eye(12)[rows.argmax(1)]
    expected = {"Softmax": powers, "LogSoftmax": np.log(powers), "Hardmax": hard}[op]
    np.testing.assert_allclose(run_node(op, x, axis=1, opset=11), expected.reshape(2, 3, 4), rtol=1e-5)
    along = run_node(op, x, axis=1, opset=13)
    assert not np.allclose(along, expected.reshape(2, 3, 4))
    if op == "Softmax":
        np.testing.assert_allclose(along.sum(1), np.ones((2, 4)), rtol=1e-5)
