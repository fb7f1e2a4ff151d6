"""Plans on CUDA as captured graphs: when they are captured and launched. The stream is a stand-in that records calls
and makes them again; real graphs are not tested here.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mock_cupy import Graph, StatusError, Stream, install, mocked_device

import perfxapi as px
from perfxapi.array import apply
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import op_spec

N = px.Dim("n")
SPECS = {"x": px.TensorSpec((N, 4), px.float32), "rows": px.TensorSpec((N,), px.int32)}
ROWS = np.array([3, 0, 1, 2], np.int32)


@pytest.fixture
def stream(cupy: ModuleType) -> Iterator[Any]:
    """The stream of the device that plans are made for."""
    with mocked_device() as (_, driver):
        yield driver.stream


def model(x: px.Array, rows: px.Array) -> px.Array:
    """Five ops that are not one."""
    summed = apply(op_spec("softmax"), apply(op_spec("softmax"), x))
    return apply(op_spec("rms_norm"), apply(op_spec("take_rows"), apply(op_spec("softmax"), summed), rows), WEIGHT)


WEIGHT = px.constant(np.ones(4, np.float32))


def plan_of() -> px.graph.Executable:
    return px.graph.compile(px.graph.trace(model, SPECS), device="mocked", bounds={"n": 4})


def result(plan: px.graph.Executable, x: Any, rows: Any) -> Any:
    return np.array(next(iter(plan(x=x, rows=rows).values())))


def expected(x: Any, rows: Any) -> Any:
    wide = x.astype(np.float64)
    for _ in range(3):
        wide = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    wide = wide[rows]
    return wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)


def assert_right(plan: px.graph.Executable, seed: int, count: int) -> None:
    x = np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)
    rows = ROWS[count > ROWS]
    np.testing.assert_allclose(result(plan, x, rows), expected(x, rows), rtol=1e-5)


def test_runs_at_the_same_sizes_are_one_launch_from_the_second_on(stream: Stream) -> None:
    plan = plan_of()
    assert_right(plan, 0, 4)
    assert stream.graphs == []
    assert "kernel by kernel" in plan.launching()[0].how
    for seed in (1, 2, 3):
        assert_right(plan, seed, 4)
    assert [graph.num_launches for graph in stream.graphs] == [3]
    (launching,) = plan.launching()
    assert (launching.num_nodes, launching.device) == (5, "mocked:0")
    assert launching.how == "as one recording; what is repeated is captured as a graph"
    assert_right(plan, 4, 3)
    assert_right(plan, 5, 4)
    assert_right(plan, 6, 3)
    assert [graph.num_launches for graph in stream.graphs] == [4, 1]


def test_operands_are_checked_in_a_graph_too(stream: Stream) -> None:
    plan = plan_of()
    for seed in (0, 1):
        assert_right(plan, seed, 4)
    with pytest.raises(InvalidArgumentError, match="take_rows: an operand holds a value that is out of range"):
        plan(x=np.zeros((4, 4), np.float32), rows=np.array([0, 1, 2, 4], np.int32))
    assert_right(plan, 2, 4)
    assert [graph.num_launches for graph in stream.graphs] == [3]


def test_a_profile_times_kernel_by_kernel(stream: Stream) -> None:
    plan = plan_of()
    for seed in (0, 1):
        assert_right(plan, seed, 4)
    plan.profile(True)
    assert_right(plan, 2, 4)
    assert all(nanoseconds > 0 for _, nanoseconds in plan.profile(False))
    assert [graph.num_launches for graph in stream.graphs] == [1]


@pytest.mark.parametrize("method", ["begin_capture", "end_capture"])
def test_a_runtime_that_captures_nothing_is_asked_once(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    attempts = []

    def refuse(stream: Stream) -> Graph:
        attempts.append(stream)
        stream.captured = None
        raise StatusError(801)

    monkeypatch.setattr(Stream, method, refuse)
    plans = [plan_of(), plan_of()]
    for seed in range(4):
        assert_right(plans[seed % 2], seed, 4)
    assert len(attempts) == 1
    assert plans[0].launching()[0].how == "kernel by kernel, bound ahead; no graph could be captured (status 801)"


def test_on_rocm_nothing_is_captured(monkeypatch: pytest.MonkeyPatch, own_kernel_folder: object) -> None:
    install(monkeypatch, is_hip=True)
    with mocked_device() as (_, driver):
        plan = plan_of()
        for seed in range(3):
            assert_right(plan, seed, 4)
        assert driver.stream.graphs == []
        assert plan.launching()[0].how == "kernel by kernel, bound ahead; CuPy captures no graphs on ROCm"
