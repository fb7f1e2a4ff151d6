"""Tracing, fusion, plans and running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import SimulatedBackend, SimulatedKernel

import perfxapi as px
from perfxapi.conformance.cases import storage_of
from perfxapi.conformance.check import reference_copy
from perfxapi.conformance.compare import compare, tolerance_of
from perfxapi.errors import (
    DeviceLostError,
    FallbackError,
    FallbackWarning,
    GraphError,
    InvalidArgumentError,
    TraceError,
)
from perfxapi.graph.fuse import fuse
from perfxapi.graph.ir import Graph
from perfxapi.ops.spec import OpSpec, all_ops

TOKENS = px.Dim("num_tokens")
HIDDEN, HEADS, HEAD_DIM = 64, 2, 32
SPECS = {"x": px.TensorSpec((TOKENS, HIDDEN), px.float32), "positions": px.TensorSpec((TOKENS,), px.int32)}
Model = Callable[..., Any]


def weight(seed: int, *shape: int) -> px.Array:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return px.constant(values / np.float32(np.sqrt(shape[-1])), name=f"weight {seed}")


def block() -> Model:
    """One transformer block without attention, of simple ops: everything in it can be fused."""
    q_weight, k_weight, gate, up = (weight(seed, HIDDEN, HIDDEN) for seed in range(4))
    down, norms = (
        weight(4, HIDDEN, HIDDEN),
        [px.constant(np.linspace(0.5, 1.5, HIDDEN, dtype=np.float32)) for _ in range(3)],
    )
    head_norm = px.constant(np.linspace(0.5, 2, HEAD_DIM, dtype=np.float32))
    frequencies = px.constant((100.0 ** -np.linspace(0, 1, HEAD_DIM // 2)).astype(np.float32))

    def model(x: px.Array, positions: px.Array) -> dict[str, px.Array]:
        table = px.nn.rope_table(positions, frequencies)
        h = px.nn.rms_norm(x, norms[0])
        q = px.nn.linear(h, q_weight).reshape(TOKENS if is_traced(x) else x.shape[0], HEADS, HEAD_DIM)
        k = px.nn.linear(h, k_weight)
        q = px.nn.rope(px.nn.rms_norm(q, head_norm), table)
        x = x + px.nn.rms_norm(q.reshape(x.shape[0], HIDDEN) * k, norms[1])
        h = px.nn.rms_norm(x, norms[1])
        x = x + px.nn.linear(
            px.nn.gated_activation(px.nn.linear(h, gate), px.nn.linear(h, up), activation="silu"), down
        )
        return {"x": x, "h": px.nn.rms_norm(x, norms[2])}

    return model


def is_traced(x: px.Array) -> bool:
    return isinstance(x.shape[0], px.Dim)


def inputs(num_tokens: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_tokens, HIDDEN)).astype(np.float32)
    return {"x": x, "positions": rng.integers(0, 500, num_tokens).astype(np.int32)}


def eagerly(model: Model, given_inputs: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with px.use_device("numpy"):
        results = model(**{name: px.asarray(value) for name, value in given_inputs.items()})
        return {name: np.array(array) for name, array in results.items()}


def ops_of(graph: Graph) -> list[str]:
    return [node.spec.name for node in graph.nodes]


# ---- tracing


def test_a_traced_function_is_nodes_and_values() -> None:
    scale = px.constant(np.float32([2, 3]), name="scale")
    graph = px.graph.trace(lambda x: px.nn.exp(x) * scale, {"x": px.TensorSpec((TOKENS, 2), px.float32)})
    assert graph.render().splitlines() == [
        "input %x: float32[num_tokens, 2]",
        "%exp_1 = exp(%x)",
        "%multiply_1 = multiply(%exp_1, scale[2])",
        "output output = %multiply_1",
    ]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: x if x.shape[0] > 2 else x + x,
        lambda x: [x for _ in range(x.shape[0])],
        lambda x: x[0],
        lambda x: x[:2],
        lambda x: len(x),
        lambda x: list(x),
        lambda x: x.reshape(-1),
        lambda x: np.asarray(x),
        lambda x: px.asarray(float(x)),
        lambda x: x if x else x + x,
        lambda x: x.reshape(x.shape[0] + 1, 1),
        lambda x: 3,
        lambda x: {"y": px.asarray([1.0])},
    ],
)
def test_using_a_symbol_as_a_number_raises(misuse: Model) -> None:
    with pytest.raises(TraceError):
        px.graph.trace(misuse, {"x": px.TensorSpec((TOKENS, 2), px.float32)})


def test_a_result_that_fits_no_memory_is_named() -> None:
    spec = {"x": px.TensorSpec((TOKENS, 1, 4, 4), px.float32)}
    graph = px.graph.trace(lambda x: px.nn.pool(x, mode="max", window=(2, 2), pads=(1 << 40,) * 4), spec)
    with pytest.raises(InvalidArgumentError, match=r"pool: .* more memory than can be addressed"):
        px.graph.compile(graph, bounds={TOKENS.name: 4})


def test_arrays_of_another_trace_are_refused() -> None:
    leaked: list[px.Array] = []
    spec = {"x": px.TensorSpec((TOKENS,), px.float32)}
    px.graph.trace(lambda x: leaked.append(x) or px.nn.exp(x), spec)
    with pytest.raises(TraceError, match="belongs to another trace"):
        px.graph.trace(lambda x: x + leaked[0], spec)


def test_captured_arrays_become_constants() -> None:
    captured = px.asarray(np.ones(2, np.float32))
    px.graph.trace(lambda x: x + captured, {"x": px.TensorSpec((TOKENS, 2), px.float32)})
    with pytest.raises(InvalidArgumentError, match="is a constant"):
        captured.view.buffer.writable()


def test_a_graph_that_reads_before_it_makes_is_refused() -> None:
    graph = px.graph.trace(lambda x: px.nn.exp(px.nn.tanh(x)), {"x": px.TensorSpec((3,), px.float32)})
    graph.nodes.reverse()
    with pytest.raises(GraphError, match="reads %tanh_1, which nothing before it makes"):
        graph.validate()


# ---- fusion


def test_every_pattern_is_found() -> None:
    fused = fuse(px.graph.trace(block(), SPECS), lambda node: True)
    assert ops_of(fused) == [
        "rope_table",
        "rms_norm",
        "multi_linear",
        "norm_rope",
        "multiply",
        "norm_add_rms_norm",
        "gated_linear",
        "linear",
        "add_rms_norm",
    ]


def test_nothing_is_fused_that_the_target_lacks() -> None:
    graph = px.graph.trace(block(), SPECS)
    assert ops_of(fuse(graph, lambda node: False)) == ops_of(graph)


FUSIBLE = ("norm_rope", "gated_linear", "add_rms_norm", "norm_add_rms_norm", "multi_linear")


@pytest.mark.parametrize("allowed", [(), *[(op,) for op in FUSIBLE], FUSIBLE])
def test_what_is_fused_does_not_change_the_result(sim: SimulatedBackend, allowed: tuple[str, ...]) -> None:
    model = block()
    for op in set(FUSIBLE) - set(allowed):
        del sim.table[op]
    plan = px.graph.compile(px.graph.trace(model, SPECS), device="sim", bounds={"num_tokens": 8})
    expected = eagerly(model, inputs(5))
    got = plan(**inputs(5))
    for name, values in expected.items():
        assert np.abs(np.asarray(got[name]) - values).max() <= 2e-6 * np.abs(values).max()
    assert set(allowed) <= set(ops_of(plan.graph))


@pytest.mark.parametrize("spec", [spec for spec in all_ops() if spec.decompose], ids=lambda spec: spec.name)
def test_a_fused_op_is_its_decomposition(spec: OpSpec) -> None:
    """The decomposition, run by simpler ops, gives what the fused op's own reference gives."""
    for sample in list(spec.samples())[::3]:
        attributes = spec.check_attributes(sample.attributes)
        want = spec.reference(*map(reference_copy, sample.inputs), **attributes)
        arrays = [
            px.constant(stored, dtype, shape, device="numpy") for dtype, stored, shape in map(storage_of, sample.inputs)
        ]
        assert spec.decompose is not None
        got = spec.decompose(px.nn, *arrays, **attributes)
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for array, values in pairs:
            assert compare(np.asarray(array), values, tolerance_of(spec.tolerance, array.dtype)) is None


