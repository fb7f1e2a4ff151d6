"""PX_TILE16: packing loses nothing, pads with zeros, and lies as perfx/packing.h says."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import TILE16, library, pack, unpack
from test_linear import FLOATS, QUANTIZED, random_blocks, random_weight

from perfxapi import dtypes, quantization
from perfxapi.dtypes import DType

each_dtype = pytest.mark.parametrize("dtype", [*QUANTIZED, *FLOATS], ids=lambda dtype: dtype.name)


@each_dtype
@pytest.mark.parametrize("rows", [1, 16, 31, 160])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_unpacking_gives_back_every_byte(dtype: DType, rows: int, num_threads: int) -> None:
    if dtype.is_quantized:
        source = np.random.default_rng(rows).integers(0, 256, (rows, dtype.row_bytes(768)), dtype=np.uint8)
    else:
        bits = np.random.default_rng(rows).integers(0, 1 << 16, (rows, 34), dtype=np.uint16)
        source = bits if dtype is dtypes.bfloat16 else np.ascontiguousarray(bits).view(dtype.numpy)
    packed = pack(source, dtype, num_threads)
    assert np.array_equal(unpack(packed, num_threads).view(np.uint8), source.view(np.uint8))


@each_dtype
def test_rows_of_padding_are_zero(dtype: DType) -> None:
    whole = random_weight(dtype, 32, 256)
    other = whole.rows.copy()
    other.view(np.uint8)[19:] ^= 255  # so that no bit of these rows is set in both
    expected = whole.tiles & pack(other, dtype).tiles
    assert np.array_equal(pack(whole.rows[:19], dtype).tiles, expected)


def test_q5_0_lies_as_documented() -> None:
    raw = random_blocks(dtypes.q5_0, 16, 64)
    tiles = pack(raw, dtypes.q5_0).tiles.reshape(2, 352)
    blocks = quantization.unpack_codes(raw, dtypes.q5_0)
    for block in range(2):
        nibbles, plane = tiles[block, 32:288].reshape(4, 16, 4), tiles[block, 288:].view("<u8")
        for group in range(8):
            codes = blocks.codes[:, 32 * block + 4 * group : 32 * block + 4 * group + 4]
            assert np.array_equal(nibbles[group % 4] >> (4 * (group // 4)) & 15, codes & 15)
            bits = np.array([int(plane[group]) >> bit & 1 for bit in range(64)]).reshape(16, 4)
            assert np.array_equal(bits, codes >> 4)
        assert np.array_equal(tiles[block, :32].view("<f2").astype(np.float32), blocks.scale[:, block])


def test_q6_k_lies_as_documented() -> None:
    raw = random_blocks(dtypes.q6_k, 16, 256)
    tile = pack(raw, dtypes.q6_k).tiles
    blocks = quantization.unpack_codes(raw, dtypes.q6_k)
    d = tile[:32].view("<f2").astype(np.float32)
    assert np.array_equal(tile[32:288].view(np.int8).reshape(16, 16) * d, blocks.scale.T)
    for part in range(8):
        nibbles, crumbs = np.split(tile[288 + 384 * part :][:384].reshape(6, 16, 4), [4])
        for group in range(8):
            codes = blocks.codes[:, 32 * part + 4 * group :][:, :4]
            assert np.array_equal(nibbles[group % 4] >> (4 * (group // 4)) & 15, codes & 15)
            assert np.array_equal(crumbs[group // 4] >> (2 * (group % 4)) & 3, codes >> 4)


def test_q4_k_lies_as_documented() -> None:
    raw = random_blocks(dtypes.q4_k, 16, 256)
    tile = pack(raw, dtypes.q4_k).tiles
    blocks = quantization.unpack_codes(raw, dtypes.q4_k)
    d, dmin = (tile[start : start + 32].view("<f2").astype(np.float32) for start in (0, 32))
    assert np.array_equal(tile[64:192].reshape(8, 16) * d, blocks.scale.T)
    assert blocks.minimum is not None
    assert np.array_equal(tile[192:320].reshape(8, 16) * dmin, blocks.minimum.T)


@pytest.mark.parametrize(
    ("dtype", "start", "part_bytes"), [(dtypes.q5_1, 320, 0), (dtypes.q5_k, 576, 320), (dtypes.q3_k, 416, 192)]
)
def test_bit_planes_lie_as_documented(dtype: DType, start: int, part_bytes: int) -> None:
    raw = random_blocks(dtype, 16, 256)
    tile = pack(raw, dtype).tiles
    codes = quantization.unpack_codes(raw, dtype).codes >> (2 if dtype is dtypes.q3_k else 4)
    for part in range(1 if part_bytes == 0 else 8):
        plane = tile[start + part_bytes * part :][:64]
        for group in range(8):
            bits = np.unpackbits(plane[8 * group : 8 * group + 8], bitorder="little").reshape(16, 4)
            assert np.array_equal(bits, codes[:, 32 * part + 4 * group :][:, :4])


def test_int4_g128_lies_as_documented() -> None:
    raw = random_blocks(dtypes.int4_g128, 16, 128)
    tile, blocks = pack(raw, dtypes.int4_g128).tiles, quantization.unpack_codes(raw, dtypes.int4_g128)
    assert blocks.minimum is not None
    scale, zero = tile[:32].view("<f2").astype(np.float32), tile[32:48]
    assert np.array_equal(np.repeat(scale[:, None], 4, axis=1), blocks.scale)
    assert np.array_equal(np.repeat((scale * zero)[:, None], 4, axis=1), blocks.minimum)
    for part in range(4):
        nibbles = tile[48 + 256 * part :][:256].reshape(4, 16, 4)
        for group in range(8):
            codes = blocks.codes[:, 32 * part + 4 * group :][:, :4]
            assert np.array_equal(nibbles[group % 4] >> (4 * (group // 4)) & 15, codes)


def test_sizes() -> None:
    lib = library().lib
    assert lib.perfx_packed_bytes(dtypes.q5_0.code, TILE16, 17, 640) == 2 * 20 * 352
    assert lib.perfx_packed_bytes(dtypes.q4_k.code, TILE16, 16, 512) == 2 * 2368
    assert lib.perfx_packed_bytes(dtypes.int4_g128.code, TILE16, 16, 256) == 2 * 1072
    assert lib.perfx_packed_bytes(dtypes.int4_g128.code, TILE16, 16, 64) == -1
    assert lib.perfx_packed_bytes(dtypes.float16.code, TILE16, 1, 3) == 96
    assert lib.perfx_packed_bytes(dtypes.q8_0.code, TILE16, 0, 32) == 0
    assert lib.perfx_packed_bytes(dtypes.q4_k.code, TILE16, 16, 128) == -1
    assert lib.perfx_packed_bytes(dtypes.int8.code, TILE16, 16, 32) == -1
    assert lib.perfx_packed_bytes(dtypes.q8_0.code, TILE16, -1, 32) == -1
    assert lib.perfx_packed_bytes(dtypes.q8_0.code, TILE16, 1 << 62, 1 << 20) == -1
