"""Types in blocks of 32 columns, and int4_g128.

Byte layouts are GGUF's (ggml-common.h of the ggml project); that of int4_g128 is in `perfx/packing.h`. MXFP4 is the
"Microscaling Formats" specification's (Open Compute Project 2023): FP4 numbers (E2M1) with a power of two for each 32.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perfxapi.dtypes import DType, int4_g128, iq4_nl, mxfp4, q4_0, q4_1, q5_0, q5_1, q8_0
from perfxapi.quantization.blocks import (
    FLOAT16_MAX,
    FOUR,
    NIBBLE,
    Bytes,
    Floats,
    Layout,
    QuantizedBlocks,
    float16_at,
    float16_bytes,
    fold_nibbles,
    nibbles,
    stored_scale,
)
from perfxapi.quantization.fitting import extreme, fit_table, nearest, nearest_in_table

IQ4_VALUES: Final = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
"""What the codes of iq4_nl and iq4_xs stand for."""

_FP4_VALUES: Final = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)  # twice the number
_FP4_MAX = 2.0**127  # keeps products of the largest scale and number finite


def _unpack_q4_0(blocks: Bytes) -> QuantizedBlocks:
    return QuantizedBlocks(nibbles(blocks[..., 2:]), 8, float16_at(blocks, 0), None, 32)


def _unpack_q5_0(blocks: Bytes) -> QuantizedBlocks:
    high = np.unpackbits(blocks[..., 2:6], axis=-1, bitorder="little")
    return QuantizedBlocks(nibbles(blocks[..., 6:]) | high << FOUR, 16, float16_at(blocks, 0), None, 32)


def _unpack_q8_0(blocks: Bytes) -> QuantizedBlocks:
    return QuantizedBlocks(blocks[..., 2:] ^ np.uint8(0x80), 128, float16_at(blocks, 0), None, 32)


def _unpack_int4_g128(blocks: Bytes) -> QuantizedBlocks:
    codes = nibbles(blocks[..., 3:].reshape(*blocks.shape[:-1], 4, 16))
    scale = np.repeat(float16_at(blocks, 0), 4, axis=-1)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(codes, 0, scale, scale * blocks[..., 2:3], 32)


def _symmetric_codes(values: Floats, levels: int) -> tuple[Floats, Bytes]:
    """Float16 scales and codes 0 .. 2 * levels - 1: the value of largest magnitude becomes code 0, that is -levels."""
    scale = stored_scale(extreme(values) / np.float32(-levels))
    return scale, (nearest(values, scale, -levels, levels - 1) + levels).astype(np.uint8)


def _pack_q4_0(values: Floats) -> Bytes:
    scale, codes = _symmetric_codes(values, 8)
    return np.concatenate([float16_bytes(scale), fold_nibbles(codes)], axis=1)


def _pack_q5_0(values: Floats) -> Bytes:
    scale, codes = _symmetric_codes(values, 16)
    high = np.packbits(codes >> 4, axis=1, bitorder="little")
    return np.concatenate([float16_bytes(scale), high, fold_nibbles(codes & NIBBLE)], axis=1)


def _pack_q8_0(values: Floats) -> Bytes:
    scale = stored_scale(np.abs(values).max(axis=1, keepdims=True) / np.float32(127))
    codes = nearest(values, scale, -127, 127).astype(np.int8)
    return np.concatenate([float16_bytes(scale), codes.view(np.uint8)], axis=1)


def _pack_int4_g128(values: Floats) -> Bytes:
    low = np.minimum(values.min(axis=1, keepdims=True), 0)
    span = np.maximum(values.max(axis=1, keepdims=True), 0) - low
    scale = stored_scale(span / np.float32(15))
    zero = nearest(-low, scale, 0, 15)
    codes = np.clip(nearest(values, scale, -15, 15) + zero, 0, 15).astype(np.uint8)
    nibbles = fold_nibbles(codes.reshape(-1, 4, 32)).reshape(-1, 64)
    return np.concatenate([float16_bytes(scale), zero.astype(np.uint8), nibbles], axis=1)


def look_up(codes: Bytes, values: Floats, offset: int) -> Bytes:
    """What codes stand for, `offset` added."""
    return (values + offset).astype(np.uint8)[codes]


def _unpack_q4_1(blocks: Bytes) -> QuantizedBlocks:
    return QuantizedBlocks(nibbles(blocks[..., 4:]), 0, float16_at(blocks, 0), -float16_at(blocks, 2), 32)


def _unpack_q5_1(blocks: Bytes) -> QuantizedBlocks:
    high = np.unpackbits(blocks[..., 4:8], axis=-1, bitorder="little")
    codes = nibbles(blocks[..., 8:]) | high << FOUR
    return QuantizedBlocks(codes, 0, float16_at(blocks, 0), -float16_at(blocks, 2), 32)


def _unpack_iq4_nl(blocks: Bytes) -> QuantizedBlocks:
    codes = look_up(nibbles(blocks[..., 2:]), IQ4_VALUES, 128)
    return QuantizedBlocks(codes, 128, float16_at(blocks, 0), None, 32)


def _unpack_mxfp4(blocks: Bytes) -> QuantizedBlocks:
    codes = look_up(nibbles(blocks[..., 1:]), _FP4_VALUES, 16)
    scale = np.ldexp(np.float32(1), blocks[..., :1].astype(np.int32) - 128)
    return QuantizedBlocks(codes, 16, scale, None, 32)


def _range_codes(values: Floats, levels: int) -> tuple[Floats, Floats, Bytes]:
    """Float16 scale and minimum [n, 1] of each row's range, and codes 0 .. levels."""
    low = stored_scale(values.min(axis=1, keepdims=True))
    scale = stored_scale((values.max(axis=1, keepdims=True) - low) / np.float32(levels))
    return scale, low, nearest(values - low, scale, 0, levels).astype(np.uint8)


