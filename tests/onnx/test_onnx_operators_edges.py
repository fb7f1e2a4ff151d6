"""Operators where ONNX's own tests do not go: indices outside, 16-bit floats, empty tensors, wrong attributes."""

import re

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import INT64, model, port, run_node

import perfxapi.onnx as px_onnx
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.patterns import Pattern

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ---- indices outside

ONE = np.ones((1, 1), np.float32)
OUTSIDE = {
    "GatherND": ([np.array([[0, 5]])], {}),
    "GatherND, below": ([np.array([[0, -4]])], {}),
    "GatherND, in a batch": ([np.array([[3], [0]])], {"batch_dims": 1}),
    "GatherElements": ([np.array([[0, 3]])], {"axis": 1}),
    "Gather": ([np.array([3])], {"axis": 1}),
    "ScatterElements": ([np.array([[4]]), ONE], {"axis": 1}),
    "ScatterElements, below": ([np.array([[-3]]), ONE], {"axis": 0}),
    "ScatterND": ([np.array([[0, 4]]), ONE[0]], {}),
    "ScatterND, below": ([np.array([[1, -4]]), ONE[0]], {"reduction": "add"}),
    "TensorScatter": ([np.ones((2, 2), np.float32), np.array([2, 0])], {"axis": 1}),
    "TensorScatter, below": ([np.ones((2, 2), np.float32), np.array([0, -1])], {"axis": 1}),
}


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("fixed", [False, True], ids=["given at run", "constant"])
@pytest.mark.parametrize("case", OUTSIDE)
def test_indices_outside_an_axis_are_refused(case, fixed, device):
    """Also where the place in row-major order is inside the tensor."""
    operands, attributes = OUTSIDE[case]
    feeds = {"x": np.zeros((2, 3), np.float32), **{f"x{i}": value for i, value in enumerate(operands)}}
    node = helper.make_node(case.split(",")[0], list(feeds), ["y"], **attributes)
    indices = [name for name, value in feeds.items() if value.dtype == np.int64]
    constants = {name: feeds.pop(name) for name in indices if fixed}
    ports = [port(name, None, helper.np_dtype_to_tensor_dtype(value.dtype)) for name, value in feeds.items()]
    loaded = px_onnx.load(model([node], ports, [port("y")], constants, opset=24), device=device)
    with pytest.raises(InvalidArgumentError, match="outside"):
        loaded.run(feeds)


def test_indices_from_the_end():
    x = floats(2, 3)
    assert run_node("GatherND", x, np.array([[-1, -3], [0, -1]])).tolist() == [x[1, 0], x[0, 2]]
    expected = x.copy()
    expected[1, 2] = 7
    found = run_node("ScatterND", x, np.array([[-1, -1]]), np.array([7], np.float32))
    np.testing.assert_array_equal(found, expected)
    found = run_node("ScatterElements", x, np.array([[2], [-1]])[1:], np.array([[7]], np.float32), axis=1)
    assert found[0, 2] == 7


def test_updates_that_do_not_fit_are_refused():
    x = floats(2, 3)
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        run_node("ScatterElements", x, np.zeros((1, 5), np.int64), floats(1, 5))
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        run_node("ScatterElements", x, np.zeros((2, 3), np.int64), floats(3, 2))
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        run_node("ScatterND", x, np.zeros((1, 1), np.int64), floats(3))


# ---- 16-bit floats


def wide_mean_and_deviation(x, axes):
    wide = x.astype(np.float64)
    return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)


