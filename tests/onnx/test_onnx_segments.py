"""How programs run: one plan where shapes say all, several where values decide, control flow unrolled or called."""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import BOOL, FLOAT, INT64, model, port

import perfxapi as px
import perfxapi.onnx as px_onnx
from perfxapi.errors import InvalidArgumentError

DEVICES = ["numpy", "cpu"]


def loaded(*args, device="numpy", **kwargs):
    return px_onnx.load(model(*args, **kwargs), device=device)


def ran(found):
    """(steps, whether they have a plan) of all segments so far."""
    return [(len(planned.steps), planned.executable is not None) for planned in found.planned()]


@pytest.mark.parametrize("device", DEVICES)
def test_what_follows_from_shapes_is_computed_while_planning(device):
    """Shape, Gather, Concat, Reshape: one plan of one op, a new one for new shapes, none for known ones."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Reshape", ["e", "shape"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    found = loaded(nodes, [port("x", ["n", 2, 3])], [port("y")], constants, device=device)
    for size in (4, 5, 4):
        x = np.random.default_rng(size).standard_normal((size, 2, 3)).astype(np.float32)
        y = found(x)["y"]
        assert (y.shape, str(y.device.kind)) == ((size, 6), device)
        np.testing.assert_allclose(np.asarray(y), np.exp(x).reshape(size, 6), rtol=1e-6)
    assert ran(found) == [(6, True), (6, True)]
    assert all(len(planned.executable.graph.nodes) == 1 for planned in found.planned())


def test_a_shape_that_is_an_input_becomes_part_of_the_plan():
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Reshape", ["n", "shape"], ["y"])]
    found = loaded(nodes, [port("x"), port("shape", ["k"], INT64)], [port("y")])
    x = np.arange(12, dtype=np.float32)
    for shape in ([3, 4], [2, 6], [3, 4]):
        np.testing.assert_array_equal(np.asarray(found(x, np.array(shape))["y"]), -x.reshape(shape))
    assert ran(found) == [(2, True), (2, True)]


def test_past_many_values_the_step_runs_by_itself():
    """Sixteen shapes are part of plans of both steps, sixteen more of plans of the second; then it is called."""
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Reshape", ["n", "shape"], ["y"])]
    found = loaded(nodes, [port("x"), port("shape", ["k"], INT64)], [port("y")])
    x = np.arange(720720, dtype=np.float32)
    shapes = [[size, -1] for size in range(1, 61) if len(x) % size == 0]
    shapes += [[1, *shape] for shape in shapes]
    for shape in shapes:
        np.testing.assert_array_equal(np.asarray(found(x, np.array(shape))["y"]), -x.reshape(shape))
    assert ran(found).count((2, True)) == 16
    assert [planned.between_plans for planned in found.planned()].count(True) == 2  # for shapes of two and three sizes


def test_values_that_are_computed_cut_the_program():
    """NonZero has a shape that depends on values: a plan before it, itself, a plan after it for each size."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["places"]),
        helper.make_node("Cast", ["places"], ["f"], to=FLOAT),
        helper.make_node("Exp", ["f"], ["y"]),
    ]
    found = loaded(nodes, [port("x")], [port("y")])
    for x in ([1.0, -1.0, 2.0], [-1.0, 3.0, -2.0], [0.0, 4.0, 5.0]):
        expected = np.exp(np.nonzero(np.maximum(x, 0))[0].astype(np.float32))[None]
        np.testing.assert_allclose(np.asarray(found(np.array(x, np.float32))["y"]), expected, rtol=1e-6)
    assert ran(found) == [(1, True), (1, False), (2, True), (2, True)]


def branch(name, op, output):
    return helper.make_graph([helper.make_node(op, ["x"], [output])], name, [], [port(output)])


def test_a_condition_chooses_the_plan():
    node = helper.make_node(
        "If", ["c"], ["b"], then_branch=branch("t", "Exp", "t"), else_branch=branch("e", "Neg", "e")
    )
    nodes = [node, helper.make_node("Abs", ["b"], ["y"])]
    found = loaded(nodes, [port("x"), port("c", [], BOOL)], [port("y")])
    x = np.array([1, -2], np.float32)
    for condition, expected in ((True, np.exp(x)), (False, np.abs(x)), (True, np.exp(x))):
        np.testing.assert_allclose(np.asarray(found(x, np.array(condition))["y"]), expected, rtol=1e-6)
    assert ran(found) == [(2, True), (2, True)]


