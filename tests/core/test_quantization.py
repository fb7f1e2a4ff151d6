"""Quantized storage types against the gguf package, and quantized products against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfxapi import dtypes, quantization
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError

gguf = pytest.importorskip("gguf", reason="the oracle of the block layouts")
gguf_quants = pytest.importorskip("gguf.quants")

TYPES = [dtype for dtype in dtypes.ALL if dtype.is_quantized]
SIMPLE_TYPES = [dtypes.q4_0, dtypes.q5_0, dtypes.q8_0]
GGUF_TYPES = [dtype for dtype in TYPES if dtype not in (dtypes.int4_g128, dtypes.q8_k)]  # those that the oracle decodes
SCALE_BYTES = {
    "q4_k": (1, 3), "q5_k": (1, 3), "q4_1": (1, 3), "q5_1": (1, 3), "q2_k": (81, 83), "q3_k": (109,), "q6_k": (209,),
    "q8_k": (3,), "mxfp4": (0,),
}  # fmt: skip
each_type = pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
each_format = pytest.mark.parametrize("activation_format", ["int8", "int16"])


def ggml_type(dtype: DType) -> object:
    return gguf.GGMLQuantizationType[dtype.name.upper()]


def random_rows(dtype: DType, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    """Random bytes with finite float16 scales: the exponent's top bit of every byte that may be one is cleared."""
    raw = np.random.default_rng(seed).integers(0, 256, (rows, blocks, dtype.block_bytes), dtype=np.uint8)
    for scale_byte in SCALE_BYTES.get(dtype.name, (1,)):
        raw[..., scale_byte] &= 0xBF
    return raw.reshape(rows, -1)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", GGUF_TYPES, ids=lambda dtype: dtype.name)
def test_dequantize_equals_the_gguf_package_bit_for_bit(dtype: DType) -> None:
    raw = random_rows(dtype, 64, 16)
    expected = gguf_quants.dequantize(raw, ggml_type(dtype))
    np.testing.assert_array_equal(quantization.dequantize(raw, dtype), expected)


def test_mxfp4_has_every_power_of_two() -> None:
    raw = np.zeros((256, 17), np.uint8)
    raw[:, 0], raw[:, 1] = np.arange(256), 0x72  # 1 and 6
    values = quantization.dequantize(raw, dtypes.mxfp4)
    exact = np.ldexp(1.0, np.arange(256) - 127)  # of which float32 has no more than 2^127
    assert values[:255, 0].tolist() == exact[:255].tolist()
    assert values[:253, 16].tolist() == (6 * exact[:253]).tolist()


def test_dequantize_q8_k() -> None:
    raw = random_rows(dtypes.q8_k, 5, 2)
    for row, values in zip(
        raw.reshape(-1, 292), quantization.dequantize(raw, dtypes.q8_k).reshape(-1, 256), strict=True
    ):
        np.testing.assert_array_equal(values, row[:4].copy().view("<f4") * row[4:260].view(np.int8))
    packed = quantization.quantize(gaussian(2, 256), dtypes.q8_k)
    sums = packed[:, 4:260].view(np.int8).reshape(2, 16, 16).sum(axis=2)
    assert packed[:, 260:].view("<i2").tolist() == sums.tolist()


