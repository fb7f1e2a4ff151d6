"""PX_SPLIT16: a vocabulary whose codes are split into nibbles gives what the same weight in whole tiles gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import SPLIT16, TILE16, Packed, Stored, library, pack, run, unpack
from test_linear import FORMATS, each_variant, gaussian, linear, random_blocks, same_bits

from perfxapi import dtypes, quantization

COLUMNS = 256
ROWS = 4999  # several claims of 64 tiles, and a last tile that is not full

each_screened_format = pytest.mark.parametrize("activation_format", ["int8", "int16"])


def both(raw: np.ndarray) -> tuple[Packed, Packed]:
    """The same rows, split and in whole tiles."""
    return pack(raw, dtypes.q8_0, layout=SPLIT16), pack(raw, dtypes.q8_0, layout=TILE16)


def trained(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    """Rows like a trained vocabulary's: of one size, so that the screen has something to rule out."""
    return quantization.quantize(gaussian(rows, COLUMNS, seed=seed), dtypes.q8_0)


def top(
    hidden: np.ndarray, head: Packed, k: int, activation_format: str, *, variant: str = "", softcap: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    values, indices = np.zeros((len(hidden), k), np.float32), np.zeros((len(hidden), k), np.int32)
    attributes = [k, FORMATS[activation_format], softcap]
    assert run("vocab_topk", [hidden, head], [values, indices], attributes, variant, 2) == 0
    return values, indices


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("rows", [1, 16, 31, 160])
def test_unpacking_gives_back_every_byte(rows: int, num_threads: int) -> None:
    source = np.random.default_rng(rows).integers(0, 256, (rows, dtypes.q8_0.row_bytes(384)), dtype=np.uint8)
    packed = pack(source, dtypes.q8_0, num_threads, SPLIT16)
    assert np.array_equal(unpack(packed, num_threads), source)


def test_it_lies_as_documented() -> None:
    raw = random_blocks(dtypes.q8_0, 21, COLUMNS)
    packed = pack(raw, dtypes.q8_0, layout=SPLIT16).tiles
    blocks, num_blocks = quantization.unpack_codes(raw, dtypes.q8_0), COLUMNS // 32
    codes = (blocks.codes.astype(np.int32) + 128 if blocks.codes.min() < 0 else blocks.codes).astype(np.uint8)
    tiles = packed[: 2 * (num_blocks * 288 + 64)].reshape(2, -1)
    low = packed[tiles.size :].reshape(32, num_blocks, 16)
    for row in range(21):
        tile, lane = tiles[row // 16], row % 16
        nibbles = tile[: 256 * num_blocks].reshape(num_blocks, 4, 16, 4)[:, :, lane].reshape(num_blocks, 16)
        found = np.concatenate([nibbles & 15, nibbles >> 4], axis=1) << 4
        found |= np.concatenate([low[row] & 15, low[row] >> 4], axis=1)
        assert np.array_equal(found.reshape(-1), codes[row])
        scales = tile[256 * num_blocks : 288 * num_blocks].view("<f2").reshape(num_blocks, 16)[:, lane]
        assert np.array_equal(scales.astype(np.float32), blocks.scale[row])
        distance = (codes[row].reshape(num_blocks, 32) & 15) - 7.5
        norm = tile[288 * num_blocks :].view("<f4")[lane]
        largest = np.sqrt((distance**2).sum(axis=1).max())
        assert largest <= norm <= largest * (1 + 1e-6)
    assert not low[21:].any()


def test_layouts_and_sizes() -> None:
    lib, q8_0 = library().lib, dtypes.q8_0.code
    assert lib.perfx_packed_layout(q8_0, 262144, 640) == SPLIT16
    assert lib.perfx_packed_layout(q8_0, 262144, 96) == TILE16
    assert lib.perfx_packed_layout(q8_0, 640, 640) == TILE16
    assert lib.perfx_packed_layout(dtypes.q6_k.code, 262144, 768) == TILE16
    assert lib.perfx_packed_bytes(q8_0, SPLIT16, 17, 640) == 2 * (20 * 288 + 64 + 16 * 320)
    assert lib.perfx_packed_bytes(q8_0, SPLIT16, 16, 96) == -1
    assert lib.perfx_packed_bytes(dtypes.q4_0.code, SPLIT16, 16, 128) == -1
    assert lib.perfx_packed_bytes(q8_0, 7, 16, 128) == -1


@each_variant
@pytest.mark.parametrize("activation_format", list(FORMATS))
def test_linear_gives_the_same_bits(variant: str, activation_format: str) -> None:
    split, whole = both(random_blocks(dtypes.q8_0, 53, 384))
    x = gaussian(15, 384)
    for tokens in (1, 2, 3, 4, 7, 8, 12, 15):
        expected = linear(x[:tokens], whole, activation_format)
        assert same_bits(linear(x[:tokens], split, activation_format, variant, 3), expected), f"{tokens} tokens"


@each_variant
def test_embedding_gives_the_same_rows(variant: str) -> None:
    raw = random_blocks(dtypes.q8_0, 50, 128)
    tokens = np.array([0, 49, 17, 16, 15, 3], np.int32)
    results = []
    for table in (pack(raw, dtypes.q8_0, layout=SPLIT16), Stored(raw, dtypes.q8_0, (50, 128))):
        y = np.zeros((6, 128), np.float32)
        assert run("embedding", [tokens, table], [y], [3.0], variant, 2) == 0
        results.append(y)
    assert same_bits(results[0], results[1])


@each_variant
@each_screened_format
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (1, 64), (3, 5), (4, 1), (5, 3)])
def test_the_screen_leaves_the_largest_logits(variant: str, activation_format: str, rows: int, k: int) -> None:
    split, whole = both(trained())
    hidden = gaussian(rows, COLUMNS, seed=k)
    values, indices = top(hidden, split, k, activation_format, variant=variant)
    logits = linear(hidden, whole, activation_format)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert np.array_equal(indices, expected)
    assert same_bits(values, np.take_along_axis(logits, expected, 1))