HALF = {
    "ReduceL2": (lambda x: np.sqrt((x**2).sum()), {"keepdims": 0}),
    "ReduceMean": (np.mean, {"keepdims": 0}),
    "ReduceLogSum": (lambda x: np.log(x.sum()), {"keepdims": 0}),
    "ReduceLogSumExp": (lambda x: np.log(np.exp(x - x.max()).sum()) + x.max(), {"keepdims": 0}),
    "GlobalAveragePool": (lambda x: x.mean((2, 3), keepdims=True), {}),
    "GlobalLpPool": (lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True)), {}),
    "AveragePool": (lambda x: x.mean((2, 3), keepdims=True), {"kernel_shape": [20, 20]}),
    "LpPool": (lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True)), {"kernel_shape": [20, 20]}),
    "LpNormalization": (lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True)), {}),
    "MeanVarianceNormalization": (lambda x: wide_mean_and_deviation(x, (0, 2, 3)), {}),
    "LRN": (lambda x: x / (1 + 0.5 * x * x) ** 0.75, {"size": 1, "alpha": 0.5}),
}


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("op", HALF)
def test_sums_and_squares_of_16_bits_do_not_overflow(op, dtype, device):
    x = RNG.uniform(300, 800, (1, 2, 20, 20)).astype(dtype)
    formula, attributes = HALF[op]
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    (found,) = px_onnx.Backend.run_node(node, [x], device, opset_version=22)
    assert found.dtype == dtype
    tolerance = 4 * float(ml_dtypes.finfo(dtype).eps)
    expected = formula(x.astype(np.float64))
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=tolerance, atol=tolerance)


def test_normalization_of_16_bits():
    x = RNG.uniform(-800, 800, (2, 3, 50)).astype(np.float16)
    scale, bias = np.array([1, 2, 3], np.float16), np.array([0, 1, 0], np.float16)
    found = run_node("InstanceNormalization", x, scale, bias)
    expected = wide_mean_and_deviation(x, (2,)) * scale[:, None] + bias[:, None]
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-3, atol=2e-3)
    zeros = np.zeros(3, np.float16)
    found = run_node("BatchNormalization", x, scale, bias, zeros, zeros, training_mode=1, outputs=3)[0]
    expected = wide_mean_and_deviation(x, (0, 2)) * scale[:, None] + bias[:, None]
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-3, atol=2e-3)


def test_many_16_bit_numbers_are_added():
    ones = np.ones(4000, np.float16)
    assert run_node("ReduceMean", np.ones(70000, np.float16), keepdims=0) == 1
    assert run_node("CumSum", ones, np.array(0))[-1] == 4000
    assert run_node("Mean", *[np.full(1, 60000, np.float16)] * 3) == 60000
    scores = floats(70000, 2).astype(np.float16)
    found = run_node("SoftmaxCrossEntropyLoss", scores, np.zeros(70000, np.int64))
    wide = scores.astype(np.float64)
    np.testing.assert_allclose(found, np.mean(np.log(np.exp(wide).sum(1)) - wide[:, 0]), rtol=2e-3)


def test_whole_numbers_are_scaled_before_they_are_rounded():
    x, scale = np.array([65535, 3001], np.uint16), np.array(0.01, np.float16)
    found = run_node("DequantizeLinear", x, scale)
    np.testing.assert_array_equal(found, (x * np.float32(scale)).astype(np.float16))


# ---- whole numbers


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_reductions_of_whole_numbers(dtype):
    x = np.array([[3, 4], [6, 8]], dtype)
    cases = {
        "ReduceL2": [5, 10],
        "ReduceLogSum": np.log([7, 14]).astype(dtype).tolist(),
        "ReduceLogSumExp": np.log(np.exp(x).sum(1)).astype(dtype).tolist(),
        "ReduceMean": [3, 7],
    }
    for op, expected in cases.items():
        found = run_node(op, x, np.array([1]), keepdims=0)
        assert (found.dtype, found.tolist()) == (dtype, expected), op


def test_the_mean_of_whole_numbers_is_rounded_towards_zero():
    assert run_node("ReduceMean", np.array([-3, -4, 2], np.int32), keepdims=0) == -1
    assert run_node("ReduceMean", np.full(4, 2**31 - 1, np.int32), keepdims=0) == 2**31 - 1
    assert run_node("ReduceMean", np.array([2**64 - 1], np.uint64), keepdims=0) == 2**64 - 1


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_powers_of_whole_numbers_keep_all_digits(device):
    base = np.array([123456789, 46340, -3], np.int32)
    node = helper.make_node("Pow", ["x", "p"], ["y"])
    power = np.array([1, 2, 3], np.float32)
    (found,) = px_onnx.Backend.run_node(node, [base, power], device, opset_version=15)
    assert found.tolist() == [123456789, 46340**2, -27]


