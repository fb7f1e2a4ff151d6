"""Plans over several memory spaces: runs, arenas, copies, counted bytes, losses. Devices are simulated."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import SimulatedBackend, registered

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi.errors import DeviceLostError, FallbackWarning, KernelError
from perfxapi.graph.runs import SMALL

N = px.Dim("n")
WIDTH = 8
ROW = WIDTH * 8
"""Bytes of a row. Values are float64: steps of float32 would become chains."""


def spec(*shape: int | px.Dim, dtype: px.DType = px.float64) -> px.TensorSpec:
    return px.TensorSpec(shape, dtype)


def rows(count: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, WIDTH))


def compiled(function: Any, device: str, inputs: dict[str, px.TensorSpec], n: int = 16) -> px.graph.Executable:
    with px.use_device(fallback="allow"):
        return px.graph.compile(px.graph.trace(function, inputs, device=device), device=device, bounds={"n": n})


def devices_of(plan: px.graph.Executable) -> list[str]:
    return [place.device for place in plan.explain()]


def bytes_by_op() -> dict[str, int]:
    return {row.op: row.bytes_moved for row in px.explain().rows if row.bytes_moved}


# ---- nodes with devices of their own


def three_places(x: px.Array) -> dict[str, px.Array]:
    """exp on the plan's device, tanh on sim:0, then both used on sim:1 and on the host."""
    a = px.exp(x)
    with px.use_device("sim:0"):
        b = px.tanh(a)
    with px.use_device("sim:1"):
        c = px.maximum(a, b)
        d = px.sqrt(c)
    with px.use_device("cpu"):
        e = px.minimum(d, b)
    return {"d": d, "e": e}