def loop_model(count):
    """y = x doubled until it sums to more than `limit`, at most `count` times; the sums on the way."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "v"], ["twice"]),
            helper.make_node("ReduceSum", ["twice"], ["sum"], keepdims=0),
            helper.make_node("Less", ["sum", "limit"], ["more"]),
        ],
        "body",
        [port("i", [], INT64), port("going", [], BOOL), port("v")],
        [port("more", [], BOOL), port("twice"), port("sum", [])],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y", "sums"], body=body)
    return loaded([node], [port("x"), port("limit", [])], [port("y"), port("sums")], {"count": np.array(count)})


def test_a_loop_whose_end_depends_on_values_runs_its_body_as_a_plan():
    found = loop_model(50)
    for limit in (10, 1000):
        results = found(np.array([1, 2], np.float32), np.array(limit, np.float32))
        sums = [6.0]
        while sums[-1] < limit:
            sums.append(sums[-1] * 2)
        np.testing.assert_array_equal(np.asarray(results["sums"]), sums)
        np.testing.assert_array_equal(np.asarray(results["y"]), np.array([1, 2]) * 2 ** len(sums))
    assert ran(found) == [(1, False), (3, True)]


def test_functions_of_the_model_are_part_of_the_plan():
    function = helper.make_function(
        "me",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["two"], value_float=2.0), helper.make_node("Mul", ["a", "two"], ["b"])],
        [helper.make_opsetid("", 22)],
    )
    nodes = [helper.make_node("Twice", ["x"], ["t"], domain="me"), helper.make_node("Twice", ["t"], ["y"], domain="me")]
    made = model(nodes, [port("x")], [port("y")], functions=[function])
    made.opset_import.append(helper.make_opsetid("me", 1))
    found = px_onnx.load(made, device="numpy")
    np.testing.assert_array_equal(np.asarray(found(np.ones(3, np.float32))["y"]), [4, 4, 4])
    assert ran(found) == [(2, True)]


def test_random_numbers_are_drawn_anew():
    node = helper.make_node("RandomNormal", [], ["r"], shape=[100])
    found = loaded([node, helper.make_node("Add", ["r", "x"], ["y"])], [port("x", [1])], [port("y")])
    first, second = (np.asarray(found(np.zeros(1, np.float32))["y"]) for _ in range(2))
    assert not np.array_equal(first, second)


def test_inputs_are_left_as_they_are():
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    found = loaded(nodes, [port("x"), port("shape", ["k"], INT64)], [port("y")])
    x, shape = px.asarray(np.arange(4.0, dtype=np.float32)), px.asarray(np.array([2, 2]))
    y = found(x, shape)["y"]
    y[0, 0] = 9.0
    shape[0] = 4
    assert np.asarray(x)[0] == 0
    assert np.asarray(shape)[0] == 4


def test_a_default_of_an_input_can_be_overridden():
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    found = loaded(nodes, [port("x", [1]), port("w", [1])], [port("y")], {"w": np.array([5], np.float32)})
    x = np.ones(1, np.float32)
    assert float(found(x)["y"]) == 6
    assert float(found(x, np.array([7], np.float32))["y"]) == 8
    assert float(found(x)["y"]) == 6


def test_bfloat16_flows_through_plans():
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["b"], ["y"], to=FLOAT),
    ]
    found = loaded(nodes, [port("x")], [port("b", None, TensorProto.BFLOAT16), port("y")])
    results = found(np.array([1.0, 1.00390625, 3.14159], np.float32))
    np.testing.assert_array_equal(np.asarray(results["y"]), np.array([1.0, 1.0, 3.140625], np.float32))
    assert results["b"].dtype is px.bfloat16


def test_a_forced_device_follows_the_policy():
    """What the device cannot do falls back by operator, and is counted."""
    px.reset_explain()
    found = loaded([helper.make_node("Det", ["x"], ["y"])], [port("x")], [port("y")], device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", px.errors.FallbackWarning)  # it comes once in a process
        y = found(np.eye(3, dtype=np.float32)[None])["y"]
    assert y.device.kind == "cpu"
    assert [(row.op, row.ran_on.split(":")[0]) for row in px.explain().fallbacks] == [("det", "numpy")]


def test_onnx_node_is_run_by_itself():
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    x = np.array([[1.0], [2.0]], np.float32)
    (y,) = px_onnx.Backend.run_node(node, [x])
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(), rtol=1e-6)
    assert px_onnx.Backend.supports_device("CPU")
    assert not px_onnx.Backend.supports_device("CUDA")
    with pytest.raises(InvalidArgumentError):
        px_onnx.Backend.run_node(node, [])
