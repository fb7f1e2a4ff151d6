"""vocab_topk and embedding of the cpu backend."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import INVALID_ARGUMENT, Packed, Stored, accepts, pack, run
from test_linear import (
    FLOATS,
    FORMATS,
    QUANTIZED,
    each_variant,
    gaussian,
    linear,
    random_blocks,
    random_weight,
    values_of,
)

from perfxapi import dtypes, quantization
from perfxapi.dtypes import DType


def vocab_topk(
    hidden: np.ndarray, head: Packed, k: int, softcap: float = 0.0, variant: str = "", num_threads: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    values = np.full((len(hidden), k), np.nan, np.float32)
    indices = np.full((len(hidden), k), -1, np.int32)
    attributes = [k, FORMATS["int16"], softcap]
    assert run("vocab_topk", [hidden, head], [values, indices], attributes, variant, num_threads) == 0
    return values, indices


def largest(logits: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest, descending, lower index first among equals."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int32)


@each_variant
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (1, 256), (2, 40), (15, 7)])
def test_the_largest_logits(variant: str, rows: int, k: int, num_threads: int) -> None:
    head, hidden = random_weight(dtypes.q8_0, 1501, 64), gaussian(rows, 64)
    logits = linear(hidden, head, "int16")
    values, indices = vocab_topk(hidden, head, k, variant=variant, num_threads=num_threads)
    assert np.array_equal(indices, largest(logits, k))
    assert np.array_equal(values, np.take_along_axis(logits, indices.astype(np.int64), 1))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_of_equal_logits_the_lower_id_comes_first(num_threads: int) -> None:
    distinct = quantization.quantize(gaussian(7, 64), dtypes.q8_0)
    head = pack(np.tile(distinct, (100, 1)), dtypes.q8_0)
    hidden = gaussian(3, 64)
    logits = linear(hidden, head, "int16")
    assert np.array_equal(vocab_topk(hidden, head, 150, num_threads=num_threads)[1], largest(logits, 150))


def test_every_token_can_be_asked_for() -> None:
    head, hidden = random_weight(dtypes.q6_k, 37, 256), gaussian(2, 256)
    assert np.array_equal(np.sort(vocab_topk(hidden, head, 37)[1]), np.tile(np.arange(37), (2, 1)))


@pytest.mark.parametrize("softcap", [30.0, 0.01])
def test_softcap_is_applied_before_the_order(softcap: float) -> None:
    """With the small cap nearly all logits saturate at the same value, and the lowest ids must win."""
    head, hidden = random_weight(dtypes.q4_0, 333, 64), gaussian(2, 64)
    logits = linear(hidden, head, "int16").astype(np.float64)
    capped = (softcap * np.tanh(logits / softcap)).astype(np.float32)
    values, indices = vocab_topk(hidden, head, 9, softcap)
    assert np.array_equal(indices, largest(capped, 9))
    assert np.array_equal(values, np.take_along_axis(capped, indices.astype(np.int64), 1))


def test_nan_is_not_hidden() -> None:
    head, hidden = random_weight(dtypes.q8_0, 100, 64), gaussian(2, 64)
    hidden[0, 3] = np.nan
    values, indices = vocab_topk(hidden, head, 5)
    assert np.isnan(values[0]).all() and np.array_equal(indices[0], np.arange(5))
    assert np.array_equal(values[1], vocab_topk(hidden[1:], head, 5)[0][0])


def test_vocab_topk_declines_what_it_cannot_do() -> None:
    head, hidden = random_weight(dtypes.q8_0, 300, 64), gaussian(2, 64)

    def accepted(k: int, softcap: float = 0.0) -> bool:
        outputs = [np.zeros((2, k), np.float32), np.zeros((2, k), np.int32)]
        return accepts("vocab_topk", [hidden, head], outputs, [k, FORMATS["int8"], softcap])

    assert accepted(256) and not accepted(257) and not accepted(0) and not accepted(5, -1.0)
    assert not accepts(
        "vocab_topk",
        [hidden, random_weight(dtypes.q8_0, 3, 64)],
        [np.zeros((2, 4), np.float32), np.zeros((2, 4), np.int32)],
        [4, 1, 0.0],
    )


@each_variant
@pytest.mark.parametrize("layout", ["tiles", "stored"])
@pytest.mark.parametrize("dtype", [*QUANTIZED, *FLOATS], ids=lambda dtype: dtype.name)
def test_embedding_gathers_scaled_rows(variant: str, dtype: DType, layout: str) -> None:
    packed = random_weight(dtype, 50, 512)
    table = packed if layout == "tiles" else Stored(packed.rows, dtype, packed.shape)
    tokens = np.random.default_rng(2).integers(0, 50, 23).astype(np.int32)
    values = quantization.dequantize(packed.rows, dtype) if dtype.is_quantized else values_of(packed)
    y = np.zeros((23, 512), np.float32)
    assert run("embedding", [tokens, table], [y], [25.298221588134766], variant, 2) == 0
    assert np.array_equal(y, values[tokens] * np.float32(25.298221588134766))


@pytest.mark.parametrize("bad", [-1, 50, np.iinfo(np.int32).max, np.iinfo(np.int32).min])
def test_embedding_refuses_a_token_outside_the_table_and_writes_nothing(bad: int) -> None:
    tokens = np.array([3, 4, 5, 6, 7, 8, 9, bad], np.int32)
    y = np.zeros((8, 64), np.float32)
    assert run("embedding", [tokens, random_weight(dtypes.q8_0, 50, 64)], [y], [1.0], num_threads=2) == INVALID_ARGUMENT
    assert not y.any()


def test_embedding_of_no_tokens() -> None:
    table = Stored(random_blocks(dtypes.q8_0, 5, 64), dtypes.q8_0, (5, 64))
    assert run("embedding", [np.zeros(0, np.int32), table], [np.zeros((0, 64), np.float32)], [1.0]) == 0