def expected(x: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    a = np.exp(x)
    d = np.sqrt(np.maximum(a, np.tanh(a)))
    return {"d": d, "e": np.minimum(d, np.tanh(a))}


def test_each_node_runs_where_the_traced_code_says(sims: SimulatedBackend) -> None:
    plan = compiled(three_places, "cpu", {"x": spec(N, WIDTH)})
    assert devices_of(plan) == ["cpu:0", "sim:0", "sim:1", "sim:1", "cpu:0"]
    assert not any(place.reason for place in plan.explain())
    for count in (5, 1, 16, 0):
        got = plan(x=rows(count))
        for name, values in expected(rows(count)).items():
            np.testing.assert_allclose(np.asarray(got[name]), values, rtol=1e-6)
    assert [len(segment.calls) for segment in sims.segments] == [1, 2]
    assert [segment.num_runs for segment in sims.segments] == [4, 4]


def test_a_value_is_copied_once_and_its_bytes_are_counted(sims: SimulatedBackend) -> None:
    bound = compiled(three_places, "cpu", {"x": spec(N, WIDTH)}).bind(n=5)
    bound.inputs["x"][...] = rows(5)
    px.reset_explain()
    bound.run()
    value = 5 * ROW
    first, second = sims.memories
    # a goes to sim:0; b comes back for sim:1, and with a goes there; d comes back. The host has b already
    assert (first.bytes_written, first.bytes_read) == (value, value)
    assert (second.bytes_written, second.bytes_read) == (2 * value, value)
    assert bytes_by_op() == {"tanh": value, "maximum": 3 * value, "minimum": value}
    for name, values in expected(rows(5)).items():
        np.testing.assert_allclose(bound.outputs[name], values, rtol=1e-6)


def test_an_arena_holds_what_its_space_needs(sims: SimulatedBackend) -> None:
    sims.workspace_bytes = 1000
    plan = compiled(three_places, "cpu", {"x": spec(N, WIDTH)})
    value, scratch = 16 * ROW, 1024
    # x, a, b, d and e on the host, not c; a, b and scratch memory on sim:0; a, b, c, d on sim:1, d in the place of b
    assert plan.arena_bytes["sim"] == 2 * value + scratch
    assert plan.arena_bytes["sim1"] == 3 * value + scratch
    assert plan.arena_bytes["host"] <= 5 * value
    before = [memory.statistics.statistics.num_allocations for memory in sims.memories]
    plan(x=rows(3))
    assert [memory.statistics.statistics.num_allocations for memory in sims.memories] == before == [1, 1]
    sims.segments.clear()
    del plan
    gc.collect()
    assert [memory.statistics.statistics.bytes_in_use for memory in sims.memories] == [0, 0]


def test_ops_for_different_devices_are_not_fused(sims: SimulatedBackend) -> None:
    weights = [px.constant(np.eye(WIDTH, dtype=np.float32)) for _ in range(2)]

    def function(x: px.Array) -> dict[str, px.Array]:
        first = px.nn.linear(x, weights[0])
        with px.use_device("sim:1"):
            return {"first": first, "second": px.nn.linear(x, weights[1])}

    plan = compiled(function, "sim:0", {"x": spec(N, WIDTH, dtype=px.float32)})
    assert [node.spec.name for node in plan.graph.nodes] == ["linear", "linear"]
    assert devices_of(plan) == ["sim:0", "sim:1"]
    assert "on sim:1" in plan.graph.render()


def test_a_context_around_the_trace_is_no_device_of_its_nodes(sims: SimulatedBackend) -> None:
    with px.use_device("sim:1"):
        graph = px.graph.trace(lambda x: px.exp(x), {"x": spec(N, WIDTH)})
    assert devices_of(px.graph.compile(graph, device="sim:0", bounds={"n": 1})) == ["sim:0"]


OPS = [px.add, px.multiply, px.maximum, px.subtract]
PLACES = ["cpu", "numpy", "sim:0", "sim:1", ""]
steps = st.lists(
    st.tuples(st.sampled_from(OPS), st.integers(0, 30), st.integers(0, 30), st.sampled_from(PLACES)),
    min_size=1,
    max_size=14,
)


@given(steps, st.sampled_from(PLACES[:-1]), st.integers(0, 5))
@settings(max_examples=60)
def test_any_mixture_of_devices_computes_the_same(made: list[Any], device: str, count: int) -> None:
    with registered(2) as backend:
        backend.compiles = bool(count % 2)

        def function(x: px.Array, y: px.Array) -> dict[str, px.Array]:
            values = [x, y]
            for op, first, second, place in made:
                with px.use_device(place or None):
                    values.append(op(values[first % len(values)], values[second % len(values)]))
            return {"last": values[-1], "half": values[len(values) // 2 + 1]}

        plan = compiled(function, device, {"x": spec(N, WIDTH), "y": spec(N, WIDTH)}, n=5)
        x, y = rows(count, 1), rows(count, 2)
        want = {name: np.asarray(array) for name, array in function(px.asarray(x), px.asarray(y)).items()}
        bound = plan.bind(n=count)
        for _ in range(2):
            bound.inputs["x"][...], bound.inputs["y"][...] = x, y
            bound.run()
            for name, values in want.items():
                np.testing.assert_array_equal(bound.outputs[name], values)
            got = plan(x=x, y=y)
            for name, values in want.items():
                np.testing.assert_array_equal(np.asarray(got[name]), values)


# ---- inputs and results


def many(**operands: px.Array) -> dict[str, px.Array]:
    names = list(operands)
    return {f"{a} {b}": px.add(operands[a], operands[b]) for a, b in itertools.pairwise(names)}


def test_small_inputs_arrive_by_one_copy_and_small_results_leave_by_one(sims: SimulatedBackend) -> None:
    names = [f"operand {index}" for index in range(9)]
    plan = compiled(many, "sim:0", {name: spec(N, WIDTH) for name in names})
    bound = plan.bind(n=3)
    for index, name in enumerate(names):
        bound.inputs[name][...] = rows(3, index)
    bound.run()
    assert (len(sims.memory.writes), len(sims.memory.reads)) == (1, 1)
    for index, values in enumerate(bound.outputs.values()):
        np.testing.assert_array_equal(values, rows(3, index) + rows(3, index + 1))
    # what counts are the values, not the room between them
    assert bytes_by_op() == {"add": (9 + 8) * 3 * ROW}


def test_a_large_input_is_copied_as_far_as_it_is_used(sims: SimulatedBackend) -> None:
    count = SMALL // ROW + 1
    plan = compiled(lambda x1, x2: px.add(x1, x2), "sim:0", {"x1": spec(N, WIDTH), "x2": spec(N, WIDTH)}, n=count)
    bound = plan.bind(n=2)
    bound.inputs["x1"][...], bound.inputs["x2"][...] = rows(2, 1), rows(2, 2)
    bound.run()
    assert [length for _, length in sims.memory.writes] == [2 * ROW] * 2
    assert [length for _, length in sims.memory.reads] == [2 * ROW]
    np.testing.assert_array_equal(bound.outputs["output"], rows(2, 1) + rows(2, 2))


@pytest.mark.parametrize("device", ["sim:0", "cpu"])
def test_an_input_that_is_written_in_place_holds_it_afterwards(device: str, sims: SimulatedBackend) -> None:
    none, ones = px.asarray(np.zeros(0, np.int32)), px.asarray(np.ones(1, np.float32))
    starts, row, column = (px.asarray(np.array(v, np.int32)) for v in ([0, 0], [0], [1]))
    five = px.asarray(np.float32([5]))

    def adjust(logits: px.Array) -> None:
        px.nn.adjust_logits(logits, none, starts, none, ones, ones, ones, row, column, five)

    def function(logits: px.Array) -> px.Array:
        adjust(logits)
        with px.use_device("sim:1"):
            doubled = px.add(logits, logits)
        adjust(logits)
        return px.maximum(doubled, logits)

    bound = compiled(function, device, {"logits": spec(1, 4, dtype=px.float32)}).bind()
    for _ in range(2):
        bound.inputs["logits"][...] = [[1, 2, 3, 4]]
        bound.run()
        assert bound.inputs["logits"].tolist() == [[1, 12, 3, 4]]
        assert bound.outputs["output"].tolist() == [[2, 14, 6, 8]]


def test_results_that_nobody_reads_stay_on_the_device(sims: SimulatedBackend) -> None:
    got = compiled(three_places, "sim:0", {"x": spec(N, WIDTH)})(x=rows(2))
    assert sims.memories[1].bytes_read == 2 * ROW  # e is made of it on the host
    np.asarray(got["e"])
    assert sims.memories[1].bytes_read == 2 * ROW


# ---- segments that stop


def test_a_segment_that_stops_goes_on_after_the_node(sims: SimulatedBackend) -> None:
    def function(x: px.Array) -> px.Array:
        return px.sqrt(px.tanh(px.exp(px.sin(x))))

    plan = compiled(function, "sim:0", {"x": spec(N, WIDTH)})
    (segment,) = sims.segments
    sims.kernel("tanh").raises = KernelError("broke")
    bound = plan.bind(n=4)
    bound.inputs["x"][...] = rows(4)
    px.reset_explain()
    with px.use_device(fallback="allow"):
        bound.run()
    np.testing.assert_allclose(bound.outputs["output"], np.sqrt(np.tanh(np.exp(np.sin(rows(4))))), rtol=1e-6)
    assert segment.num_runs == 2
    counts = {(row.op, row.reason): row.count for row in px.explain().rows}
    assert counts == {("sin", ""): 1, ("exp", ""): 1, ("sqrt", ""): 1, ("tanh", "broke"): 1}
    assert bytes_by_op() == {"sin": 4 * ROW, "sqrt": 4 * ROW, "tanh": 2 * 4 * ROW}


def test_a_run_of_fallbacks_is_one_segment_of_the_host(sims: SimulatedBackend) -> None:
    del sims.table["tanh"], sims.table["exp"]
    plan = compiled(lambda x: px.sqrt(px.tanh(px.exp(px.sin(x)))), "sim:0", {"x": spec(N, WIDTH)})
    assert devices_of(plan) == ["sim:0", "cpu:0", "cpu:0", "sim:0"]
    assert [len(segment.calls) for segment in sims.segments] == [1, 1]
    assert len(plan.profile()) == 4
    got = plan(x=rows(3))
    np.testing.assert_allclose(np.asarray(got["output"]), np.sqrt(np.tanh(np.exp(np.sin(rows(3))))), rtol=1e-6)
    # there, by the first of them; back, by the second
    assert bytes_by_op() == {"sin": 3 * ROW, "exp": 3 * ROW, "tanh": 3 * ROW}


# ---- devices that are lost


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("called", [True, False])
def test_a_loss_anywhere_ends_in_a_result(sims: SimulatedBackend, lost: int, number: int, called: bool) -> None:
    plan = compiled(three_places, "sim:0", {"x": spec(N, WIDTH)})
    sims.memories[lost].lost_at = sims.memories[lost].num_events + number
    bound = plan.bind(n=3)
    with px.use_device("sim:0", fallback="warn"), pytest.warns(FallbackWarning, match=f"sim:{lost} was lost"):
        for _ in range(2):
            bound.inputs["x"][...] = rows(3)
            bound.run()
            got = {k: np.asarray(v) for k, v in plan(x=rows(3)).items()} if called else bound.outputs
            for name, values in expected(rows(3)).items():
                np.testing.assert_allclose(got[name], values, rtol=1e-6)
    assert REGISTRY.lost(sims.all_devices[lost])
    assert not REGISTRY.lost(sims.all_devices[1 - lost])


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("op", ["exp", "tanh", "sqrt"])
def test_a_loss_in_a_kernel_ends_in_a_result(sims: SimulatedBackend, op: str, compiles: bool) -> None:
    sims.compiles = compiles
    plan = compiled(lambda x: px.sqrt(px.tanh(px.exp(x))), "sim:0", {"x": spec(N, WIDTH)})
    sims.kernel(op).raises = DeviceLostError("the bus is gone")
    with px.use_device("sim:0", fallback="allow"):
        got = np.asarray(plan(x=rows(3))["output"])
    np.testing.assert_allclose(got, np.sqrt(np.tanh(np.exp(rows(3)))), rtol=1e-6)
    assert "the bus is gone" in REGISTRY.lost(sims.device)


def test_with_error_a_loss_is_raised(sims: SimulatedBackend) -> None:
    plan = compiled(lambda x: px.exp(x), "sim:0", {"x": spec(N, WIDTH)})
    sims.kernel("exp").raises = DeviceLostError("the bus is gone")
    with px.use_device("sim:0", fallback="error"), pytest.raises(DeviceLostError, match="the bus is gone"):
        plan(x=rows(3))


def test_a_graph_with_state_cannot_be_run_elsewhere(sims: SimulatedBackend) -> None:
    """State is lost with the device: whoever holds it must make it anew."""
    with px.use_device("sim:0"):
        cache = px.state((WIDTH,), px.float64)

    plan = compiled(lambda x: px.add(x, cache), "sim:0", {"x": spec(N, WIDTH)})
    sims.kernel("add").raises = DeviceLostError("the bus is gone")
    with px.use_device(fallback="allow"), pytest.raises(DeviceLostError, match="the bus is gone"):
        plan(x=rows(3))
    assert REGISTRY.lost(sims.device)
