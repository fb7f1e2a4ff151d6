"""The ops of the array API's functions, on each OpenCL device: random shapes, strides and broadcasting against NumPy in
float64, and the same bits for an element or a line wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from opencl_devices import on_each_device

import perfxapi as px
from perfxapi.array import apply
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import op_spec

pytestmark = on_each_device
FUNCTIONS = ("add", "divide", "hypot", "maximum", "remainder")
SIZES = (1, 2, 3, 16, 17, 33)


@pytest.fixture(autouse=True)
def forced(device: str) -> Iterator[None]:
    """Everything runs on the device by kernels of its own, or fails."""
    with px.use_device(device, fallback="error"):
        yield


def run(op: str, *operands: Any, **attributes: Any) -> Any:
    """The result of an op, as a NumPy array."""
    return np.asarray(apply(op_spec(op), *map(px.asarray, operands), **attributes))


def arranged(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The same numbers for NumPy and on the device, there with gaps, backwards or with axes exchanged."""
    order = rng.permutation(len(shape))
    steps = rng.choice([-2, -1, 1, 2], len(shape))
    whole = rng.uniform(0.5, 2, [shape[axis] * abs(step) for axis, step in zip(order, steps, strict=True)])
    key = tuple(slice(None, None, int(step)) for step in steps)
    back = tuple(int(axis) for axis in np.argsort(order))
    there = px.asarray(whole.astype(np.float32))
    return whole.astype(np.float32)[key].transpose(back), px.permute_dims(there[key], back)


def assert_near(got: Any, want: Any, tolerance: float = 2e-6) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(initial=1e-30))


@pytest.mark.parametrize("seed", range(12))
def test_functions_of_strided_and_broadcast_operands(device: str, seed: int):
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.choice(SIZES, rng.integers(1, 5)))
    others = tuple(1 if rng.random() < 0.3 else size for size in shape)[int(rng.integers(0, len(shape))) :]
    (a, a_there), (b, b_there) = arranged(rng, shape), arranged(rng, others)
    for op in FUNCTIONS:
        want = op_spec(op).reference(a.astype(np.float64), b.astype(np.float64))
        assert_near(np.asarray(getattr(px, op)(a_there, b_there)), want)
    np.testing.assert_array_equal(np.asarray(a_there < b_there), a < b)
    np.testing.assert_array_equal(np.asarray(px.where(a_there < 1, a_there, b_there)), np.where(a < 1, a, b))


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_any_arrangement(device: str, seed: int):
    rng = np.random.default_rng(100 + seed)
    shape = tuple(int(size) for size in rng.choice((1, 4, 32, 33, 70), rng.integers(1, 4)))
    x, there = arranged(rng, shape)
    target = px.zeros((*shape[:-1], shape[-1] + 3), dtype=px.float32)
    target[..., :-3] = there
    np.testing.assert_array_equal(np.asarray(target), np.pad(x, [(0, 0)] * (len(shape) - 1) + [(0, 3)]))
    axis = int(rng.integers(0, len(shape)))
    got = px.concat([there, px.asarray(x), there], axis=axis)
    np.testing.assert_array_equal(np.asarray(got), np.concatenate([x, x, x], axis))
    for dtype in ("float16", "int32", "bool"):
        np.testing.assert_array_equal(np.asarray(px.astype(there, getattr(px, dtype))), x.astype(dtype))


@pytest.mark.parametrize("seed", range(10))
def test_reductions_over_any_axes(device: str, seed: int):
    rng = np.random.default_rng(200 + seed)
    shape = tuple(int(size) for size in rng.choice((1, 3, 16, 17, 100), rng.integers(1, 4)))
    x, there = arranged(rng, shape)
    axes = tuple(int(axis) for axis in rng.permutation(len(shape))[: rng.integers(1, len(shape) + 1)])
    wide = x.astype(np.float64)
    assert_near(np.asarray(px.sum(there, axis=axes)), wide.sum(axes))
    np.testing.assert_array_equal(np.asarray(px.max(there, axis=axes)), x.max(axes))
    np.testing.assert_array_equal(np.asarray(px.min(there, axis=axes)), x.min(axes))
    for axis in range(len(shape)):
        np.testing.assert_array_equal(np.asarray(px.argmax(there, axis=axis)), x.argmax(axis))
        assert_near(np.asarray(px.cumulative_sum(there, axis=axis)), wide.cumsum(axis))


def test_a_chain_of_functions_is_one_kernel_of_a_plan(device: str):
    def hard(x: px.Array, y: px.Array) -> px.Array:
        gate = px.maximum(px.add(px.multiply(x, 2.0), y), 0.25)
        return px.divide(px.nn.silu(px.subtract(gate, px.exp(px.minimum(x, y)))), 3.0)

    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((7, 37)).astype(np.float32), rng.standard_normal((7, 1)).astype(np.float32)
    specs = {"x": px.TensorSpec((px.Dim("n"), 37), px.float32), "y": px.TensorSpec((px.Dim("n"), 1), px.float32)}
    plan = px.graph.compile(px.graph.trace(hard, specs), device=device, bounds={"n": 9})
    assert [node.spec.name for node in plan.graph.nodes] == ["elementwise_chain"]
    a, b = x.astype(np.float64), y.astype(np.float64)
    inner = np.maximum(2 * a + b, 0.25) - np.exp(np.minimum(a, b))
    assert_near(np.asarray(plan(x=x, y=y)["output"]), inner / (1 + np.exp(-inner)) / 3, 4e-6)
    alone = np.array(plan(x=x[3:4], y=y[3:4])["output"])
    np.testing.assert_array_equal(np.asarray(plan(x=x, y=y)["output"])[3:4], alone)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 70000])
