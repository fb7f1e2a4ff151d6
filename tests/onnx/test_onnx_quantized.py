"""Quantization: formulas in exact arithmetic, each type, each granularity."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto
from onnx_files import run_node

RNG = np.random.default_rng(3)
RANGES = {
    "uint8": (np.uint8, 0, 255),
    "int8": (np.int8, -128, 127),
    "uint16": (np.uint16, 0, 65535),
    "int16": (np.int16, -32768, 32767),
    "uint4": (ml_dtypes.uint4, 0, 15),
    "int4": (ml_dtypes.int4, -8, 7),
    "int2": (ml_dtypes.int2, -2, 1),
}


def quantized(x, scale, zero, low, high):
    """By exact fractions, ties to even."""
    return min(max(round(Fraction(float(x)) / Fraction(float(scale))) + int(zero), low), high)


@pytest.mark.parametrize("name", RANGES)
def test_quantize(name):
    dtype, low, high = RANGES[name]
    x = (np.arange(-60, 60) / 4).astype(np.float32) * (high / 8)
    scale, zero = np.float32(0.5), np.array(min(1, high), dtype)
    found = run_node("QuantizeLinear", x, scale, zero, opset=25)
    assert found.dtype == np.dtype(dtype)
    assert found.astype(np.int64).tolist() == [quantized(value, scale, zero, low, high) for value in x]
    back = run_node("DequantizeLinear", found, scale, zero, opset=25)
    np.testing.assert_array_equal(back, (found.astype(np.float32) - np.float32(zero)) * scale)


@pytest.mark.parametrize("block", [0, 3])
def test_scales_of_an_axis_or_of_blocks(block):
    x = RNG.standard_normal((2, 8, 3)).astype(np.float32)
    count = 3 if block else 8
    scale = RNG.choice([0.25, 0.5, 1], (2, count, 3) if block else (8,)).astype(np.float32)
    zero = RNG.integers(100, 150, scale.shape).astype(np.uint8)
    more = {"block_size": 3} if block else {}
    wide = [np.repeat(a, 3, 1)[:, :8] if block else a[:, None] for a in (scale, zero)]
    expected = np.clip(np.rint(x / wide[0]) + wide[1], 0, 255)
    found = run_node("QuantizeLinear", x, scale, zero, axis=1, opset=21, **more)
    np.testing.assert_array_equal(found, expected)
    back = run_node("DequantizeLinear", found, scale, zero, axis=1, opset=21, **more)
    np.testing.assert_array_equal(back, (expected.astype(np.float32) - wide[1]) * wide[0])


def test_the_precision_of_the_division_can_be_chosen():
    x, scale = np.array([1000.0], np.float32), np.array(0.3, np.float16)
    wide = run_node("QuantizeLinear", x, scale, np.array(0, np.int16), precision=TensorProto.FLOAT, opset=23)
    assert wide.tolist() == [round(1000 / float(scale))]
    narrow = run_node("QuantizeLinear", x, scale, np.array(0, np.int16), opset=23)
    assert narrow.tolist() == [round(float(np.float16(1000) / scale))]


def test_large_whole_numbers_are_dequantized_exactly():
    x = np.array([2**24 + 1, -(2**30)], np.int32)
    found = run_node("DequantizeLinear", x, np.float32(1))
    np.testing.assert_array_equal(found, x.astype(np.float32))


@pytest.mark.parametrize("inner", [7, 300])
def test_products_of_whole_numbers_are_exact(inner):
    a, b = RNG.integers(0, 256, (2, 3, inner)).astype(np.uint8), RNG.integers(-128, 128, (inner, 4)).astype(np.int8)
    az, bz = np.array([0, 255, 7], np.uint8), np.array([-128, 0, 127, 1], np.int8)
    expected = (a.astype(np.int64) - az[:, None]) @ (b.astype(np.int64) - bz)
    np.testing.assert_array_equal(run_node("MatMulInteger", a, b, az, bz), expected)
    assert run_node("MatMulInteger", a, b).dtype == np.int32
    scales = np.float32(0.02), np.array([0.5, 0.25, 1, 2], np.float32), np.float32(3)
    found = run_node("QLinearMatMul", a, scales[0], az, b, scales[1], bz, scales[2], np.array(100, np.uint8), opset=21)
    real = expected * (np.float64(scales[0]) * scales[1] / scales[2])
    wanted = np.clip(np.rint(real) + 100, 0, 255)
    assert np.abs(found - wanted).max() <= 1  # where the quotient is next to a half, float32 rounds either way
    assert (found != wanted).mean() < 0.02


def test_a_scale_is_found_for_what_there_is():
    x = np.array([-1, 0, 3], np.float32)
    y, scale, zero = run_node("DynamicQuantizeLinear", x, outputs=3)
    assert (y.tolist(), zero.item()) == ([0, 64, 255], 64)
    np.testing.assert_allclose(scale, 4 / 255, rtol=1e-6)
    y, scale, zero = run_node("DynamicQuantizeLinear", np.zeros(2, np.float32), outputs=3)
    assert (y.tolist(), scale.item(), zero.item()) == ([0, 0], 0, 0)