def test_strings_of_whole_numbers_keep_all_digits():
    texts = np.array(["9007199254740993", "-9223372036854775808", "1e3", " 7 "], object)
    assert run_node("Cast", texts, to=INT64).tolist() == [2**53 + 1, -(2**63), 1000, 7]
    assert run_node("Cast", texts[2:], to=TensorProto.INT8).tolist() == [np.int64(1000).astype(np.int8), 7]
    assert run_node("Cast", np.array([str(2**64 - 1)], object), to=TensorProto.UINT64).tolist() == [2**64 - 1]
    for text in ("seven", "inf", str(2**64)):
        with pytest.raises(InvalidArgumentError, match="Cast"):
            run_node("Cast", np.array([text], object), to=INT64)


def test_bits_are_not_read_as_a_type_of_another_size():
    for target in (TensorProto.INT64, TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.STRING):
        with pytest.raises(InvalidArgumentError, match="one size"):
            run_node("BitCast", floats(2, 2), to=target, opset=26)
    bits = run_node("BitCast", np.array([1], ml_dtypes.bfloat16), to=TensorProto.UINT16, opset=26)
    assert bits.tolist() == [0x3F80]


@pytest.mark.parametrize("lambd", [0.5, 1.0, 2.0])
def test_shrink_of_unsigned_numbers(lambd):
    x = np.array([0, 1, 2, 3], np.uint8)
    assert run_node("Shrink", x, lambd=lambd).tolist() == np.where(x > lambd, x, 0).tolist()


# ---- empty tensors


def test_running_sums_of_nothing():
    for exclusive in (0, 1):
        assert run_node("CumSum", floats(2, 0), np.array(1), exclusive=exclusive).shape == (2, 0)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(0, 3), (3, 2)]), ("ij,jk->ik", [(2, 0), (0, 3)]), ("ij,ij->i", [(2, 0)] * 2)],
)
def test_einsum_over_nothing(equation, shapes):
    operands = [np.zeros(shape) for shape in shapes]
    found, expected = run_node("Einsum", *operands, equation=equation), np.einsum(equation, *operands)
    np.testing.assert_array_equal(found, expected)


def test_rows_of_width_zero_are_scattered():
    assert run_node("ScatterND", floats(3, 0), np.array([[1]]), floats(1, 0)).shape == (3, 0)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_over_no_steps(op, gates):
    weights = floats(1, 3 * gates, 2), floats(1, 3 * gates, 3)
    states, last = run_node(op, floats(0, 2, 2), *weights, hidden_size=3, clip=1.0, outputs=2)
    assert (states.shape, last.tolist()) == ((0, 1, 2, 3), np.zeros((1, 2, 3)).tolist())


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("op", ["MaxRoiPool", "RoiAlign"])
def test_pools_of_no_regions(op, device):
    aligned = op == "RoiAlign"
    operands = [floats(1, 2, 8, 8), floats(0, 4 if aligned else 5)] + [np.zeros(0, np.int64)] * aligned
    sizes = {"output_height": 3, "output_width": 2} if aligned else {"pooled_shape": [3, 2]}
    names = [f"x{i}" for i in range(len(operands))]
    ports = [port(n, None, helper.np_dtype_to_tensor_dtype(v.dtype)) for n, v in zip(names, operands, strict=True)]
    loaded = px_onnx.load(model([helper.make_node(op, names, ["y"], **sizes)], ports, [port("y")]), device=device)
    found = loaded.run(dict(zip(names, operands, strict=True)))["y"]
    assert (found.shape, found.device.kind) == ((0, 2, 3, 2), device)