def test_values_written_in_place_are_not_moved_across_their_writer() -> None:
    none, ones = px.asarray(np.zeros(0, np.int32)), px.asarray(np.ones(1, np.float32))
    starts, row, column = (px.asarray(np.array(v, np.int32)) for v in ([0, 0], [0], [1]))
    five = px.asarray(np.float32([5]))
    first, second = weight(0, 3, 4), weight(1, 3, 4)

    def model(x: px.Array) -> dict[str, px.Array]:
        logits = px.nn.exp(x)
        before = px.nn.linear(logits, first)
        px.nn.adjust_logits(logits, none, starts, none, ones, ones, ones, row, column, five)
        return {"before": before, "after": px.nn.linear(logits, second)}

    graph = px.graph.trace(model, {"x": px.TensorSpec((1, 4), px.float32)})
    assert "multi_linear" not in ops_of(fuse(graph, lambda node: True))
    plan = px.graph.compile(graph, device="numpy", bounds={})
    x = np.float32([[0, 0, 1, -1]])
    got = {name: np.asarray(array) for name, array in plan(x=x).items()}
    changed = np.exp(x) + np.float32([[0, 5, 0, 0]])
    assert np.allclose(got["before"], np.exp(x) @ np.asarray(first).T, atol=1e-6)
    assert np.allclose(got["after"], changed @ np.asarray(second).T, atol=1e-6)


