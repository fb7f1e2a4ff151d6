"""What is traced and saved: valid to onnx's checker, in ONNX's operators where it has them, and read back the same."""

import numpy as np
import onnx
import pytest
from exported import SAVED, inputs_of, specs_of

import perfxapi as px
import perfxapi.onnx as px_onnx
from perfxapi.errors import FileFormatError, InvalidArgumentError


@pytest.fixture(autouse=True)
def _on_the_reference():
    with px.use_device("numpy"):
        yield


@pytest.mark.parametrize("name", SAVED)
def test_saved_and_loaded(tmp_path, name):
    saved = SAVED[name]
    path = tmp_path / "model.onnx"
    px_onnx.save(saved.function, path, specs_of(saved))
    proto = onnx.load(path)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    assert sorted({node.op_type for node in proto.graph.node if node.domain}) == sorted(saved.own)
    inputs = inputs_of(saved)
    expected = saved.function(**{key: px.asarray(value) for key, value in inputs.items()})
    expected = expected if isinstance(expected, dict) else {"output": expected}
    found = px_onnx.load(path).run(inputs)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
        np.testing.assert_allclose(np.asarray(found[key]), np.asarray(value), rtol=1e-6, atol=1e-6, err_msg=key)


def test_a_symbolic_size_stays_open(tmp_path):
    path = tmp_path / "model.onnx"
    spec = px.TensorSpec((px.Dim("n"), 4), px.float32)
    px_onnx.save(lambda x: px.exp(px.reshape(x, (x.shape[0] * 2, 2))), path, {"x": spec})
    loaded = px_onnx.load(path)
    assert loaded.inputs[0].shape == ("n", 4)
    for rows in (1, 3):
        x = np.ones((rows, 4), np.float32)
        np.testing.assert_allclose(np.asarray(loaded(x)["output"]), np.exp(x).reshape(-1, 2), rtol=1e-6)


def test_bfloat16_weights_are_saved(tmp_path):
    weight = px.asarray(np.array([1.5, 2.5], np.float32), dtype=px.bfloat16)
    path = tmp_path / "model.onnx"
    px_onnx.save(
        lambda x: px.astype(weight, px.float32) * x + px.astype(x, px.bfloat16),
        path,
        {"x": px.TensorSpec((2,), px.float32)},
    )
    np.testing.assert_array_equal(np.asarray(px_onnx.load(path)(np.ones(2, np.float32))["output"]), [2.5, 3.5])


def test_names_that_the_writer_would_choose(tmp_path):
    path = tmp_path / "model.onnx"
    factor = px.asarray(np.full(2, 5, np.float32))
    spec = px.TensorSpec((2,), px.float32)
    px_onnx.save(lambda constant_0, Mul_0: constant_0 * factor + Mul_0, path, {"constant_0": spec, "Mul_0": spec})
    ones = np.ones(2, np.float32)
    np.testing.assert_array_equal(np.asarray(px_onnx.load(path)(ones, 2 * ones)["output"]), [7, 7])


@pytest.mark.parametrize("dtype", ["float16", "int8", "int16", "uint16", "float64", "bfloat16"])
def test_dtypes_that_operators_of_onnx_lack(tmp_path, dtype):
    """Those ops keep their names; what is saved has the dtypes that were computed."""

    def function(x):
        results = {
            "product": x @ px.permute_dims(x, (1, 0)),
            "sum": px.sum(x, axis=0, dtype=x.dtype),
            "most": px.max(x, axis=1),
        }
        results |= {
            "larger": px.maximum(x, x[0, ...]),
            "running": px.cumulative_sum(x, axis=0, dtype=x.dtype),
            "power": px.pow(x, x),
        }
        return results | ({"softmax": px.nn.softmax(x)} if x.dtype.kind == "float" else {})

    path = tmp_path / "model.onnx"
    px_onnx.save(function, path, {"x": px.TensorSpec((2, 3), px.dtype_of(dtype))})
    x = px.asarray(np.array([[1, 2, 3], [2, 1, 0]]), dtype=dtype)
    found = px_onnx.load(path)(x)
    for name, value in function(x).items():
        assert found[name].dtype is value.dtype, name
        np.testing.assert_allclose(np.asarray(found[name]), np.asarray(value), rtol=1e-2, err_msg=name)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be written"):
        px_onnx.save(lambda x: x + 1.0, tmp_path / "no" / "model.onnx", {"x": px.TensorSpec((2,), px.float32)})


def test_what_a_file_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    spec = px.TensorSpec((2, 32), px.float32)
    weight = px.constant(np.zeros(4 * 34, np.uint8), "q8_0", (4, 32), name="w")
    with pytest.raises(InvalidArgumentError, match=r"q8_0: dequantize"):
        px_onnx.save(lambda x: px.nn.linear(x, weight), path, {"x": spec})
    cache = px.state((2, 32), "float32")
    with pytest.raises(InvalidArgumentError, match="state"):
        px_onnx.save(lambda x: x + cache, path, {"x": spec})
    with pytest.raises(InvalidArgumentError, match="inputs of a function"):
        px_onnx.save(lambda x: x, path)
    assert not list(tmp_path.iterdir())


def test_an_op_of_a_plugin_stands_in_the_plugins_domain(tmp_path):
    import perfxapi_plugin_signal as signal

    taps, past = px.asarray(np.array([0.1, 0.2], np.float32)), px.asarray(np.array([1.0, -0.5], np.float32))
    path = tmp_path / "model.onnx"
    px_onnx.save(lambda x: signal.lfilter(taps, past, x), path, {"x": px.TensorSpec((3, 50), px.float32)})
    node = onnx.load(path).graph.node[0]
    assert (node.domain, node.op_type) == ("perfxapi_plugin_signal", "lfilter")
    x = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    expected = np.asarray(signal.lfilter(taps, past, px.asarray(x)))
    np.testing.assert_array_equal(np.asarray(px_onnx.load(path)(x)["output"]), expected)