def all_alike(hidden: np.ndarray, raw: np.ndarray) -> None:
    raw[:] = raw[7]


def zero_hidden(hidden: np.ndarray, raw: np.ndarray) -> None:
    hidden[:] = 0


def nan_in_hidden(hidden: np.ndarray, raw: np.ndarray) -> None:
    hidden[0, 3], hidden[1, 5] = np.nan, np.inf


def tiny_hidden(hidden: np.ndarray, raw: np.ndarray) -> None:
    hidden *= 1e-38


def one_column(hidden: np.ndarray, raw: np.ndarray) -> None:
    hidden[:, 1:] = 0


def strange_scales(hidden: np.ndarray, raw: np.ndarray) -> None:
    """Negative, infinite, NaN and subnormal ones, as a damaged file may hold."""
    scales = raw.reshape(len(raw), -1, 34)[..., :2].copy().view("<u2")[..., 0]
    scales[::7] |= 0x8000
    scales[100, 0], scales[200, 1], scales[300, 2], scales[400] = 0x7C00, 0x7E01, 0xFC00, 3
    raw.reshape(len(raw), -1, 34)[..., :2] = scales[..., None].view(np.uint8)


def near_ties(hidden: np.ndarray, raw: np.ndarray) -> None:
    """Rows that differ from one another in a low bit of a single code."""
    raw[:] = raw[11]
    generator = np.random.default_rng(5)
    raw[np.arange(len(raw)), 34 * generator.integers(0, COLUMNS // 32, len(raw)) + 9] ^= 1


@pytest.mark.parametrize(
    "change", [all_alike, zero_hidden, nan_in_hidden, tiny_hidden, one_column, strange_scales, near_ties]
)
@each_screened_format
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_the_screen_is_exact_where_bounds_are_of_no_use(
    change: Callable[[np.ndarray, np.ndarray], None], activation_format: str, softcap: float
) -> None:
    raw, hidden = trained(), gaussian(2, COLUMNS, seed=9)
    change(hidden, raw)
    split, whole = both(raw)
    values, indices = top(hidden, split, 9, activation_format, softcap=softcap)
    expected_values, expected_indices = top(hidden, whole, 9, activation_format, softcap=softcap)
    assert np.array_equal(indices, expected_indices)
    assert same_bits(values, expected_values)


def test_a_row_gives_the_same_alone_and_among_others() -> None:
    split, _ = both(trained())
    hidden = gaussian(13, COLUMNS, seed=4)
    values, indices = top(hidden, split, 4, "int16")
    for row in range(13):
        alone_values, alone_indices = top(hidden[row : row + 1], split, 4, "int16")
        assert np.array_equal(alone_indices[0], indices[row]) and same_bits(alone_values[0], values[row])