# ---- plans


@pytest.fixture(scope="module")
def plans() -> dict[str, px.graph.Executable]:
    with px.use_device(fallback="allow"):
        graph = px.graph.trace(block(), SPECS)
        return {str(d): px.graph.compile(graph, device=d, bounds={"num_tokens": 40}) for d in px.all_devices()}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=4))
@settings(max_examples=15)
def test_one_plan_serves_every_size(plans: dict[str, px.graph.Executable], runs: list[tuple[int, int]]) -> None:
    model = block()
    for num_tokens, seed in runs:
        expected = eagerly(model, inputs(num_tokens, seed))
        for name, plan in plans.items():
            got = plan(**inputs(num_tokens, seed))
            for output, values in expected.items():
                found = np.asarray(got[output])
                assert found.shape == values.shape
                if values.size:
                    assert np.abs(found - values).max() <= 1e-5 * np.abs(values).max(), name


def test_a_plan_needs_a_bound_for_every_symbol() -> None:
    graph = px.graph.trace(block(), SPECS)
    with pytest.raises(InvalidArgumentError, match="no bound is given for num_tokens"):
        px.graph.compile(graph, device="numpy", bounds={})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"x": np.zeros((41, HIDDEN), np.float32)}, "num_tokens is 41; it must be at most 40"),
        ({"x": np.zeros((2, HIDDEN), np.float32)}, "num_tokens is"),
        ({"x": np.zeros((3, HIDDEN + 1), np.float32)}, r"input 'x' must be float32 of shape \(num_tokens, 64\)"),
        ({"x": np.zeros((3, HIDDEN))}, "got float64"),
        ({"x": np.float32(1)}, r"got float32 of \(\)"),
        ({"positions": np.zeros(3, np.int64)}, "input 'positions' must be int32"),
        ({"extra": np.zeros(3)}, "missing or unknown: extra"),
    ],
)
def test_inputs_that_do_not_fit(plans: dict[str, px.graph.Executable], change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        plans["numpy:0"](**{**inputs(3), **change})


def test_a_missing_input_is_named(plans: dict[str, px.graph.Executable]) -> None:
    with pytest.raises(InvalidArgumentError, match="missing or unknown: positions"):
        plans["numpy:0"](x=inputs(3)["x"])


def test_a_symbol_may_have_a_factor() -> None:
    spec = {"x": px.TensorSpec((2 * TOKENS,), px.float32)}
    plan = px.graph.compile(px.graph.trace(px.nn.exp, spec), device="numpy", bounds={"num_tokens": 4})
    assert np.asarray(plan(x=np.zeros(6, np.float32))["output"]).tolist() == [1] * 6
    with pytest.raises(InvalidArgumentError, match="must be float32 of shape"):
        plan(x=np.zeros(5, np.float32))


def test_only_the_first_dimension_of_an_input_is_symbolic() -> None:
    graph = px.graph.trace(px.nn.exp, {"x": px.TensorSpec((3, TOKENS), px.float32)})
    with pytest.raises(InvalidArgumentError, match="only the first dimension"):
        px.graph.compile(graph, device="numpy", bounds={"num_tokens": 4})


# ---- plans at given sizes


@pytest.mark.parametrize("device", ["numpy:0", "cpu:0"])
def test_a_bound_plan_reads_and_writes_in_place(plans: dict[str, px.graph.Executable], device: str) -> None:
    plan = plans[device]
    for num_tokens in (4, 1, 4):
        bound = plan.bind(num_tokens=num_tokens)
        assert bound is plan.bind(num_tokens=num_tokens)
        for seed in range(2):
            given = inputs(num_tokens, seed)
            expected = {name: np.array(array) for name, array in plan(**given).items()}
            for name, operand in bound.inputs.items():
                operand[...] = given[name]
            bound.run()
            assert {name: array.shape for name, array in bound.outputs.items()} == {
                name: array.shape for name, array in expected.items()
            }
            assert all(np.array_equal(bound.outputs[name], values) for name, values in expected.items())


def test_each_run_of_a_bound_plan_is_counted(plans: dict[str, px.graph.Executable]) -> None:
    plan = plans["cpu:0"]
    plan.bind(num_tokens=2).run()
    px.reset_explain()
    for _ in range(3):
        plan.bind(num_tokens=2).run()
    rows = {row.op: row.count for row in px.explain().rows}
    assert sum(rows.values()) == 3 * len(plan.graph.nodes)
    assert {op: 3 * ops_of(plan.graph).count(op) for op in rows} == rows


def test_what_a_plan_that_is_gone_ran_still_counts() -> None:
    graph = px.graph.trace(px.nn.exp, {"x": px.TensorSpec((3,), px.float32)})
    plan = px.graph.compile(graph, device="numpy", bounds={})
    plan.bind().run()
    del plan
    assert [(row.op, row.count) for row in px.explain().rows] == [("exp", 1)]


@pytest.mark.parametrize("sizes", [{"num_tokens": 41}, {"num_tokens": -1}, {"tokens": 1}])
def test_sizes_that_a_plan_has_no_room_for(plans: dict[str, px.graph.Executable], sizes: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError, match="does not lie within the bounds"):
        plans["cpu:0"].bind(**sizes)


def test_a_bound_plan_on_a_device_with_its_own_memory(sim: SimulatedBackend) -> None:
    model = block()
    with px.use_device("sim", fallback="allow"):
        plan = px.graph.compile(px.graph.trace(model, SPECS), bounds={"num_tokens": 32})
        for num_tokens in (4, 1, 7):
            bound, given = plan.bind(num_tokens=num_tokens), inputs(num_tokens)
            for name, operand in bound.inputs.items():
                operand[...] = given[name]
            bound.run()
            for name, values in eagerly(model, given).items():
                assert np.abs(bound.outputs[name] - values).max() <= 1e-5 * np.abs(values).max()


# ---- plans on a device with a memory of its own


def test_intermediate_values_stay_on_the_device(sim: SimulatedBackend) -> None:
    plan = px.graph.compile(px.graph.trace(block(), SPECS), device="sim", bounds={"num_tokens": 32})
    plan(**inputs(4))
    sim.memory.forget()
    outputs = plan(**inputs(4))
    # both inputs at once: positions in room for 32 of them, then x
    assert [length for _, length in sim.memory.writes] == [32 * 4 + 4 * HIDDEN * 4]
    assert sim.memory.reads == []
    np.asarray(outputs["h"])
    assert [length for _, length in sim.memory.reads] == [4 * HIDDEN * 4]


def test_an_op_that_the_device_lacks_is_placed_elsewhere(sim: SimulatedBackend) -> None:
    del sim.table["gated_linear"], sim.table["gated_activation"]
    model = block()
    with px.use_device("sim", fallback="allow"):
        plan = px.graph.compile(px.graph.trace(model, SPECS), bounds={"num_tokens": 32})
        for run, num_tokens in enumerate((4, 1, 7)):
            px.reset_explain()
            got = plan(**inputs(num_tokens, run))
            for name, values in eagerly(model, inputs(num_tokens, run)).items():
                assert np.abs(np.asarray(got[name]) - values).max() <= 1e-5 * np.abs(values).max()
            (row,) = px.explain().fallbacks
            assert (row.op, row.count, row.reason) == ("gated_activation", 1, "sim has no kernel for gated_activation")
            # gate and up there, the product back; as many bytes as this run has tokens, not as the plan has room for
            assert row.bytes_moved == 3 * num_tokens * HIDDEN * 4
    elsewhere = [place for place in plan.explain() if place.reason]
    assert len(elsewhere) == 1
    assert "gated_activation" in elsewhere[0].node


def test_with_error_no_plan_is_made_that_needs_a_fallback(sim: SimulatedBackend) -> None:
    del sim.table["linear"], sim.table["multi_linear"], sim.table["gated_linear"]
    with (
        px.use_device("sim", fallback="error"),
        pytest.raises(FallbackError, match="linear: sim has no kernel for linear"),
    ):
        px.graph.compile(px.graph.trace(block(), SPECS), bounds={"num_tokens": 8})


def test_several_kernels_that_fail_in_mid_run(sim: SimulatedBackend) -> None:
    model = block()
    with px.use_device("sim", fallback="allow"):
        plan = px.graph.compile(px.graph.trace(model, SPECS), bounds={"num_tokens": 8})
        sim.kernel("multi_linear").raises = px.errors.KernelError("first failure")
        sim.kernel("gated_linear").raises = RuntimeError("second failure")
        sim.table["gated_linear"].append(SimulatedKernel(sim, "gated_linear"))
        sim.table["gated_linear"][1].raises = RuntimeError("third failure")
        got = plan(**inputs(3))
        for name, values in eagerly(model, inputs(3)).items():
            assert np.abs(np.asarray(got[name]) - values).max() <= 1e-5 * np.abs(values).max()
    reasons = {row.op: row.reason for row in px.explain().fallbacks}
    assert reasons["multi_linear"] == "first failure"
    assert reasons["gated_linear"] == "RuntimeError: second failure; RuntimeError: third failure"
    assert all(row.bytes_moved > 0 and row.count == 1 for row in px.explain().fallbacks)


def test_a_failure_in_mid_run_follows_the_policy(sim: SimulatedBackend) -> None:
    plan = px.graph.compile(px.graph.trace(block(), SPECS), device="sim", bounds={"num_tokens": 8})
    sim.kernel("gated_linear").raises = px.errors.KernelError("broke")
    with pytest.warns(FallbackWarning, match="gated_linear: broke"):
        plan(**inputs(3))
    with px.use_device(fallback="error"), pytest.raises(FallbackError, match="gated_linear: broke"):
        plan(**inputs(3))
    sim.kernel("gated_linear").raises = None
    with px.use_device(fallback="error"):
        plan(**inputs(3))


def test_a_plan_whose_device_is_lost_in_mid_run_is_made_anew(sim: SimulatedBackend) -> None:
    model = block()
    graph = px.graph.trace(model, SPECS)
    plan = px.graph.compile(graph, device="sim", bounds={"num_tokens": 8})
    for op in ("gated_linear", "add_rms_norm", "multi_linear"):
        sim.kernel(op).raises = DeviceLostError(f"lost in {op}")
    with px.use_device(fallback="error"), pytest.raises(DeviceLostError, match="sim:0 was lost"):
        plan(**inputs(3))
    with pytest.warns(FallbackWarning, match=r"sim:0 was lost .* The work runs on cpu:0"):
        got = plan(**inputs(3))
    for name, values in eagerly(model, inputs(3)).items():
        assert got[name].device == px.get_device("auto") != sim.device
        assert np.abs(np.asarray(got[name]) - values).max() <= 1e-5 * np.abs(values).max()


def chained(x: px.Array, y: px.Array) -> dict[str, px.Array]:
    hard_swish = x * px.minimum(px.maximum(x + 3.0, 0.0), 6.0) / 6.0
    kept = hard_swish * y
    return {"kept": kept, "gated": px.tanh(kept + px.nn.sigmoid(y)) - kept * 3.0}


def test_elementwise_steps_become_chains_with_the_same_bits() -> None:
    """What two chains read is made once; what has another shape is no part of one."""
    inputs = {"x": px.TensorSpec((px.Dim("n"), 70), px.float32), "y": px.TensorSpec((70,), px.float32)}
    graph = px.graph.trace(chained, inputs, device="cpu")
    plan = px.graph.compile(graph, device="cpu", bounds={"n": 9})
    assert [node.spec.name for node in plan.graph.nodes] == ["elementwise_chain", "sigmoid", "elementwise_chain"]
    rng = np.random.default_rng(0)
    y = rng.standard_normal(70).astype(np.float32)
    for rows in (9, 1, 4):
        x = (4 * rng.standard_normal((rows, 70))).astype(np.float32)
        found = plan(x=x, y=y)
        for name, value in chained(px.asarray(x, device="cpu"), px.asarray(y, device="cpu")).items():
            np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(value), err_msg=name)


