"""Operators of neural networks, against loops and formulas in float64."""

import itertools

import numpy as np
import pytest
from onnx_files import run_node

RNG = np.random.default_rng(2)


def floats(*shape):
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-5)


# ---- recurrent layers


def lstm(x, w, r, b, p, h, c, coupled=False, clip=np.inf, f=sigmoid, g=np.tanh):
    """One direction, [length, batch, ...]: gates input, output, forget, cell."""
    states = []
    for step in x:
        gates = step @ w.T + h @ r.T + b[: len(w)] + b[len(w) :]
        i, o, forget, update = np.split(gates, 4, 1)
        peep = np.split(p, 3)
        i = f(np.clip(i + peep[0] * c, -clip, clip))
        kept = 1 - i if coupled else f(np.clip(forget + peep[2] * c, -clip, clip))
        c = kept * c + i * g(np.clip(update, -clip, clip))
        h = f(np.clip(o + peep[1] * c, -clip, clip)) * g(c)
        states.append(h)
    return np.array(states), h, c


def layer(gates, directions=1, length=4, batch=2, inputs=3, size=5):
    rows = gates * size
    return (
        floats(length, batch, inputs),
        floats(directions, rows, inputs),
        floats(directions, rows, size),
        floats(directions, 2 * rows),
    )


@pytest.mark.parametrize(
    "more", [{}, {"input_forget": 1}, {"clip": 0.3}, {"activations": ["HardSigmoid", "Softsign", "Softsign"]}]
)
def test_lstm(more):
    x, w, r, b = layer(4)
    h, c, p = floats(1, 2, 5), floats(1, 2, 5), floats(1, 15)
    expected = {"coupled": "input_forget" in more, "clip": more.get("clip", np.inf)}
    if "activations" in more:
        more = {**more, "activation_alpha": [0.25], "activation_beta": [0.4]}
        expected.update(f=lambda z: np.clip(0.25 * z + 0.4, 0, 1), g=lambda z: z / (1 + np.abs(z)))
    states, last, cell = lstm(*(a.astype(np.float64) for a in (x, w[0], r[0], b[0], p[0], h[0], c[0])), **expected)
    found = run_node("LSTM", x, w, r, b, None, h, c, p, outputs=3, hidden_size=5, **more)
    close(found[0][:, 0], states)
    close(found[1][0], last)
    close(found[2][0], cell)


@pytest.mark.parametrize(
    "names", [["Sigmoid", "Tanh", "Tanh"], ["sigmoid", "tanh", "tanh"]], ids=["one op", "unrolled"]
)
def test_both_directions_of_sequences_of_their_own_lengths(names):
    x, w, r, b = layer(4, directions=2, length=5)
    lengths, zero = np.array([5, 2], np.int32), np.zeros((1, 5))
    found = run_node(
        "LSTM", x, w, r, b, lengths, outputs=3, hidden_size=5, direction="bidirectional", activations=names * 2
    )
    for item, count in enumerate(lengths):
        part = x[:count, item : item + 1].astype(np.float64)
        for way, steps in enumerate((part, part[::-1])):
            states, last, _ = lstm(steps, w[way], r[way], b[way], np.zeros(15), zero, zero)
            close(found[0][:count, way, item], states[:: -1 if way else 1, 0])
            close(found[1][way, item], last[0])
        assert not found[0][count:, :, item].any()


@pytest.mark.parametrize("linear", [0, 1])
@pytest.mark.parametrize("names", [["Sigmoid", "Tanh"], ["sigmoid", "tanh"]], ids=["one op", "unrolled"])
def test_gru_with_the_batch_first(linear, names):
    x, w, r, b = layer(3)
    h = np.zeros((2, 5))
    wide = [a.astype(np.float64) for a in (w[0], r[0], b[0])]
    w3, r3 = np.split(wide[0], 3), np.split(wide[1], 3)
    wb, rb = np.split(wide[2][:15], 3), np.split(wide[2][15:], 3)
    for step in x.astype(np.float64):
        z, reset = (sigmoid(step @ w3[k].T + h @ r3[k].T + wb[k] + rb[k]) for k in range(2))
        inner = reset * (h @ r3[2].T + rb[2]) if linear else (reset * h) @ r3[2].T + rb[2]
        h = (1 - z) * np.tanh(step @ w3[2].T + wb[2] + inner) + z * h
    found = run_node(
        "GRU",
        x.swapaxes(0, 1),
        w,
        r,
        b,
        outputs=2,
        layout=1,
        hidden_size=5,
        linear_before_reset=linear,
        activations=names,
    )
    close(found[0][:, -1, 0], h)
    close(found[1][:, 0], h)


