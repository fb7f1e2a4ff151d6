"""Damaged and hostile ONNX files: a typed error that names the place, soon; no file from outside the folder."""

import os

import numpy as np
import onnx
import pytest
from costs import at_most
from onnx import TensorProto, helper, numpy_helper
from onnx_files import BOOL, FLOAT, model, port, with_tensor

import perfxapi as px
import perfxapi.onnx as px_onnx
from perfxapi.errors import FileFormatError, GraphError, InvalidArgumentError, PerfXError


@pytest.fixture(autouse=True)
def _soon():
    with at_most(10):
        yield


def external(location: str, **entries: int) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return with_tensor(tensor)


def saved(folder, made: onnx.ModelProto):
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with data in it, beside a file that no model has any business with."""
    (tmp_path / "secret").write_bytes(np.ones(2, np.float32).tobytes())
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "data").write_bytes(np.array([3, 4], np.float32).tobytes())
    return inner


def test_external_data_below_the_folder_is_read(folder):
    loaded = px_onnx.load(saved(folder, external("data")), device="numpy")
    np.testing.assert_array_equal(np.asarray(loaded(np.zeros(2, np.float32))["y"]), [3, 4])


@pytest.mark.parametrize("location", ["../secret", "{}/secret", "sub/../../secret", "..\\secret"])
def test_external_data_elsewhere_is_refused(folder, location):
    path = saved(folder, external(location.format(folder.parent)))
    with pytest.raises(FileFormatError, match=r"'w'.*must be a relative path below the model's folder"):
        px_onnx.load(path, device="numpy")


def test_external_data_over_links_is_refused(folder):
    (folder / "soft").symlink_to(folder.parent / "secret")
    (folder / "linked").symlink_to(folder.parent)
    os.link(folder.parent / "secret", folder / "hard")
    for location, problem in {"soft": "symbolic link", "linked/secret": "symbolic link", "hard": "hard link"}.items():
        with pytest.raises(FileFormatError, match=problem):
            px_onnx.load(saved(folder, external(location)), device="numpy")


def test_external_data_that_is_no_plain_file_is_refused(folder):
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    for location, problem in {"pipe": "plain file", "sub": "plain file", "none": "no such file"}.items():
        with pytest.raises(FileFormatError, match=problem):
            px_onnx.load(saved(folder, external(location)), device="numpy")


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        ({"offset": 4, "length": 8}, "'w'"),
        ({"offset": 1 << 40}, "'w'"),
        ({"length": 1 << 40}, "'w'"),
        ({"offset": -8}, "graph"),
    ],
)
def test_external_data_past_the_end_is_refused(folder, entries, place):
    with pytest.raises(FileFormatError, match=place):
        px_onnx.load(saved(folder, external("data", **entries)), device="numpy")


def test_external_data_of_a_function_lies_below_the_folder_too(folder, monkeypatch):
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="data")
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Add", ["a", "w"], ["b"])]
    function = helper.make_function("me", "Shifted", ["a"], ["b"], nodes, [helper.make_opsetid("", 22)])
    made = model(
        [helper.make_node("Shifted", ["x"], ["y"], domain="me")], [port("x", [2])], [port("y")], functions=[function]
    )
    made.opset_import.append(helper.make_opsetid("me", 1))
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").write_bytes(np.array([8, 9], np.float32).tobytes())
    monkeypatch.chdir(elsewhere)
    np.testing.assert_array_equal(np.asarray(px_onnx.load(saved(folder, made))(np.zeros(2, np.float32))["y"]), [3, 4])


@pytest.mark.parametrize("location", ["a\0b", "x" * 5000, "circle"])
def test_external_data_at_what_is_no_name(folder, location):
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(FileFormatError, match="'w'"):
        px_onnx.load(saved(folder, external(location)), device="numpy")


def test_external_data_of_a_model_in_memory_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(FileFormatError, match="load it by its path"):
        px_onnx.load(external("data").SerializeToString(), device="numpy")


@pytest.mark.parametrize("dims", [[-2], [1 << 62], [1 << 31, 1 << 31, 4], [3], [-1, -2]])
def test_sizes_that_the_data_does_not_have_are_refused(dims):
    tensor = TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=np.ones(2, np.float32).tobytes())
    with pytest.raises(FileFormatError, match="tensor 'w'"):
        px_onnx.load(with_tensor(tensor), device="numpy")


def test_huge_results_are_refused():
    made = model(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"])], [port("shape", [2], TensorProto.INT64)], [port("y")]
    )
    loaded = px_onnx.load(made, device="numpy")
    for shape in ([1 << 40, 1 << 40], [-1, 2]):
        with pytest.raises(PerfXError, match="ConstantOfShape"):
            loaded(np.array(shape))


def test_cycles_are_refused():
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Add", ["x", "a"], ["b"])]
    with pytest.raises(GraphError, match="cycle"):
        px_onnx.load(model(nodes, [port("x", [1])], [port("b")]), device="numpy")


def test_functions_that_call_functions_twice_each(tmp_path):
    def twice(level):
        inner = (
            helper.make_node(f"F{level - 1}", ["a"], ["m"], domain="me")
            if level
            else helper.make_node("Neg", ["a"], ["m"])
        )
        again = helper.make_node(inner.op_type, ["m"], ["b"], domain=inner.domain)
        opsets = [helper.make_opsetid("", 22), helper.make_opsetid("me", 1)]
        return helper.make_function("me", f"F{level}", ["a"], ["b"], [inner, again], opsets)

    for levels, fits in ((8, True), (60, False)):
        functions = [twice(level) for level in range(levels)]
        made = model(
            [helper.make_node(f"F{levels - 1}", ["x"], ["y"], domain="me")],
            [port("x")],
            [port("y")],
            functions=functions,
        )
        made.opset_import.append(helper.make_opsetid("me", 1))
        if fits:
            assert float(px_onnx.load(made, device="numpy")(np.ones(1, np.float32))["y"][0]) == 1
        else:
            with pytest.raises(GraphError, match="expand to"):
                px_onnx.load(made, device="numpy")


def test_what_nothing_makes_is_named():
    for nodes, output in (
        ([helper.make_node("Add", ["x", "lost"], ["y"])], "y"),
        ([helper.make_node("Neg", ["x"], ["y"])], "lost"),
    ):
        with pytest.raises(GraphError, match="'lost'"):
            px_onnx.load(model(nodes, [port("x")], [port(output)]), device="numpy")


def test_nodes_in_another_order_are_sorted():
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Exp", ["x"], ["a"])]
    loaded = px_onnx.load(model(nodes, [port("x", [1])], [port("y")]), device="numpy")
    np.testing.assert_allclose(np.asarray(loaded(np.ones(1, np.float32))["y"]), [-np.e], rtol=1e-6)


def conditional(depth: int) -> bytes:
    """The bytes of a model with If in If, so many deep (onnx's helper would refuse to make it)."""

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        head = bytes([value & 127 | (128 if value > 127 else 0)])
        return head + varint(value >> 7) if value > 127 else head

    leaf = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [port("y")])
    base = helper.make_node("If", ["c"], ["y"], else_branch=leaf).SerializeToString()
    graph = leaf.SerializeToString()
    result = port("y").SerializeToString()
    for _ in range(depth):
        branch = field(1, b"then_branch") + field(6, graph) + varint(20 << 3) + varint(5)
        graph = field(1, base + field(5, branch)) + field(2, b"level") + field(12, result)
    made = model([], [port("x", [1]), port("c", [], BOOL)], [])
    inputs = b"".join(field(11, value.SerializeToString()) for value in made.graph.input)
    made.ClearField("graph")
    return made.SerializeToString() + field(7, graph + inputs)