def _pack_q4_1(values: Floats) -> Bytes:
    scale, low, codes = _range_codes(values, 15)
    return np.concatenate([float16_bytes(scale), float16_bytes(low), fold_nibbles(codes)], axis=1)


def _pack_q5_1(values: Floats) -> Bytes:
    scale, low, codes = _range_codes(values, 31)
    high = np.packbits(codes >> FOUR, axis=1, bitorder="little")
    return np.concatenate([float16_bytes(scale), float16_bytes(low), high, fold_nibbles(codes & NIBBLE)], axis=1)


def _pack_iq4_nl(values: Floats) -> Bytes:
    scale = stored_scale(fit_table(values, IQ4_VALUES))
    codes = nearest_in_table(values, scale, IQ4_VALUES)
    return np.concatenate([float16_bytes(scale), fold_nibbles(codes)], axis=1)


def _pack_mxfp4(values: Floats) -> Bytes:
    """The specification's conversion: the exponent of the largest magnitude, less that of the largest FP4 number."""
    _, exponent = np.frexp(np.abs(values).max(axis=1, keepdims=True))  # largest magnitude in [2^(e - 1), 2^e)
    exponent = np.clip(exponent - 1 - 2 + 127, 0, 254)
    magnitudes = nearest_in_table(np.abs(values), np.ldexp(np.float32(1), exponent - 128), _FP4_VALUES[:8])
    codes = magnitudes | np.signbit(values).astype(np.uint8) << np.uint8(3)
    return np.concatenate([exponent.astype(np.uint8), fold_nibbles(codes)], axis=1)


SIMPLE_LAYOUTS: Final[dict[DType, Layout]] = {
    q4_0: Layout(_unpack_q4_0, _pack_q4_0, 8 * FLOAT16_MAX),
    q4_1: Layout(_unpack_q4_1, _pack_q4_1, FLOAT16_MAX),
    q5_0: Layout(_unpack_q5_0, _pack_q5_0, 16 * FLOAT16_MAX),
    q5_1: Layout(_unpack_q5_1, _pack_q5_1, FLOAT16_MAX),
    q8_0: Layout(_unpack_q8_0, _pack_q8_0, 127 * FLOAT16_MAX),
    iq4_nl: Layout(_unpack_iq4_nl, _pack_iq4_nl, 113 * FLOAT16_MAX),
    mxfp4: Layout(_unpack_mxfp4, _pack_mxfp4, _FP4_MAX),
    int4_g128: Layout(_unpack_int4_g128, _pack_int4_g128, 7 * FLOAT16_MAX),
}