@pytest.mark.parametrize("name", ["Relu", "relu", "Affine"])
def test_rnn(name):
    x, w, r, b = layer(1)
    function = {"affine": lambda z: 0.5 * z + 0.1}.get(name.lower(), lambda z: np.maximum(z, 0))
    more = {"activation_alpha": [0.5], "activation_beta": [0.1]} if name == "Affine" else {}
    h = np.zeros((2, 5))
    for step in x.astype(np.float64):
        h = function(step @ w[0].T + h @ r[0].T + b[0, :5] + b[0, 5:])
    close(run_node("RNN", x, w, r, b, outputs=2, hidden_size=5, activations=[name], **more)[1][0], h)


# ---- linear attention


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (11, 4), (8, 8)])
def test_linear_attention_is_the_recurrence(rule, per_key, length, chunk):
    batch, shared, heads, width, out = 2, 2, 4, 3, 5
    q, k, v = (
        floats(batch, length, heads * width),
        floats(batch, length, shared * width),
        floats(batch, length, shared * out),
    )
    state = floats(batch, shared, width, out)
    decay = -np.abs(floats(batch, length, shared * (width if per_key else 1)))
    beta = sigmoid(floats(batch, length, shared)).astype(np.float32)
    expected, s = np.zeros((batch, length, heads, out)), state.astype(np.float64)
    for item, turn, head in itertools.product(range(batch), range(length), range(heads)):
        group = head // (heads // shared)
        if head % (heads // shared) == 0:
            key, value = (a[item, turn].reshape(shared, -1)[group].astype(np.float64) for a in (k, v))
            if "gated" in rule:
                s[item, group] *= np.exp(decay[item, turn].reshape(shared, -1)[group].astype(np.float64))[:, None]
            if "delta" in rule:
                value = beta[item, turn, group] * (value - s[item, group].T @ key)
            s[item, group] += np.outer(key, value)
        expected[item, turn, head] = 0.5 * q[item, turn].reshape(heads, -1)[head] @ s[item, group]
    operands = (decay if "gated" in rule else None, beta if "delta" in rule else None)
    attributes = {"q_num_heads": heads, "kv_num_heads": shared, "scale": 0.5, "chunk_size": chunk, "update_rule": rule}
    found = run_node("LinearAttention", q, k, v, state, *operands, outputs=2, opset=27, **attributes)
    close(found[0], expected.reshape(batch, length, -1))
    close(found[1], s)


# ---- windows


def test_columns_are_added_up_to_an_image():
    image, block, strides, dilations, pads = (5, 6), (2, 3), (2, 1), (1, 2), (1, 0, 0, 1)
    padded = np.zeros((2, 3, 6, 7))
    rows, columns = (6 - 2) // 2 + 1, (7 - 5) // 1 + 1
    x = floats(2, 3 * 6, rows * columns)
    for (i, j), (r, c) in itertools.product(np.ndindex(block), np.ndindex(rows, columns)):
        padded[:, :, r * 2 + i, c + j * 2] += x.reshape(2, 3, 2, 3, rows, columns)[:, :, i, j, r, c]
    found = run_node(
        "Col2Im", x, np.array(image), np.array(block), strides=strides, dilations=dilations, pads=pads, opset=18
    )
    close(found, padded[:, :, 1:, :6])


def test_a_deformable_convolution_moved_by_whole_pixels_reads_there():
    x, w, b = floats(1, 4, 6, 7), floats(6, 2, 3, 3), floats(6)
    offset = np.zeros((1, 2 * 3 * 3 * 2, 6, 7), np.float32)
    plain = run_node("Conv", x, w, b, group=2, pads=[1, 1, 1, 1])
    attributes = {"group": 2, "offset_group": 2, "pads": [1, 1, 1, 1]}
    close(run_node("DeformConv", x, w, offset, b, **attributes), plain)
    offset.reshape(1, 2, 9, 2, 6, 7)[:, :, :, 1] = 1  # one column to the right
    moved = run_node("Conv", np.pad(x[..., 1:], [(0, 0)] * 3 + [(0, 1)]), w, b, group=2, pads=[1, 1, 1, 1])
    # at the left edge the pad is no longer read, but the first column
    close(run_node("DeformConv", x, w, offset, b, **attributes)[..., 1:], moved[..., 1:])
    half = np.full((1, 18, 6, 7), 0.5, np.float32)
    close(
        run_node("DeformConv", x, w, np.zeros_like(offset), b, half, **attributes) - b[:, None, None],
        (plain - b[:, None, None]) / 2,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_whole_numbers_are_convolved_exactly(dtype):
    limits = np.iinfo(dtype)
    x, w = (RNG.integers(limits.min, limits.max + 1, shape).astype(dtype) for shape in ((1, 40, 4, 4), (3, 40, 3, 3)))
    xz, wz = np.array(limits.max, dtype), np.array([limits.min, 0, limits.max], dtype)
    wide, filters = x.astype(np.int64) - int(xz), w.astype(np.int64) - wz.astype(np.int64)[:, None, None, None]
    expected = [[[(wide[0, :, r : r + 3, c : c + 3] * f).sum() for c in range(2)] for r in range(2)] for f in filters]
    found = run_node("ConvInteger", x, w, xz, wz)
    assert (found.dtype, found[0].tolist()) == (np.int32, expected)


def test_what_was_pooled_comes_back_to_its_place():
    x = RNG.permutation(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).astype(np.float32) + 1
    largest, places = run_node("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    back = run_node("MaxUnpool", largest, places, kernel_shape=[2, 2], strides=[2, 2])
    kept = x == np.repeat(np.repeat(largest, 2, 2), 2, 3)
    np.testing.assert_array_equal(back, np.where(kept, x, 0))
    columns = run_node("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2], storage_order=1)[1]
    plane, rest = np.divmod(columns, 48)
    np.testing.assert_array_equal(plane * 48 + rest % 6 * 8 + rest // 6, places)


def test_regions_of_a_ramp():
    rows, columns = np.mgrid[:10, :12].astype(np.float32)
    x = np.stack([rows, columns])[None]
    regions, images = np.array([[2, 1, 8, 7]], np.float32), np.array([0])
    found = run_node("RoiAlign", x, regions, images, output_height=3, output_width=2, sampling_ratio=2)
    close(found[0, 0], np.repeat([[1 + 1 - 0.5], [1 + 3 - 0.5], [1 + 5 - 0.5]], 2, 1))
    close(found[0, 1], np.repeat([[2 + 1.5 - 0.5, 2 + 4.5 - 0.5]], 3, 0))
    pooled = run_node("MaxRoiPool", x, np.array([[0, 2, 1, 7, 8]], np.float32), pooled_shape=[2, 3])
    assert pooled[0].tolist() == [[[4] * 3, [8] * 3], [[3, 5, 7]] * 2]


# ---- resizing


@pytest.mark.parametrize("opset", [7, 9, 10, 11])
def test_enlarging_repeats_pixels(opset):
    x = floats(1, 2, 3, 4)
    scales = np.array([1, 1, 2, 3], np.float32)
    expected = x.repeat(2, 2).repeat(3, 3)
    if opset == 7:
        found = run_node("Upsample", x, scales=[1.0, 1.0, 2.0, 3.0], opset=7)
    elif opset == 9:
        found = run_node("Upsample", x, scales, opset=9)
    elif opset == 10:
        found = run_node("Resize", x, scales, opset=10)
    else:
        found = run_node("Resize", x, np.zeros(0, np.float32), scales, opset=11)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
def test_linear_resizing_is_interpolation(mode):
    x = floats(2, 7)
    at = np.arange(11)
    places = {"align_corners": at * 6 / 10, "asymmetric": at * 7 / 11}.get(mode, (at + 0.5) * 7 / 11 - 0.5)
    found = run_node("Resize", x, None, None, np.array([2, 11]), mode="linear", coordinate_transformation_mode=mode)
    close(found, [np.interp(places, np.arange(7), row) for row in x])


def test_cubic_resizing_keeps_a_line_and_whole_numbers_are_rounded():
    x = np.arange(12, dtype=np.float32)[None]
    found = run_node("Resize", x, None, None, np.array([1, 24]), mode="cubic", cubic_coeff_a=-0.5)
    close(found[0, 4:-4], (np.arange(24) + 0.5)[4:-4] / 2 - 0.5)
    whole = run_node("Resize", x.astype(np.uint8) * 20, None, None, np.array([1, 24]), mode="cubic")
    assert whole.dtype == np.uint8
    assert (np.abs(whole[0].astype(int)[4:-4] - 20 * ((np.arange(24) + 0.5)[4:-4] / 2 - 0.5)) <= 4).all()
    assert set(np.flatnonzero(whole[0] > 220)) <= {22, 23}  # what overshoots is kept in range


def test_antialiasing_averages():
    x = floats(1, 12)
    found = run_node("Resize", x, None, None, np.array([1, 4]), mode="linear", antialias=1)
    weights = np.maximum(1 - np.abs(np.arange(-3, 4)) / 3, 0)
    for place, center in ((1, 4), (2, 7)):
        near = x[0, center - 3 : center + 4]
        close(found[0, place], (weights * near).sum() / weights.sum())


def test_a_point_outside_of_the_cropped_region_has_a_value_of_its_own():
    x = floats(4, 4)
    roi = np.array([0, 0.5, 1, 1.5], np.float32)
    found = run_node("Resize", x, roi, None, np.array([4, 4]), mode="nearest",
                     coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)  # fmt: skip
    assert (found[:, 2:] == 9).all()
    np.testing.assert_array_equal(found[:, 0], x[:, 1])


# ---- normalizations


def test_local_response_normalization():
    x = floats(2, 7, 3)
    squares = x.astype(np.float64) ** 2
    for size in (3, 4):
        sums = np.stack([squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1) for c in range(7)], 1)
        found = run_node("LRN", x, size=size, alpha=0.5, beta=0.6, bias=1.5)
        close(found, x / (1.5 + 0.5 / size * sums) ** 0.6)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_layer_normalization(axis, dtype):
    x, scale, bias = (floats(*shape).astype(dtype) for shape in ((2, 3, 8), (3, 8)[axis if axis < 0 else 0 :], (8,)))
    wide = x.astype(np.float64)
    axes = (2,) if axis == -1 else (1, 2)
    mean = wide.mean(axes, keepdims=True)
    deviation = np.sqrt(wide.var(axes, keepdims=True) + 1e-3)
    expected = (wide - mean) / deviation * scale + bias
    found = run_node("LayerNormalization", x, scale, bias, axis=axis, epsilon=1e-3)
    np.testing.assert_allclose(
        found.astype(np.float64), expected, rtol=1e-4 if dtype == np.float32 else 1e-2, atol=2e-3
    )
    whole = run_node("LayerNormalization", x, scale, bias, axis=axis, epsilon=1e-3, outputs=3)
    close(whole[1], mean, rtol=1e-3)
    close(whole[2], 1 / deviation, rtol=1e-3)


def test_group_normalization_scales_groups_or_channels():
    x, scale = floats(2, 6, 5), floats(3)
    wide = x.reshape(2, 3, 10).astype(np.float64)
    unit = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + 1e-5)
    bias = np.zeros(3, np.float32)
    found = run_node("GroupNormalization", x, scale, bias, num_groups=3, opset=18)
    close(found, (unit * scale[:, None]).reshape(x.shape))
    each = floats(6)
    found = run_node("GroupNormalization", x, each, np.zeros(6, np.float32), num_groups=3, opset=21)
    close(found, unit.reshape(x.shape) * each[:, None])
