"""Results are those of the call: of its values and shapes, whatever ran before, beside or around it."""

import threading

import numpy as np
from onnx import TensorProto, helper
from onnx_files import BOOL, INT64, model, port

import perfxapi as px
import perfxapi.onnx as px_onnx


def loaded(*args, **kwargs):
    return px_onnx.load(model(*args, **kwargs), device="numpy")


def test_each_row_of_a_constant_is_its_own():
    """A body that runs as a program of its own meets another part of the same constant in each turn."""
    body = helper.make_graph(
        [helper.make_node("Add", ["total", "row"], ["next"])],
        "body",
        [port("total", [1]), port("row", [1])],
        [port("next", [1])],
    )
    node = helper.make_node("Scan", ["start", "rows"], ["y"], body=body, num_scan_inputs=1)
    rows = np.arange(400, dtype=np.float32).reshape(400, 1)
    found = loaded([node], [port("start", [1])], [port("y")], {"rows": rows})
    np.testing.assert_array_equal(np.asarray(found(np.zeros(1, np.float32))["y"]), [rows.sum()])


def test_a_part_of_a_constant_that_is_chosen_by_data():
    nodes = [
        helper.make_node("Add", ["i", "one"], ["end"]),
        helper.make_node("Slice", ["w", "i", "end"], ["part"]),
        helper.make_node("Add", ["part", "x"], ["y"]),
    ]
    w = np.arange(40, dtype=np.float32)
    found = loaded(nodes, [port("x"), port("i", [1], INT64)], [port("y")], {"w": w, "one": np.array([1])})
    results = [float(found(np.zeros(1, np.float32), np.array([k]))["y"][0]) for k in range(40)]
    assert results == w.tolist()


def test_constants_of_the_caller_are_operands_like_others():
    found = loaded(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], [port("x"), port("shape", ["k"], INT64)], [port("y")]
    )
    x = np.arange(12, dtype=np.float32)
    for turn in range(60):
        shape = [(3, 4), (2, 6), (12, 1), (4, 3)][turn % 4]
        y = found(x, px.constant(np.array(shape), device="numpy"))["y"]
        assert y.shape == shape
    whole = px.constant(np.arange(10, dtype=np.float32), device="numpy")
    double = loaded([helper.make_node("Add", ["x", "x"], ["y"])], [port("x")], [port("y")])
    assert [np.asarray(double(whole[k : k + 2])["y"]).tolist() for k in (0, 4, 8)] == [[0, 2], [8, 10], [16, 18]]


def test_threads_get_their_own_results():
    found = loaded(
        [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Neg", ["e"], ["y"])], [port("x")], [port("y")]
    )
    wrong = []

    def call(number):
        x = np.full(100, number, np.float32)
        for _ in range(100):
            y = np.asarray(found(x)["y"])
            if not np.allclose(y, -np.exp(x)):
                wrong.append(y)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_that_look_like_items_of_a_sequence():
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("SequenceConstruct", ["n", "x"], ["s"]),
        helper.make_node("Exp", ["x"], ["s[0]"]),
    ]
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    found = loaded(nodes, [port("x")], [sequence, port("s[0]")])
    x = np.ones(2, np.float32)
    results = found(x)
    np.testing.assert_array_equal(np.asarray(results["s"][0]), -x)
    np.testing.assert_allclose(np.asarray(results["s[0]"]), np.exp(x), rtol=1e-6)


def test_results_are_memory_of_their_own():
    x = np.arange(6, dtype=np.float32)
    shape = loaded([helper.make_node("Shape", ["x"], ["y"])], [port("x")], [port("y", None, INT64)])
    shape(x)["y"][0] = 99
    assert np.asarray(shape(x)["y"]).tolist() == [6]
    same = loaded([helper.make_node("Neg", ["x"], ["n"])], [port("x")], [port("x"), port("n")])
    same(x)["x"][0] = 99.0
    assert x[0] == 0
    reshape = loaded(
        [helper.make_node("Reshape", ["x", "s"], ["y"])], [port("x"), port("s", ["k"], INT64)], [port("y")]
    )
    for places in range(1, 25):
        y = reshape(x, np.array([1] * places + [6]))["y"] if places < 5 else reshape(x, np.array([6]))["y"]
        y[...] = 5.0
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    constant = loaded([helper.make_node("Neg", ["x"], ["n"])], [port("x")], [port("w"), port("n")], {"w": x})
    constant(x)["w"][0] = 99.0
    assert np.asarray(constant(x)["w"])[0] == 0


