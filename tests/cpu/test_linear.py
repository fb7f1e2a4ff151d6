"""The matrix products of the cpu backend, bit for bit against the NumPy reference, in every variant."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import VARIANTS, Packed, accepts, pack, run

from perfxapi import dtypes, quantization
from perfxapi.dtypes import DType

gguf = pytest.importorskip("gguf", reason="an oracle of the block layouts")
gguf_quants = pytest.importorskip("gguf.quants")

QUANTIZED = [dtype for dtype in dtypes.ALL if dtype.is_quantized]
IN_GGUF_PACKAGE = [dtype for dtype in QUANTIZED if dtype not in (dtypes.int4_g128, dtypes.q8_k)]
SCALE_BYTES = {
    "q4_k": (1, 3), "q5_k": (1, 3), "q4_1": (1, 3), "q5_1": (1, 3), "q2_k": (81, 83), "q3_k": (109,), "q6_k": (209,),
    "q8_k": (3,), "mxfp4": (0,),
}  # fmt: skip
"""The bytes of a block whose second highest bit, cleared, keeps its scales small enough to be finite."""
FLOATS = [dtypes.float32, dtypes.float16, dtypes.bfloat16]
FORMATS = {"float32": 0, "int8": 1, "int16": 2}
COLUMNS = 512
ROWS = 53  # three whole tiles and a part of one

each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_quantized = pytest.mark.parametrize("dtype", QUANTIZED, ids=lambda dtype: dtype.name)
each_format = pytest.mark.parametrize("activation_format", ["int8", "int16"])


def random_blocks(dtype: DType, rows: int, columns: int = COLUMNS, seed: int = 0) -> np.ndarray:
    """Rows of random bytes, so that every code and scale occurs; scales are kept finite."""
    raw = np.random.default_rng(seed).integers(0, 256, (rows, dtype.row_bytes(columns)), dtype=np.uint8)
    blocks = raw.reshape(rows, -1, dtype.block_bytes)
    for high_byte in SCALE_BYTES.get(dtype.name, (1,)):
        blocks[..., high_byte] &= 0xBF
    return raw


def random_weight(dtype: DType, rows: int, columns: int = COLUMNS, seed: int = 0) -> Packed:
    if dtype.is_quantized:
        return pack(random_blocks(dtype, rows, columns, seed), dtype)
    values = gaussian(rows, columns, seed=seed)
    return pack(dtypes.float32_to_bfloat16(values) if dtype is dtypes.bfloat16 else values.astype(dtype.numpy), dtype)


def values_of(weight: Packed) -> np.ndarray:
    if weight.dtype is dtypes.bfloat16:
        return dtypes.bfloat16_to_float32(weight.rows)
    return weight.rows.astype(np.float32)


def gaussian(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(
    x: np.ndarray, weight: Packed, activation_format: str, variant: str = "", num_threads: int = 1
) -> np.ndarray:
    y = np.full((len(x), weight.shape[0]), np.nan, np.float32)
    assert run("linear", [x, weight], [y], [FORMATS[activation_format]], variant, num_threads) == 0
    return y


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


@each_variant
@each_quantized
@each_format
def test_linear_gives_the_reference_bits_for_any_number_of_tokens(
    variant: str, dtype: DType, activation_format: str
) -> None:
    weight, x = random_weight(dtype, ROWS), gaussian(33, COLUMNS)
    expected = quantization.quantized_linear(x, weight.rows, dtype, activation_format)
    for tokens in range(1, 34):
        y = linear(x[:tokens], weight, activation_format, variant)
        assert same_bits(y, expected[:tokens]), f"{tokens} tokens"


@each_variant
@pytest.mark.parametrize("dtype", [*FLOATS, *QUANTIZED], ids=lambda dtype: dtype.name)
def test_linear_with_float_activations_accumulates_in_order(variant: str, dtype: DType) -> None:
    columns = COLUMNS if dtype.is_quantized else 77
    weight, x = random_weight(dtype, ROWS, columns), gaussian(33, columns)
    values = quantization.dequantize(weight.rows, dtype) if dtype.is_quantized else values_of(weight)
    expected = quantization.float_linear(x, values)
    for tokens in (1, 2, 3, 5, 8, 12, 13, 33):
        assert same_bits(linear(x[:tokens], weight, "float32", variant), expected[:tokens]), f"{tokens} tokens"


@each_variant
@pytest.mark.parametrize("name", ["linear", "gated_linear", "vocab_topk"])
def test_one_token_with_float_activations_stays_in_its_workspace(variant: str, name: str) -> None:
    """More tiles than a thread's scratch memory holds once they are expanded; `run` looks at what lies behind it."""
    rows = 8192
    weight, x = random_weight(dtypes.q8_0, rows), gaussian(1, COLUMNS)
    expected = quantization.float_linear(x, quantization.dequantize(weight.rows, dtypes.q8_0))
    y = np.full((1, rows), np.nan, np.float32)
    if name == "linear":
        assert run(name, [x, weight], [y], [FORMATS["float32"]], variant, 2) == 0
        assert same_bits(y, expected)
    elif name == "gated_linear":
        assert run(name, [x, weight, weight], [y], [FORMATS["float32"], 1], variant, 2) == 0
        assert np.isfinite(y).all()
    else:
        values, indices = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32)
        assert run(name, [x, weight], [values, indices], [1, FORMATS["float32"], 0.0], variant, 2) == 0
        assert (values[0, 0], indices[0, 0]) == (expected.max(), expected.argmax())