def test_chains_stop_where_values_are_needed_shapes_change_or_dtypes_are_others() -> None:
    def function(x: px.Array, row: px.Array, wide: px.Array) -> dict[str, px.Array]:
        twice = row + row
        return {"sum": x * twice, "part": px.exp(x + 1.0)[1:, :] * 2.0, "wide": px.exp(wide * 2.0)}

    specs = {"x": (4, 6), "row": (6,)}
    inputs = {name: px.TensorSpec(shape, px.float32) for name, shape in specs.items()}
    graph = px.graph.trace(function, {**inputs, "wide": px.TensorSpec((3,), px.float64)}, device="cpu")
    plan = px.graph.compile(graph, device="cpu", bounds={})
    names = [node.spec.name for node in plan.graph.nodes]
    assert sorted(names) == ["add", "elementwise_chain", "exp", "multiply", "multiply", "multiply"]
    values = {name: np.random.default_rng(1).standard_normal(shape).astype(np.float32) for name, shape in specs.items()}
    values["wide"] = np.ones(3)
    expected = function(**{name: px.asarray(value, device="numpy") for name, value in values.items()})
    for name, value in plan(**values).items():
        np.testing.assert_allclose(np.asarray(value), np.asarray(expected[name]), rtol=1e-6, err_msg=name)