def test_long_lines(device: str, length: int):
    x = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)
    x[0, length // 2] = x[0, -1] = 9
    wide = x.astype(np.float64)
    assert_near(run("sum", x, axes=(1,)), wide.sum(1), 2e-6 * np.abs(wide).sum(1).max() / np.abs(wide.sum(1)).max())
    assert_near(run("cumulative_sum", x, axis=1), wide.cumsum(1), 2e-5)
    np.testing.assert_array_equal(run("argmax", x, axis=1), x.argmax(1))
    np.testing.assert_array_equal(run("argmin", x.T.copy(), axis=0), x.argmin(1))
    x[1, 3] = x[1, -3] = np.nan
    np.testing.assert_array_equal(run("argmin", x, axis=1), x.argmin(1))
    np.testing.assert_array_equal(run("max", x, axes=(1,)), x.max(1))


@pytest.mark.parametrize("columns", [5, 16, 300, 5000])
def test_a_line_alone_has_the_bits_it_has_among_others(device: str, columns: int):
    x = np.random.default_rng(columns).standard_normal((19, columns)).astype(np.float32)
    calls: tuple[tuple[str, Any], ...] = (
        ("sum", {"axes": (1,), "keepdims": 1}),
        ("prod", {"axes": (1,), "keepdims": 1}),
        ("cumulative_sum", {"axis": 1}),
        ("exp", {}),
        ("tanh", {}),
    )
    for op, attributes in calls:
        together = run(op, x, **attributes)
        for row in (0, 7, 18):
            alone = run(op, x[row : row + 1], **attributes)
            np.testing.assert_array_equal(together[row : row + 1].view(np.uint32), alone.view(np.uint32))


def test_an_element_has_the_same_bits_in_any_layout(device: str):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((21, 37)) * 10.0 ** rng.integers(-9, 6, (21, 37))).astype(np.float32)
    for op in ("exp", "log1p", "sin", "atan"):
        there = px.asarray(np.abs(x))
        plain = np.asarray(getattr(px, op)(there))
        turned = np.asarray(getattr(px, op)(px.permute_dims(there, (1, 0)))).T
        part = np.asarray(getattr(px, op)(there[3:, 5:7]))
        np.testing.assert_array_equal(plain, turned)
        np.testing.assert_array_equal(plain[3:, 5:7], part)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 1500])
@pytest.mark.parametrize("descending", [False, True])
def test_sorting_is_stable_and_nan_is_largest(device: str, length: int, descending: bool):
    x = np.random.default_rng(length).integers(-9, 9, (3, length)).astype(np.float32)
    x[1, :: max(length // 3, 1)] = np.nan
    x[2, 0] = -0.0
    for values, axis in ((x, 1), (x.T.copy(), 0)):
        want = op_spec("argsort").reference(values, axis=axis, descending=int(descending))
        np.testing.assert_array_equal(run("argsort", values, axis=axis, descending=int(descending)), want)


def test_indices_are_checked_before_anything_is_written(device: str):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    for wrong in (4, -5, 1 << 40):
        with pytest.raises(InvalidArgumentError, match="out of range"):
            run("take", x, np.array([0, wrong]), axis=0)
        target = px.asarray(x)
        with pytest.raises(InvalidArgumentError, match="out of range"):
            apply(op_spec("put_rows"), target, px.asarray([1, wrong]), px.zeros((2, 3), dtype=px.float32))
        np.testing.assert_array_equal(np.asarray(target), x)
    with pytest.raises(InvalidArgumentError, match="out of range"):
        run("take", x, np.array([(1 << 64) - 1], np.uint64), axis=0)


def test_the_last_of_several_rows_stays(device: str):
    rng = np.random.default_rng(3)
    x, values = rng.standard_normal((5, 40)).astype(np.float32), rng.standard_normal((300, 40)).astype(np.float32)
    indices = rng.integers(-5, 5, 300)
    target = px.asarray(x)
    apply(op_spec("put_rows"), target, px.asarray(indices), px.asarray(values))
    x[indices] = values
    np.testing.assert_array_equal(np.asarray(target), x)


@pytest.mark.parametrize("seed", range(10))
def test_products_of_strided_matrices(device: str, seed: int):
    rng = np.random.default_rng(300 + seed)
    m, k, n = (int(size) for size in rng.choice((1, 7, 33, 70, 130), 3))
    batch = tuple(int(size) for size in rng.choice((1, 3), rng.integers(0, 3)))
    (a, a_there), (b, b_there) = arranged(rng, (*batch, m, k)), arranged(rng, (k, n))
    assert_near(np.asarray(a_there @ b_there), a.astype(np.float64) @ b)


def test_a_row_of_a_product_alone_has_the_bits_it_has_among_others(device: str):
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((150, 300), (300, 130)))
    together = run("matmul", a, b)
    for first, last in ((0, 1), (3, 8), (20, 150)):
        alone = run("matmul", a[first:last], b)
        np.testing.assert_array_equal(together[first:last].view(np.uint32), alone.view(np.uint32))


def test_whole_numbers_wrap_and_are_divided_downwards(device: str):
    edges = np.array([-(1 << 31), -7, -1, 0, 1, 2, 7, (1 << 31) - 1], np.int32)
    a, b = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    for op in ("add", "multiply", "floor_divide", "remainder", "bitwise_right_shift"):
        np.testing.assert_array_equal(run(op, a, b), op_spec(op).reference(a, b))
    with pytest.raises(InvalidArgumentError, match="out of range"):
        run("pow", a, b)