def test_deep_subgraphs():
    loaded = px_onnx.load(conditional(10), device="numpy")
    np.testing.assert_array_equal(np.asarray(loaded(np.ones(1, np.float32), np.array(True))["y"]), [1])
    with pytest.raises(FileFormatError, match=r"MaxDepth|recursion|Error parsing"):
        px_onnx.load(conditional(300), device="numpy")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\x08", b"no model at all" * 50])
def test_bytes_that_are_no_model(data, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"bad\.onnx"):
        px_onnx.load(path, device="numpy")


def test_damaged_bytes_never_end_otherwise():
    """Every error is typed, whatever byte is wrong (seeded; the fuzzer in tests/fuzz goes on longer)."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    good = with_tensor(tensor).SerializeToString()
    rng = np.random.default_rng(0)
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(2000):
        bad = bytearray(good)
        for place in rng.integers(0, len(bad), rng.integers(1, 4)):
            bad[place] = rng.integers(256)
        try:
            px_onnx.load(bytes(bad[: rng.integers(1, len(bad) + 1)]), device="numpy")
            outcomes["loaded"] += 1
        except PerfXError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_unknown_operators_are_named_all_at_once():
    nodes = [helper.make_node("Frob", ["x"], ["a"], name="one"), helper.make_node("Nicate", ["a"], ["y"], domain="me")]
    with pytest.raises(px_onnx.UnsupportedOperatorError, match=r"ai\.onnx\.Frob \(node 'one'\), me\.Nicate"):
        px_onnx.load(model(nodes, [port("x", [1])], [port("y")]), device="numpy")


def test_inputs_are_checked():
    nodes = [helper.make_node("Add", ["x", "y"], ["z"])]
    loaded = px_onnx.load(model(nodes, [port("x", ["n", 2]), port("y", ["n", 2])], [port("z")]), device="numpy")
    x = np.ones((3, 2), np.float32)
    cases = {
        "input 'y' is missing": {"x": x},
        "no input 'w'": {"x": x, "y": x, "w": x},
        r"must be float32\[n, 2\]; got float64": {"x": x.astype(np.float64), "y": x},
        r"got float32 of \[4, 2\] \(with n=3\)": {"x": x, "y": np.ones((4, 2), np.float32)},
        r"got float32 of \[3\]": {"x": x[:, 0], "y": x},
        "is None": {"x": None, "y": x},
    }
    for problem, inputs in cases.items():
        with pytest.raises(InvalidArgumentError, match=problem):
            loaded.run(inputs)
    with pytest.raises(InvalidArgumentError, match="takes 2 inputs; got 3"):
        loaded(x, x, x)
    with pytest.raises(InvalidArgumentError, match="given twice"):
        loaded(x, x=x)


def test_inputs_that_are_no_tensors():
    loaded = px_onnx.load(model([helper.make_node("Neg", ["x"], ["y"])], [port("x")], [port("y")]), device="numpy")
    for value in ([[1.0], [2.0, 3.0]], {1}, object()):
        with pytest.raises(InvalidArgumentError, match="input 'x'"):
            loaded(value)
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    found = px_onnx.load(
        model([helper.make_node("SequenceLength", ["s"], ["y"])], [sequence], [port("y")]), device="numpy"
    )
    with pytest.raises(InvalidArgumentError, match="input 's'"):
        found(3)
    with pytest.raises(InvalidArgumentError, match="no part of another graph"):
        px.graph.trace(lambda x: loaded(x)["y"], {"x": px.TensorSpec((2,), px.float32)}, device="numpy")


def test_errors_name_the_node():
    nodes = [helper.make_node("MatMul", ["x", "y"], ["z"], name="product")]
    loaded = px_onnx.load(model(nodes, [port("x"), port("y")], [port("z")]), device="numpy")
    with pytest.raises(InvalidArgumentError, match=r"MatMul \(opset 22\), node 'product'"):
        loaded(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