@pytest.mark.parametrize("dtype", IN_GGUF_PACKAGE, ids=lambda dtype: dtype.name)
def test_linear_is_close_to_the_product_of_what_gguf_decodes(dtype: DType) -> None:
    source = gaussian(ROWS, COLUMNS, seed=7)
    weight = pack(quantization.quantize(source, dtype), dtype)
    x = gaussian(5, COLUMNS)
    decoded = gguf_quants.dequantize(weight.rows, gguf.GGMLQuantizationType[dtype.name.upper()])
    exact = x.astype(np.float64) @ decoded.astype(np.float64).T
    assert np.abs(linear(x, weight, "int16") - exact).max() < 3e-3
    assert np.abs(linear(x, weight, "int8") - exact).max() < 0.5


@pytest.mark.parametrize("num_threads", [2, 3])
@pytest.mark.parametrize("tokens", [1, 2, 31])
@each_quantized
def test_results_do_not_depend_on_the_number_of_threads(dtype: DType, tokens: int, num_threads: int) -> None:
    weight, x = random_weight(dtype, 531), gaussian(tokens, COLUMNS)
    alone = linear(x, weight, "int16")
    for _ in range(5):
        assert same_bits(linear(x, weight, "int16", num_threads=num_threads), alone)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 33])
def test_any_number_of_rows(rows: int) -> None:
    weight, x = random_weight(dtypes.q5_0, rows, 64), gaussian(3, 64)
    expected = quantization.quantized_linear(x, weight.rows, dtypes.q5_0, "int16")
    assert same_bits(linear(x, weight, "int16", num_threads=2), expected)


@each_variant
@pytest.mark.parametrize("tokens", [1, 7])
def test_rows_of_activations_may_lie_anywhere(variant: str, tokens: int) -> None:
    weight = random_weight(dtypes.q4_k, 40)
    x = gaussian(tokens, COLUMNS)
    raw = np.zeros(tokens * (4 * COLUMNS + 36) + 64, np.uint8)
    strided = np.ndarray((tokens, COLUMNS), np.float32, raw, 4, (4 * COLUMNS + 36, 4))
    strided[...] = x
    y = np.zeros((tokens, 64), np.float32)
    assert run("linear", [strided, weight], [y[:, 3:43]], [FORMATS["int16"]], variant) == 0
    assert same_bits(np.ascontiguousarray(y[:, 3:43]), linear(x, weight, "int16"))
    assert not y[:, :3].any() and not y[:, 43:].any()


@each_variant
@each_format
def test_zero_huge_and_nonfinite_activations(variant: str, activation_format: str) -> None:
    weight = random_weight(dtypes.q8_0, 16, 64)
    x = gaussian(7, 64)
    x[0] = 0
    x[1, 5] = np.nan
    x[2, 40] = np.inf
    x[3] *= 1e37
    x[4] *= 1e-42
    x[5, :32] = -0.0
    expected = quantization.quantized_linear(x, weight.rows, dtypes.q8_0, activation_format)
    together = linear(x, weight, activation_format, variant)
    assert (together[0] == 0).all()
    assert np.isnan(together[1]).all() and np.isnan(together[2]).all()
    np.testing.assert_array_equal(together[[0, 3, 4, 5, 6]], expected[[0, 3, 4, 5, 6]])
    for token in range(7):
        np.testing.assert_array_equal(
            linear(x[token : token + 1], weight, activation_format, variant)[0], together[token]
        )


