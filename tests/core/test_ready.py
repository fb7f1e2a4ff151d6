"""Small eager calls: what is ready after the first call is the same as what dispatch does, and as honest."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import SPACE, SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi.errors import FallbackError, InvalidArgumentError
from perfxapi.ready import Known

BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
UNARY = ("exp", "tanh")
floats = st.floats(-100, 100, width=32)


def cpu(values: Any) -> px.Array:
    return px.asarray(np.asarray(values, np.float32), device="cpu")


def counts() -> dict[tuple[str, str], int]:
    return {(row.op, row.ran_on): row.count for row in px.explain().rows}


@pytest.mark.parametrize("name", BINARY)
@given(st.lists(st.tuples(floats, floats), max_size=40))
def test_two_operands(name: str, pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array([pair[i] for pair in pairs], np.float32) for i in range(2))
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(first, second)
    for _ in range(3):
        found = np.asarray(getattr(px, name)(cpu(first), cpu(second)))
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("name", UNARY)
def test_one_operand_gives_the_bits_of_dispatch(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 37)).astype(np.float32)
    by_dispatch = np.asarray(px.apply(name, cpu(x)))
    for _ in range(3):
        assert np.array_equal(np.asarray(getattr(px, name)(cpu(x))), by_dispatch)
    assert np.allclose(by_dispatch, getattr(np, name)(x.astype(np.float64)), rtol=1e-6)


SHAPES = [((4,), (4,)), ((3, 5), (5, 2)), ((7, 40, 30), (7, 30, 50)), ((1, 300), (300, 200)), ((9, 8), (8,))]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_products_give_the_bits_of_dispatch(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    a, b = cpu(rng.standard_normal(left)), cpu(rng.standard_normal(right))
    by_dispatch = np.asarray(px.apply("matmul", a, b))
    for _ in range(3):
        assert np.array_equal(np.asarray(a @ b), by_dispatch)
    assert counts() == {("matmul", "cpu:0"): 4}


def test_products_of_many_threads_each_have_their_scratch_memory() -> None:
    rng = np.random.default_rng(2)
    pairs = [(cpu(rng.standard_normal((20, size))), cpu(rng.standard_normal((size, 24)))) for size in (30, 400) * 4]
    expected = [np.asarray(a @ b) for a, b in pairs]

    def agrees(index: int) -> bool:
        return all(np.array_equal(np.asarray(pairs[index][0] @ pairs[index][1]), expected[index]) for _ in range(100))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(agrees, range(8)))


def test_every_call_is_counted_where_it_ran() -> None:
    a, b = cpu(np.ones(16)), cpu(np.ones(16))
    for _ in range(5):
        a = a + b
        px.exp(b)
    assert np.asarray(a).tolist() == [6] * 16
    assert counts() == {("add", "cpu:0"): 5, ("exp", "cpu:0"): 5}
    px.reset_explain()
    px.add(a, b)
    assert counts() == {("add", "cpu:0"): 1}


def test_results_look_like_arrays_before_they_are_read() -> None:
    a = cpu(np.ones((2, 3)))
    for _ in range(3):
        total = px.add(a, a)
    assert (total.shape, total.ndim, total.size, total.dtype, str(total.device)) == ((2, 3), 2, 6, px.float32, "cpu:0")
    assert np.asarray(total[1]).tolist() == [2, 2, 2]
    assert total.view is total.view
    assert total.view.buffer.valid_spaces == {"host"}
    assert np.asarray(total.reshape(3, 2) + 1).tolist() == [[3, 3]] * 3


def test_parts_of_arrays() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    array = cpu(values)
    for _ in range(3):
        for row in range(3):
            assert np.array_equal(np.asarray(array[row] + array[row + 1]), values[row] + values[row + 1])
        assert np.array_equal(np.asarray(array[1:3] * array[2:]), values[1:3] * values[2:])
        with px.use_device(fallback="allow"):
            assert np.array_equal(np.asarray(array[:, 1] - array[::-1, 2]), values[:, 1] - values[::-1, 2])


def test_kept_results_keep_their_values() -> None:
    one = cpu(np.ones(5))
    total, kept = cpu(np.zeros(5)), []
    for _ in range(200):
        total = total + one
        kept.append(total)
    read = [np.asarray(array) for array in kept]
    del kept, total
    for _ in range(200):
        one + one
    assert [part.tolist() for part in read] == [[n] * 5 for n in range(1, 201)]


def test_numbers() -> None:
    x = np.array([1, -2, 3], np.float32)
    for _ in range(3):
        assert np.asarray(cpu(x) * 2.5).tolist() == [2.5, -5, 7.5]
        assert np.asarray(3 - cpu(x)).tolist() == [2, 5, 0]
        assert np.asarray(px.divide(1, cpu(x))).tolist() == (1 / x).tolist()
        assert np.asarray(px.maximum(cpu(x), 1)).tolist() == [1, 1, 3]
        assert math.copysign(1, float((cpu(x) * -0.0)[0])) == -1
        assert math.copysign(1, float((cpu(x) * 0.0)[0])) == 1
        assert np.isnan(np.asarray(cpu(x) + math.nan)).all()
    assert set(counts()) == {(op, "cpu:0") for op in ("multiply", "subtract", "divide", "maximum", "add")}


def test_numbers_that_do_not_fit_are_refused_each_time() -> None:
    whole = px.asarray(np.array([1, 2], np.int32), device="numpy")
    for _ in range(3):
        assert np.asarray(whole * 2).tolist() == [2, 4]
        with pytest.raises(InvalidArgumentError, match=r"2\.0 does not fit an array of int32"):
            whole * 2.0
        with pytest.raises(InvalidArgumentError, match="sizes 2 and 3 do not broadcast"):
            whole + np.zeros(3, np.int32)
        with pytest.raises(InvalidArgumentError, match="asarray"):
            whole + "text"


def test_operands_of_other_kinds() -> None:
    for _ in range(2):
        assert np.asarray(px.add([1.0, 2.0], np.array([3.0, 4.0]))).tolist() == [4, 6]
        assert np.asarray(px.exp([0.0])).tolist() == [1]
        assert np.asarray(px.add(1, 2)).tolist() == 3
    with pytest.raises(InvalidArgumentError, match="exp: int32 is not of the kinds float"):
        px.exp(px.asarray(np.zeros(2, np.int32)))


def test_settings_and_policy_are_heeded_after_a_call_is_ready(set_setting: Callable[[str, str], None]) -> None:
    a = cpu(np.ones(16))
    for _ in range(3):
        a + a
    set_setting("DISABLE_KERNELS", "cpu:add")
    with px.use_device(fallback="allow"):
        assert np.asarray(a + a).tolist() == [2] * 16
    assert counts() == {("add", "cpu:0"): 3, ("add", "numpy:0"): 1}
    with px.use_device(fallback="error"), pytest.raises(FallbackError, match="disabled by PERFXAPI_DISABLE_KERNELS"):
        a + a


def test_a_lost_device_takes_no_more_calls() -> None:
    a = cpu(np.ones(16))
    for _ in range(3):
        total = a + a
    REGISTRY.mark_lost(a.device, "pulled out")
    with px.use_device(fallback="allow"):
        again = total + a
    assert np.asarray(again).tolist() == [3] * 16
    assert str(again.device) == "numpy:0"
    REGISTRY.restore(a.device)
    assert str((a + a).device) == "cpu:0"


def test_a_kernel_that_fails_leaves_the_call_to_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    a = cpu(np.ones(11))
    for _ in range(2):
        px.tanh(a)
    (known,) = (cell.cell_contents for cell in px.tanh.__closure__ or () if isinstance(cell.cell_contents, Known))
    monkeypatch.setattr(known.quick[a._layout], "launch", lambda pointer: None)
    assert np.allclose(np.asarray(px.tanh(a)), np.tanh(1.0))
    assert counts() == {("tanh", "cpu:0"): 3}


def test_operands_are_read_where_they_are_valid(sim: SimulatedBackend) -> None:
    a = cpu(np.ones(4))
    for _ in range(3):
        total = a + a
    there = px.asarray(total, device="sim")
    none, starts, ones = np.zeros(0, np.int32), np.zeros(2, np.int32), np.ones(1, np.float32)
    bias = np.zeros(1, np.int32), np.full(1, 2, np.int32), np.full(1, 9, np.float32)
    px.nn.adjust_logits(there.reshape(1, 4), none, starts, none, ones, ones, ones, *bias)
    assert total.view.buffer.valid_spaces == {SPACE}
    assert np.asarray(total + a).tolist() == [3, 3, 12, 3], "what the other device wrote is fetched"
    for _ in range(3):
        assert str((there + there).device) == "sim:0"
        with pytest.raises(InvalidArgumentError, match=r"add: operands live on different devices"):
            there + a


def test_memory_that_is_replaced() -> None:
    original = np.zeros(4, np.float32)
    original.flags.writeable = False
    x, none, ones = cpu(original), px.asarray(np.zeros(0, np.int32)), cpu(np.ones(1))
    for _ in range(3):
        x + x
    bias = [px.asarray(v) for v in (np.zeros(1, np.int32), np.full(1, 2, np.int32), np.full(1, 9, np.float32))]
    px.nn.adjust_logits(x.reshape(1, 4), none, px.asarray(np.zeros(2, np.int32)), none, ones, ones, ones, *bias)
    assert np.asarray(x + x).tolist() == [0, 0, 18, 0]
    assert not original.any()


def test_tracing_records_what_was_ready_before() -> None:
    constant = cpu(np.full(3, 2))
    for _ in range(3):
        constant * 3.0 + constant

    def model(x: px.Array) -> px.Array:
        return px.exp(x * 3.0 + constant)

    graph = px.graph.trace(model, {"x": px.TensorSpec((px.Dim("n"), 3), px.float32)}, device="cpu")
    assert [node.spec.name for node in graph.nodes] == ["multiply", "add", "exp"]
    with px.use_device(fallback="allow"):
        run = px.graph.compile(graph, device="cpu", bounds={"n": 4})
        found = np.asarray(run(x=np.ones((2, 3), np.float32))["output"])
    assert np.allclose(found, np.exp(5))
    assert np.asarray(constant * 3.0).tolist() == [6, 6, 6]


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_any_size(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    for _ in range(3):
        assert np.array_equal(np.asarray(cpu(x) + cpu(x)), x + x)
    assert counts() == {("add", "cpu:0"): 3}


def test_many_threads() -> None:
    operands = [cpu(np.full(16, value)) for value in range(8)]

    def add_up(array: px.Array) -> list[float]:
        total = array
        for _ in range(300):
            total = total + array
        return np.asarray(total).tolist()  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(add_up, operands)) == [[301.0 * value] * 16 for value in range(8)]


def test_functions_say_what_they_do() -> None:
    assert px.add.__name__ == "add"
    assert "array API standard" in str(px.exp.__doc__)
    with pytest.raises(TypeError):
        px.add(x1=1, x2=2)  # type: ignore[call-arg]


def test_calls_with_attributes_are_ready_by_their_attributes() -> None:
    """The same op with other axes is another call; what is wrong stays wrong; each call is counted."""
    x = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    array = px.asarray(x, device="cpu")
    px.reset_explain()
    for _ in range(3):
        for axis in (0, 1, None):
            np.testing.assert_allclose(np.asarray(px.sum(array, axis=axis)), x.sum(axis), rtol=1e-5)
        np.testing.assert_array_equal(np.asarray(px.argsort(array, axis=0)), np.argsort(x, axis=0, kind="stable"))
        np.testing.assert_allclose(np.asarray(px.max(array[1:, ::2], axis=1)), x[1:, ::2].max(1))
        with pytest.raises(InvalidArgumentError):
            px.take(array, px.asarray(np.array([9]), device="cpu"), axis=0)
        np.testing.assert_array_equal(
            np.asarray(px.take(array, px.asarray(np.array([2]), device="cpu"), axis=0)), x[[2]]
        )
    counts = {row.op: row.count for row in px.explain().rows if not row.reason}
    assert {op: counts[op] for op in ("sum", "argsort", "max", "take")} == {"sum": 9, "argsort": 3, "max": 3, "take": 3}