def test_dequantize_int4_g128() -> None:
    raw = random_rows(dtypes.int4_g128, 5, 3)
    for row, values in zip(raw, quantization.dequantize(raw, dtypes.int4_g128), strict=True):
        for column, value in enumerate(values):
            block, place = row[67 * (column // 128) :], column % 128
            byte = int(block[3 + 16 * (place // 32) + place % 16])
            code = byte >> 4 if place % 32 >= 16 else byte & 15
            assert float(value) == (code - int(block[2])) * float(block[:2].copy().view("<f2")[0])


@each_type
def test_dequantize_takes_any_leading_shape(dtype: DType) -> None:
    raw = random_rows(dtype, 6, 2)
    flat = quantization.dequantize(raw, dtype)
    stacked = quantization.dequantize(raw.reshape(2, 3, -1), dtype)
    assert stacked.shape == (2, 3, 2 * dtype.block_size)
    np.testing.assert_array_equal(stacked.reshape(flat.shape), flat)
    np.testing.assert_array_equal(quantization.dequantize(raw[0], dtype), flat[0])
    assert quantization.dequantize(raw[:0], dtype).shape == (0, 2 * dtype.block_size)


@pytest.mark.parametrize("dtype", SIMPLE_TYPES, ids=lambda dtype: dtype.name)
def test_codes_of_simple_types_are_the_nearest(dtype: DType) -> None:
    values = gaussian(32, 256)
    raw = quantization.quantize(values, dtype)
    blocks = quantization.unpack_codes(raw, dtype)
    low, high = -blocks.offset, 255 - blocks.offset if dtype is dtypes.q8_0 else blocks.offset - 1
    levels = np.arange(low, high + 1, dtype=np.float32)
    choices = np.repeat(blocks.scale, 32, axis=1)[..., None] * levels
    best = np.abs(choices - values[..., None]).min(axis=-1)
    error = np.abs(quantization.dequantize(raw, dtype) - values)
    slack = 1e-6 if dtype is not dtypes.q8_0 else 1e-3  # q8_0 never uses -128, which could be nearer by a hair
    assert (error <= best + slack * np.repeat(np.abs(blocks.scale), 32, axis=1)).all()


@pytest.mark.parametrize("dtype", SIMPLE_TYPES, ids=lambda dtype: dtype.name)
def test_quantize_is_as_good_as_the_gguf_package(dtype: DType) -> None:
    values = gaussian(64, 1024)
    theirs = gguf_quants.dequantize(gguf_quants.quantize(values, ggml_type(dtype)), ggml_type(dtype))
    ours = quantization.dequantize(quantization.quantize(values, dtype), dtype)
    assert np.square(ours - values).mean() <= np.square(theirs - values).mean() * 1.0001


LIMITS = {
    "q4_0": 0.09, "q5_0": 0.045, "q8_0": 0.006, "q4_k": 0.073, "q6_k": 0.0175, "int4_g128": 0.11, "q4_1": 0.09,
    "q5_1": 0.045, "q2_k": 0.33, "q3_k": 0.17, "q5_k": 0.037, "q8_k": 0.008, "iq4_nl": 0.08, "iq4_xs": 0.08,
    "mxfp4": 0.14,
}  # fmt: skip


@each_type
def test_quantize_error_on_gaussian_values(dtype: DType) -> None:
    values = gaussian(64, 1024) * np.float32(0.03)
    error = quantization.dequantize(quantization.quantize(values, dtype), dtype) - values
    assert math.sqrt(np.square(error).mean()) < LIMITS[dtype.name] * values.std()


@each_type
def test_quantize_of_what_a_type_can_hold_is_exact(dtype: DType) -> None:
    raw = quantization.quantize(gaussian(8, 512), dtype)
    again = quantization.dequantize(quantization.quantize(quantization.dequantize(raw, dtype), dtype), dtype)
    values = quantization.dequantize(raw, dtype)
    tolerance = 0 if dtype in SIMPLE_TYPES else 0.02 * values.std()
    assert np.sqrt(np.square(again - values).mean()) <= tolerance


@each_type
def test_quantize_of_edge_values(dtype: DType) -> None:
    for values in (np.zeros((2, 512)), np.full((2, 512), 1e-30), np.full((1, 256), 2.5), np.full((1, 256), -2.5)):
        back = quantization.dequantize(quantization.quantize(values, dtype), dtype)
        np.testing.assert_allclose(back, values, rtol=0.01 if dtype is not dtypes.mxfp4 else 0.2, atol=1e-6)
    assert quantization.quantize(np.zeros((0, 256)), dtype).shape == (0, dtype.row_bytes(256))


@each_type
def test_quantize_refuses_what_it_cannot_store(dtype: DType) -> None:
    for bad in (np.nan, np.inf, -np.inf, *([] if dtype is dtypes.q8_k else [3e38])):  # q8_k has float32 scales
        values = np.zeros((1, 256), np.float32)
        values[0, 7] = bad
        with pytest.raises(InvalidArgumentError, match="values"):
            quantization.quantize(values, dtype)
    with pytest.raises(InvalidArgumentError, match="multiple"):
        quantization.quantize(np.zeros((1, 40)), dtype)
    with pytest.raises(InvalidArgumentError, match="multiple"):
        quantization.quantize(1.0, dtype)


@each_type
def test_unpack_refuses_partial_blocks(dtype: DType) -> None:
    with pytest.raises(InvalidArgumentError, match="whole"):
        quantization.unpack_codes(np.zeros(dtype.block_bytes + 1, np.uint8), dtype)
    with pytest.raises(InvalidArgumentError, match="uint8"):
        quantization.unpack_codes(np.zeros(dtype.block_bytes, np.float32), dtype)
    with pytest.raises(InvalidArgumentError, match="float32"):
        quantization.unpack_codes(np.zeros(dtype.block_bytes, np.uint8), dtypes.float32)


def round_to_float32(value: Fraction) -> Fraction:
    """Correct rounding to a normal float32, ties to even."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value)))
    exponent += (abs(value) >= Fraction(2) ** (exponent + 1)) - (abs(value) < Fraction(2) ** exponent)
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def scalar_product(codes: np.ndarray, scales: np.ndarray, blocks: quantization.QuantizedBlocks) -> float:
    """One element of a quantized product, in rational arithmetic with a rounding wherever the contract has one."""
    total = Fraction(0)
    for block in range(blocks.scale.shape[0]):
        part = slice(block * blocks.sub_block, (block + 1) * blocks.sub_block)
        scale = Fraction(float(scales[block * blocks.sub_block // 32]))
        dot = sum((int(w) - blocks.offset) * int(c) for w, c in zip(blocks.codes[part], codes[part], strict=True))
        product = round_to_float32(Fraction(float(blocks.scale[block])) * scale)
        total = round_to_float32(round_to_float32(Fraction(dot)) * product + total)
        if blocks.minimum is not None:
            code_sum = round_to_float32(scale * round_to_float32(Fraction(int(codes[part].sum()))))
            total = round_to_float32(-Fraction(float(blocks.minimum[block])) * code_sum + total)
    return float(total)


@each_type
@each_format
def test_quantized_linear_equals_rational_arithmetic(dtype: DType, activation_format: str) -> None:
    x = gaussian(3, 512, seed=1)
    raw = quantization.quantize(gaussian(5, 512, seed=2), dtype)
    codes, scales = quantization.quantize_activations(x, activation_format)
    expected = np.empty((3, 5), np.float32)
    for row in range(5):
        blocks = quantization.unpack_codes(raw[row], dtype)
        expected[:, row] = [scalar_product(codes[token], scales[token], blocks) for token in range(3)]
    np.testing.assert_array_equal(quantization.quantized_linear(x, raw, dtype, activation_format), expected)


@each_type
@pytest.mark.parametrize(("activation_format", "limit"), [("float32", 1e-5), ("int8", 0.03), ("int16", 2e-4)])
def test_quantized_linear_is_near_the_float64_product(dtype: DType, activation_format: str, limit: float) -> None:
    x, raw = gaussian(4, 768, seed=3), quantization.quantize(gaussian(600, 768, seed=4), dtype)
    exact = x.astype(np.float64) @ quantization.dequantize(raw, dtype).astype(np.float64).T
    error = quantization.quantized_linear(x, raw, dtype, activation_format) - exact
    assert np.abs(error).max() < limit * exact.std()


@each_type
@pytest.mark.parametrize("activation_format", ["float32", "int8", "int16"])
def test_a_row_does_not_depend_on_its_batch(dtype: DType, activation_format: str) -> None:
    x, raw = gaussian(65, 256, seed=5), quantization.quantize(gaussian(700, 256, seed=6), dtype)
    together = quantization.quantized_linear(x, raw, dtype, activation_format)
    for token in (0, 31, 64):
        alone = quantization.quantized_linear(x[token : token + 1], raw, dtype, activation_format)
        np.testing.assert_array_equal(alone[0], together[token])


@each_format
def test_activation_codes(activation_format: str) -> None:
    levels = quantization.ACTIVATION_LEVELS[activation_format]
    x = np.zeros((2, 64), np.float32)
    x[0, :4] = [-4.0, 2.0, 1.0, 0.0]
    codes, scales = quantization.quantize_activations(x, activation_format)
    assert codes[0, :4].tolist() == [-levels, round(levels / 2), round(levels / 4), 0]
    assert scales.tolist() == [[np.float32(4) / np.float32(levels), 0], [0, 0]]
    assert not codes[1].any()


@each_format
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_make_their_row_nan(activation_format: str, bad: float) -> None:
    x, raw = gaussian(2, 256), quantization.quantize(gaussian(3, 256), dtypes.q8_0)
    expected = quantization.quantized_linear(x, raw, dtypes.q8_0, activation_format)[1]
    x[0, 100] = bad
    result = quantization.quantized_linear(x, raw, dtypes.q8_0, activation_format)
    assert np.isnan(result[0]).all()
    np.testing.assert_array_equal(result[1], expected)


def test_linear_refuses_shapes_and_formats_that_do_not_fit() -> None:
    raw = quantization.quantize(gaussian(3, 64), dtypes.q8_0)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        quantization.quantized_linear(gaussian(1, 32), raw, dtypes.q8_0, "int8")
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        quantization.quantized_linear(gaussian(1, 64), raw[0], dtypes.q8_0, "int8")
    with pytest.raises(InvalidArgumentError, match="activation_format"):
        quantization.quantized_linear(gaussian(1, 64), raw, dtypes.q8_0, "int4")
    with pytest.raises(InvalidArgumentError, match="multiple of 32"):
        quantization.quantize_activations(gaussian(1, 33), "int8")
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        quantization.float_linear(gaussian(1, 32), gaussian(3, 64))


normal_float32 = st.floats(width=32, min_value=2.0**-40, max_value=2.0**40).map(np.float32)


@given(normal_float32, normal_float32, normal_float32, st.booleans())
def test_fused_multiply_add_rounds_once(a: np.float32, b: np.float32, c: np.float32, negative: bool) -> None:
    a = -a if negative else a
    exact = round_to_float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
    result = quantization.fused_multiply_add(*(np.array([value]) for value in (a, b, c)))
    assert float(result[0]) == float(exact)


def test_fused_multiply_add_where_two_roundings_err() -> None:
    # 2^30 + 2^6 lies halfway between two float32; the product's last bits, lost in float64, decide the direction.
    c = np.array([2.0**30], np.float32)
    b = np.array([2.0**6], np.float32)
    for bump, expected in ((1 + 2.0**-23, 2.0**30 + 2.0**7), (1 - 2.0**-24, 2.0**30)):
        a = np.array([bump], np.float32)
        assert float(quantization.fused_multiply_add(a, b, c)[0]) == expected
    tiny, one = np.array([1 + 2.0**-23], np.float32), np.array([2.0**-24 * (1 + 2.0**-23)], np.float32)
    below = np.array([2.0**-24 * (1 - 2.0**-24)], np.float32)
    assert float(quantization.fused_multiply_add(tiny, one, np.array([1.0], np.float32))[0]) == 1 + 2.0**-23
    assert float(quantization.fused_multiply_add(tiny, below, np.array([1.0], np.float32))[0]) == 1 + 2.0**-23
    assert float(quantization.fused_multiply_add(tiny, -one, np.array([1.0], np.float32))[0]) == 1 - 2.0**-24


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_float_linear_is_a_chain_of_fused_multiply_adds(tokens: int, columns: int, rows: int, seed: int) -> None:
    x, weight = gaussian(tokens, columns, seed=seed), gaussian(rows, columns, seed=seed + 1)
    total = Fraction(0)
    for a, b in zip(x[-1], weight[-1], strict=True):
        total = round_to_float32(Fraction(float(a)) * Fraction(float(b)) + total)
    assert float(quantization.float_linear(x, weight)[-1, -1]) == float(total)
