"""Operators that move, choose and scatter elements, against plain NumPy and loops; on strings too."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import run_node

from perfxapi.errors import InvalidArgumentError

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


WORDS = np.array([["a", "bc", ""], ["d", "e", "f"]], object)
NARROW = RNG.integers(-8, 8, (2, 3)).astype(ml_dtypes.int4)


@pytest.mark.parametrize("x", [WORDS, NARROW, floats(2, 3)], ids=["string", "int4", "float32"])
def test_elements_of_any_type_are_moved(x):
    assert run_node("Transpose", x).tolist() == x.T.tolist()
    assert run_node("Concat", x, x[:, :1], axis=1).tolist() == np.concatenate([x, x[:, :1]], 1).tolist()
    assert run_node("Gather", x, np.array([[2, -3]]), axis=1).tolist() == x[:, [[2, 0]]].tolist()
    assert (
        run_node("Slice", x, np.array([-1]), np.array([-9]), np.array([1]), np.array([-2])).tolist()
        == x[:, ::-2].tolist()
    )
    assert (
        run_node("Where", np.array([True, False, True]), x, x[::-1]).tolist()
        == np.where([1, 0, 1], x, x[::-1]).tolist()
    )
    assert [part.tolist() for part in run_node("Split", x, outputs=2, axis=0, opset=13)] == [
        x[:1].tolist(),
        x[1:].tolist(),
    ]
    assert run_node("Tile", x, np.array([1, 2])).tolist() == np.tile(x, (1, 2)).tolist()
    assert run_node("Reshape", x, np.array([0, -1, 1])).shape == (2, 3, 1)
    assert run_node("Tile", x, np.array([1, 2])).dtype == x.dtype


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slices(data):
    x = np.arange(7 * 5).reshape(7, 5)
    bounds = st.integers(-12, 12) | st.sampled_from([2**63 - 1, -(2**63)])
    starts, ends = ([data.draw(bounds) for _ in range(2)] for _ in range(2))
    steps = [data.draw(st.sampled_from([-3, -1, 1, 2])) for _ in range(2)]

    def clamped(start, end, step, size):
        # ONNX: what is negative has the size added once, and is then kept within the axis
        start, end = (bound + size if bound < 0 else bound for bound in (start, end))
        low, high = (0, size) if step > 0 else (-1, size - 1)
        return range(min(max(start, low if step > 0 else 0), high), min(max(end, low), high), step)

    rows, columns = (clamped(*row) for row in zip(starts, ends, steps, x.shape, strict=True))
    found = run_node("Slice", x, np.array(starts), np.array(ends), np.array([0, 1]), np.array(steps))
    np.testing.assert_array_equal(found, x[np.ix_(list(rows), list(columns))])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_padding(mode):
    x = floats(3, 4)
    more = {"constant_values": 2.5} if mode == "constant" else {}
    operands = [np.array([1, 2, 2, 3])] + ([np.array(2.5, np.float32)] if mode == "constant" else [])
    expected = np.pad(x, [(1, 2), (2, 3)], mode=mode, **more)
    np.testing.assert_array_equal(run_node("Pad", x, *operands, mode=mode, opset=19), expected)
    on_one = run_node("Pad", x, np.array([1, -1]), None, np.array([-1]), mode=mode, opset=19)
    np.testing.assert_array_equal(on_one, np.pad(x[:, :-1], [(0, 0), (1, 0)], mode=mode))


def test_padding_as_attributes():
    x = floats(2, 2)
    expected = np.pad(x, 1, constant_values=3)
    np.testing.assert_array_equal(run_node("Pad", x, pads=[1] * 4, value=3.0, opset=2), expected)
    np.testing.assert_array_equal(run_node("Pad", x, paddings=[1] * 4, value=3.0, opset=1), expected)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(mode):
    x = floats(2, 12, 3, 4)
    found = run_node("DepthToSpace", x, blocksize=2, mode=mode, opset=13)
    for channel, row, column in itertools.product(range(3), range(6), range(8)):
        block = row % 2 * 2 + column % 2
        source = block * 3 + channel if mode == "DCR" else channel * 4 + block
        np.testing.assert_array_equal(found[:, channel, row, column], x[:, source, row // 2, column // 2])
    back = run_node("SpaceToDepth", run_node("DepthToSpace", x, blocksize=2, opset=13), blocksize=2, opset=13)
    np.testing.assert_array_equal(back, x)


def test_sequences_are_turned_as_far_as_they_go():
    x, lengths = floats(4, 3, 2), np.array([4, 1, 2])
    expected = x.copy()
    for item, length in enumerate(lengths):
        expected[:length, item] = x[:length, item][::-1]
    np.testing.assert_array_equal(run_node("ReverseSequence", x, lengths), expected)
    found = run_node("ReverseSequence", x.swapaxes(0, 1), lengths, time_axis=1, batch_axis=0)
    np.testing.assert_array_equal(found, expected.swapaxes(0, 1))


# ---- gathering and scattering


def test_gather_nd():
    x = floats(2, 3, 4, 5)
    tuples = RNG.integers(-3, 3, (2, 6, 2))
    found = run_node("GatherND", x, tuples, batch_dims=1)
    expected = [[x[item, i, j] for i, j in rows] for item, rows in enumerate(tuples)]
    np.testing.assert_array_equal(found, expected)


def test_gather_elements_of_a_corner():
    x, places = floats(4, 5), RNG.integers(-5, 5, (2, 3))
    expected = [[x[row, places[row, column]] for column in range(3)] for row in range(2)]
    np.testing.assert_array_equal(run_node("GatherElements", x, places, axis=1), expected)


COMBINE = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@pytest.mark.parametrize("reduction", COMBINE)
def test_scatter_elements(reduction):
    x, updates = floats(4, 5), floats(3, 4)
    places = (
        np.stack([RNG.permutation(4)[:3] for _ in range(4)], 1) if reduction == "none" else RNG.integers(-4, 4, (3, 4))
    )
    expected = x.copy()
    for row, column in np.ndindex(3, 4):
        at = places[row, column], column
        expected[at] = COMBINE[reduction](expected[at], updates[row, column])
    np.testing.assert_allclose(run_node("ScatterElements", x, places, updates, reduction=reduction, opset=18), expected)


@pytest.mark.parametrize("reduction", COMBINE)
def test_scatter_nd(reduction):
    x, tuples, updates = floats(3, 4, 2), np.array([[[0, -1], [2, 2]], [[1, 0], [0, 0]]]), floats(2, 2, 2)
    expected = x.copy()
    for at in np.ndindex(2, 2):
        target = tuple(tuples[at])
        expected[target] = COMBINE[reduction](expected[target], updates[at])
    np.testing.assert_array_equal(run_node("ScatterND", x, tuples, updates, reduction=reduction, opset=18), expected)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode):
    cache, update, starts = floats(2, 3, 5, 4), floats(2, 3, 2, 4), np.array([3, 4 if mode == "circular" else 1])
    expected = cache.copy()
    for item, turn in np.ndindex(2, 2):
        expected[item, :, (starts[item] + turn) % 5] = update[item, :, turn]
    np.testing.assert_array_equal(run_node("TensorScatter", cache, update, starts, mode=mode, opset=24), expected)


def test_an_index_out_of_range_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"outside -3\.\.2"):
        run_node("ScatterElements", floats(3), np.array([3]), floats(1), opset=18)


def test_one_hot_of_any_axis_and_values():
    indices = np.array([[0, -1], [7, 2]])
    found = run_node("OneHot", indices, np.array(4), np.array(["off", "on"], object), axis=1)
    for at in itertools.product(range(2), range(4), range(2)):
        index = indices[at[0], at[2]]
        assert found[at] == ("on" if index in (at[1], at[1] - 4) else "off")


# ---- order, and shapes that values decide


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_has_the_first_of_equals_first(largest):
    x = RNG.integers(0, 4, (3, 9)).astype(np.float32)
    values, places = run_node("TopK", x, np.array([4]), outputs=2, largest=largest)
    for row, (found, at) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
        best = sorted(range(9), key=lambda place: (-x[row, place] if largest else x[row, place], place))[:4]
        assert (found, at) == (x[row, best].tolist(), best)
    np.testing.assert_array_equal(run_node("TopK", x, k=1, outputs=2, opset=1)[0], x.max(1, keepdims=True))


def test_unique_in_order_of_appearance():
    x = np.array([3, 1, 3, 2, 1], np.int32)
    found = run_node("Unique", x, outputs=4, sorted=0)
    assert [part.tolist() for part in found] == [[3, 1, 2], [0, 1, 3], [0, 1, 0, 2, 1], [2, 2, 1]]


def test_nonzero_and_compress():
    x = np.where(RNG.random((3, 4)) < 0.5, 0, floats(3, 4))
    np.testing.assert_array_equal(run_node("NonZero", x), np.argwhere(x).T)
    np.testing.assert_array_equal(run_node("Compress", x, np.array([False, True]), axis=1), x[:, 1:2])
    np.testing.assert_array_equal(run_node("Compress", x, np.array([True, False, True])), x.reshape(-1)[[0, 2]])


def test_boxes_that_overlap_are_suppressed():
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [1, 1, 0, 0]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7, 0.95], [0.1, 0.2, 0.9, 0.0]]], np.float32)
    limits = np.array(3), np.float32(0.5), np.float32(0.15)
    found = run_node("NonMaxSuppression", boxes, scores, *limits)
    assert found.tolist() == [[0, 0, 3], [0, 0, 2], [0, 1, 2], [0, 1, 1]]
    assert run_node("NonMaxSuppression", boxes, scores).shape == (0, 3)