def test_no_tokens() -> None:
    assert linear(np.zeros((0, 64), np.float32), random_weight(dtypes.q8_0, 16, 64), "int8").shape == (0, 16)


@pytest.mark.parametrize("tokens", [1, 13])
@pytest.mark.parametrize(("dtype", "activation_format"), [(dtypes.float32, "float32"), (dtypes.q8_0, "int8")])
def test_no_columns(dtype: DType, activation_format: str, tokens: int) -> None:
    weight = pack(np.zeros((17, 0), dtype.numpy), dtype)
    assert not linear(np.zeros((tokens, 0), np.float32), weight, activation_format).any()


@each_variant
@pytest.mark.parametrize("tokens", [1, 13])
def test_multi_linear_is_linear_for_each_weight(variant: str, tokens: int) -> None:
    weights = [
        random_weight(dtype, rows, seed=rows)
        for dtype, rows in ((dtypes.q5_0, 40), (dtypes.q6_k, 3), (dtypes.q8_0, 129), (dtypes.q4_k, 16))
    ]
    x = gaussian(tokens, COLUMNS)
    outputs = [np.full((tokens, weight.shape[0]), np.nan, np.float32) for weight in weights]
    assert run("multi_linear", [x, *weights], outputs, [FORMATS["int16"]], variant, 2) == 0
    for weight, y in zip(weights, outputs, strict=True):
        assert same_bits(y, linear(x, weight, "int16"))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@each_variant
@pytest.mark.parametrize(("code", "activation"), [(0, gelu_tanh), (1, silu)], ids=["gelu_tanh", "silu"])
@pytest.mark.parametrize("activation_format", ["float32", "int16"])
def test_gated_linear(variant: str, code: int, activation: object, activation_format: str) -> None:
    gate, up = (
        pack(quantization.quantize(gaussian(ROWS, COLUMNS, seed=seed) / 8, dtypes.q5_0), dtypes.q5_0) for seed in (3, 4)
    )
    x = gaussian(13, COLUMNS)
    results = []
    for tokens in (1, 4, 13):
        y = np.full((tokens, ROWS), np.nan, np.float32)
        assert run("gated_linear", [x[:tokens], gate, up], [y], [FORMATS[activation_format], code], variant, 2) == 0
        results.append(y)
    expected = activation(linear(x, gate, activation_format).astype(np.float64)) * linear(x, up, activation_format)  # type: ignore[operator]
    np.testing.assert_allclose(results[-1], expected, rtol=1e-6, atol=1e-12)
    for y in results:
        assert same_bits(y, results[-1][: len(y)])


def test_all_variants_give_the_same_gate() -> None:
    gate, up, x = random_weight(dtypes.q8_0, ROWS, 64), random_weight(dtypes.q4_0, ROWS, 64), gaussian(5, 64)
    outputs = []
    for variant in VARIANTS:
        outputs.append(np.zeros((5, ROWS), np.float32))
        assert run("gated_linear", [x, gate, up], [outputs[-1]], [FORMATS["int8"], 0], variant) == 0
    assert all(same_bits(y, outputs[0]) for y in outputs)


def test_accepts_only_what_it_computes() -> None:
    weight, x, y = random_weight(dtypes.q8_0, 16, 64), gaussian(2, 64), np.zeros((2, 16), np.float32)
    assert accepts("linear", [x, weight], [y], [1])
    assert not accepts("linear", [x, weight], [y], [3])
    assert not accepts("linear", [x, weight], [y], [])
    assert not accepts("linear", [x[:, :32], weight], [y], [1])
    assert not accepts("linear", [x.astype(np.float64), weight], [y], [1])
    assert not accepts("linear", [np.asfortranarray(x), weight], [y], [1])
    assert not accepts("linear", [x, weight], [y[:, :15]], [1])
    assert not accepts("linear", [x, x[:, :64]], [np.zeros((2, 2), np.float32)], [0])
    assert not accepts("linear", [x, random_weight(dtypes.float32, 16, 64)], [y], [2])
    assert not accepts("gated_linear", [x, weight, random_weight(dtypes.q8_0, 17, 64)], [y], [1, 0])
    assert not accepts("gated_linear", [x, weight, weight], [y], [1, 2])
    assert not accepts("multi_linear", [x, weight, weight], [y], [1])