def test_a_result_that_is_listed_twice():
    found = loaded([helper.make_node("Neg", ["x"], ["y"])], [port("x")], [port("y"), port("y")])
    assert (
        len(
            px_onnx.Backend.prepare(
                model([helper.make_node("Neg", ["x"], ["y"])], [port("x")], [port("y"), port("y")])
            ).run([np.ones(1, np.float32)])
        )
        == 2
    )
    assert list(found(np.ones(1, np.float32))) == ["y"]


def test_an_operand_that_is_left_out_after_it_was_given():
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    made = model([node], [port("x"), port("high", [])], [port("y")])
    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    made.graph.input[1].CopyFrom(helper.make_value_info("high", optional))
    found = px_onnx.load(made, device="numpy")
    x = np.array([1, 5], np.float32)
    assert np.asarray(found(x, np.array(3, np.float32))["y"]).tolist() == [1, 3]
    assert np.asarray(found(x, None)["y"]).tolist() == [1, 5]
    assert np.asarray(found(x)["y"]).tolist() == [1, 5]


def test_a_loop_collects_strings():
    body = helper.make_graph(
        [helper.make_node("StringConcat", ["s", "s"], ["twice"]), helper.make_node("Identity", ["going"], ["on"])],
        "body",
        [port("i", [], INT64), port("going", [], BOOL)],
        [port("on", [], BOOL), port("twice", [1], TensorProto.STRING)],
    )
    found = loaded([helper.make_node("Loop", ["n", ""], ["y"], body=body)], [port("s", [1], TensorProto.STRING)],
                   [port("y", None, TensorProto.STRING)], {"n": np.array(3)})  # fmt: skip
    assert found(np.array(["ab"]))["y"].tolist() == [["abab"]] * 3
    assert found(np.array([b"c"]))["y"].tolist() == [["cc"]] * 3


def nested_loops(outer, inner):
    def body(name, nodes, extra=()):
        ports = [port("i" + name, [], INT64), port("g" + name, [], BOOL), port("v" + name, [1])]
        keep = helper.make_node("Identity", ["g" + name], ["o" + name])
        return helper.make_graph([*nodes, keep], name, ports, [port("o" + name, [], BOOL), port("r" + name, [1])])

    deepest = body("b", [helper.make_node("Add", ["vb", "one"], ["rb"])])
    middle = body("a", [helper.make_node("Loop", ["inner", "", "va"], ["ra"], body=deepest)])
    node = helper.make_node("Loop", ["outer", "", "x"], ["y"], body=middle)
    constants = {"outer": np.array(outer), "inner": np.array(inner), "one": np.ones(1, np.float32)}
    return loaded([node], [port("x", [1])], [port("y")], constants)


def test_loops_are_unrolled_up_to_a_bound():
    for outer, inner, in_one_plan in ((3, 5, True), (80, 80, False)):
        found = nested_loops(outer, inner)
        assert np.asarray(found(np.zeros(1, np.float32))["y"]).tolist() == [outer * inner]
        assert any(planned.between_plans for planned in found.planned()) != in_one_plan
        # elementwise steps of a plan are chains of at most 32
        assert max(len(p.executable.graph.nodes) for p in found.planned() if p.executable) <= 256 / 32


def test_plans_that_are_kept_have_a_bound_of_memory():
    found = loaded(
        [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Neg", ["e"], ["y"])], [port("x")], [port("y")]
    )
    for rows in range(40):
        found(np.zeros((4000 + rows, 1000), np.float32))
    arenas = [sum(planned.executable.arena_bytes.values()) for planned in found.planned()]
    assert sum(arenas) <= 1 << 28
    assert len(arenas) >= 2