def test_a_batch_of_one_is_normalized_in_training():
    x, ones, zeros = floats(1, 3, 4), np.ones(3, np.float32), np.zeros(3, np.float32)
    found, mean, _ = run_node("BatchNormalization", x, ones, zeros, zeros, ones, training_mode=1, outputs=3)
    np.testing.assert_allclose(found, wide_mean_and_deviation(x, (2,)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, 0.1 * x.mean((0, 2)), rtol=1e-4, atol=1e-6)


# ---- regions, sizes, parts


def test_corners_of_regions_are_rounded_away_from_zero():
    x = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    regions = np.array([[0, 2.5, 2.5, 4.5, 4.5], [0, -0.5, 1.5, 0.5, 2.4]], np.float32)
    found = run_node("MaxRoiPool", x, regions, pooled_shape=[1, 1]).reshape(-1)
    assert found.tolist() == [x[0, 0, 3:6, 3:6].max(), x[0, 0, 2:3, 0:2].max()]


@pytest.mark.parametrize(("size", "count"), [(7, 9), (7, 29), (13, 35), (9, 21), (10, 22), (5, 1)])
def test_sizes_are_resized_without_rounding(size, count):
    """The places are compared with whole-number arithmetic: (i + 1/2) * size / count - 1/2."""
    x = np.arange(size, dtype=np.float32)[None, None]
    found = run_node("Resize", x, None, None, np.array([1, 1, count]), mode="nearest", nearest_mode="floor")
    places = [max(0, ((2 * i + 1) * size - count) // (2 * count)) for i in range(count)]
    assert found.reshape(-1).tolist() == places


def test_the_half_pixels_of_opset_11():
    x, scales = np.arange(4, dtype=np.float32)[None, None], np.array([1, 1, 0.5], np.float32)
    attributes = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    assert run_node("Resize", x, None, scales, opset=11, **attributes).reshape(-1).tolist() == [1, 3]
    with pytest.raises(InvalidArgumentError, match="coordinate_transformation_mode must be one of 'half_pixel'"):
        run_node("Resize", x, None, scales, opset=13, **attributes)


def test_the_first_split_takes_sizes_as_an_operand():
    x = floats(6)
    first, second = run_node("Split", x, np.array([2, 4], np.float32), opset=1, outputs=2, axis=0)
    np.testing.assert_array_equal(first, x[:2])
    np.testing.assert_array_equal(second, x[2:])


def test_parts_that_do_not_add_up_are_refused():
    with pytest.raises(InvalidArgumentError, match="do not make up 5 along axis 0"):
        run_node("Split", floats(5), np.array([2, 2]), outputs=2)
    with pytest.raises(InvalidArgumentError, match="5 elements along axis 0 cannot be split into 2 equal parts"):
        run_node("Split", floats(5), opset=13, outputs=2)
    assert [part.size for part in run_node("Split", floats(5), num_outputs=2, outputs=2)] == [3, 2]


# ---- attributes

IMAGE = np.ones((1, 1, 4, 4), np.float32)
MOMENTUM = {"alpha": 0.5, "beta": 1.0, "norm_coefficient": 0.0}
SCALES = np.array([1, 1, 2, 2], np.float32)
WRONG = [
    ("Conv", [IMAGE, IMAGE], {"auto_pad": "SAME"}),
    ("ConvTranspose", [IMAGE, IMAGE], {"auto_pad": "SAME"}),
    ("MaxPool", [IMAGE], {"auto_pad": "FULL", "kernel_shape": [2, 2]}),
    ("NegativeLogLikelihoodLoss", [ONE, np.array([0])], {"reduction": "median"}),
    ("Gelu", [ONE], {"approximate": "erf"}),
    ("Pad", [ONE, np.ones(4, np.int64)], {"mode": "mirror"}),
    ("ScatterND", [ONE, np.array([[0, 0]]), ONE[0]], {"reduction": "mean"}),
    ("ScatterElements", [ONE, np.array([[0]]), ONE], {"reduction": "mean"}),
    ("Resize", [IMAGE, None, SCALES], {"mode": "lanczos"}),
    ("Resize", [IMAGE, None, SCALES], {"nearest_mode": "even"}),
    ("GridSample", [IMAGE, np.zeros((1, 2, 2, 2), np.float32)], {"padding_mode": "wrap"}),
    ("DepthToSpace", [np.ones((1, 4, 1, 1), np.float32)], {"mode": "RCD", "blocksize": 2}),
    ("BitShift", [np.ones(1, np.uint8)] * 2, {"direction": "UP"}),
    ("RNN", [np.ones((1, 1, 1), np.float32)] * 3, {"direction": "sideways", "hidden_size": 1}),
    ("StringNormalizer", [np.array(["a"], object)], {"case_change_action": "TITLE"}),
    ("ImageDecoder", [np.zeros(3, np.uint8)], {"pixel_format": "CMYK"}),
    ("ai.onnx.ml.Normalizer", [ONE], {"norm": "L3"}),
    ("ai.onnx.preview.training.Momentum", [ONE[0, 0], np.array(1)] + [ONE] * 3, {"mode": "heavy", **MOMENTUM}),
]


@pytest.mark.parametrize(("op", "operands", "attributes"), WRONG, ids=[f"{op} {next(iter(a))}" for op, _, a in WRONG])
def test_attributes_that_onnx_does_not_know_are_refused(op, operands, attributes):
    name, value = next(iter(attributes.items()))
    domain, _, kind = op.rpartition(".")
    opset = {"": 22, "ai.onnx.ml": 3}.get(domain, 1)
    with pytest.raises(InvalidArgumentError, match=rf"{op} .*{name} must be one of .*got '{value}'"):
        run_node(kind, *operands, domain=domain, opset=opset, **attributes)


def test_numbers_of_ways_that_onnx_does_not_know_are_refused():
    leaf = {"nodes_splits": np.zeros(1, np.float32), "nodes_modes": np.zeros(1, np.uint8), "tree_roots": [0]}
    leaf |= {"leaf_targetids": [0, 0], "leaf_weights": np.ones(2, np.float32), "nodes_featureids": [0]}
    leaf |= {"nodes_truenodeids": [0], "nodes_trueleafs": [1]}
    leaf |= {"nodes_falsenodeids": [1], "nodes_falseleafs": [1], "n_targets": 1}
    tensors = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in leaf.items()}
    for name in ("aggregate_function", "post_transform"):
        with pytest.raises(InvalidArgumentError, match=rf"{name} must be one of 0 \(.*got -1"):
            run_node("TreeEnsemble", ONE, domain="ai.onnx.ml", opset=5, **tensors, **{name: -1})
    heads = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(InvalidArgumentError, match="qk_matmul_output_mode must be from 0 to 3; got -1"):
        run_node("Attention", heads, heads, heads, opset=23, qk_matmul_output_mode=-1)


def test_activations_that_onnx_does_not_know_are_refused():
    ones = np.ones((1, 1, 1), np.float32)
    with pytest.raises(InvalidArgumentError, match="the activation 'Cosine' is none of affine, elu"):
        run_node("RNN", ones, ones, ones, hidden_size=1, activations=["Cosine"])


def test_counts_that_do_not_fit_are_refused():
    for count in (3, -1):
        with pytest.raises(InvalidArgumentError, match="k must be from 0 to 2"):
            run_node("TopK", floats(2), np.array([count]), outputs=2)
    with pytest.raises(InvalidArgumentError, match="depth must not be negative"):
        run_node("OneHot", np.array([1]), np.array(-3), np.array([0, 1], np.float32))


# ---- patterns

PATTERNS = [
    *(
        "",
        "(a|ab)(c|bcd)(d*)",
        "(a?b?){2,3}",
        "a{2,3}b*?",
        "^a.c$",
        "[^a]+|b",
        "(?i)Ab+",
        "(?i:a)b",
        "(|a)+",
        "(^a|b)*",
    ),
    *(
        r"\bfoo\b \w+",
        r"(\W|^)[\w.\-]{0,3}@(yahoo|gm)\.com(\W|$)",
        r"[a-c\d]{3}",
        "a{0}b",
        "(){3}a",
        "(?s)a.b",
        "(a*)+",
    ),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_python_matches_them(pattern):
    rng = np.random.default_rng(2)
    texts = ["".join(rng.choice([*"abcAfo 1\n"], size)) for size in rng.integers(0, 7, 300)]
    texts += ["foo bar", "x@gm.com", "abcd", "ab", "bb", "aAb"]
    assert [Pattern(pattern).matches(text) for text in texts] == [bool(re.fullmatch(pattern, text)) for text in texts]


@pytest.mark.parametrize("pattern", ["(a+)+", "(a*)*", "(a|a)*", "(" * 40 + "a" + ")*" * 40, "a*" * 40])
def test_patterns_do_not_go_back(pattern):
    found = run_node("RegexFullMatch", np.array(["a" * 200, "a" * 200 + "b"], object), pattern=pattern)
    assert found.tolist() == [True, False]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "no regular expression"),
        ("(" * 500 + ")" * 499, "no regular expression"),
        (r"(a)\1", "groupref"),
        ("(?=a)b", "assert"),
        ("((a{1000}){1000}){1000}", "too large"),
        ("a" * 1001, "longer than 1000"),
    ],
)
def test_patterns_that_are_refused(pattern, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_node("RegexFullMatch", np.array(["a"], object), pattern=pattern)
