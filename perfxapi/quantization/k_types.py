"""Types in blocks of 256 columns, whose sub-blocks have scales of their own.

Byte layouts are GGUF's (ggml-common.h of the ggml project).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perfxapi.dtypes import DType, iq4_xs, q2_k, q3_k, q4_k, q5_k, q6_k, q8_k
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
from perfxapi.quantization.fitting import extreme, fit_symmetric, fit_table, fit_with_minimum, nearest, nearest_in_table
from perfxapi.quantization.simple_types import IQ4_VALUES, look_up

_PAIR_SHIFTS = np.array([[0], [2], [4], [6]], np.uint8)  # where pairs of bits of four groups of columns are kept
_BITS = np.arange(8, dtype=np.uint8)[:, None]


def _pairs(packed: Bytes) -> Bytes:
    """Two-bit codes [..., 256] out of 64 bytes, of which 32 hold four sub-blocks of 32 columns."""
    codes = packed.reshape(*packed.shape[:-1], 2, 1, 32) >> _PAIR_SHIFTS & np.uint8(3)
    return codes.reshape(*packed.shape[:-1], 256)


def _fold_pairs(codes: Bytes) -> Bytes:
    """The inverse of `_pairs`: [n, 256] to [n, 64]."""
    packed: Bytes = np.bitwise_or.reduce(codes.reshape(-1, 2, 4, 32) << _PAIR_SHIFTS, axis=2)
    return packed.reshape(-1, 64)


def _plane(packed: Bytes) -> Bytes:
    """Bits [..., 256] out of 32 bytes: bit s of byte i is that of column i of the sub-block s of 32."""
    bits = packed[..., None, :] >> _BITS & np.uint8(1)
    return bits.reshape(*packed.shape[:-1], 256)


def _fold_plane(bits: Bytes) -> Bytes:
    """The inverse of `_plane`: [n, 256] to [n, 32]."""
    packed: Bytes = np.bitwise_or.reduce(bits.reshape(-1, 8, 32) << _BITS, axis=1)
    return packed


def _six_bit_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """The eight scales and minima of a q4_k or q5_k block."""
    low, middle, high = (blocks[..., start : start + 4] for start in (4, 8, 12))
    scale = np.concatenate([low & np.uint8(63), (high & NIBBLE) | (low >> np.uint8(6)) << FOUR], axis=-1)
    minimum = np.concatenate([middle & np.uint8(63), high >> FOUR | (middle >> np.uint8(6)) << FOUR], axis=-1)
    with np.errstate(invalid="ignore"):
        return float16_at(blocks, 0) * scale, float16_at(blocks, 2) * minimum


def _unpack_q4_k(blocks: Bytes) -> QuantizedBlocks:
    scale, minimum = _six_bit_scales(blocks)
    return QuantizedBlocks(nibbles(blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 32)), 0, scale, minimum, 32)


def _unpack_q5_k(blocks: Bytes) -> QuantizedBlocks:
    scale, minimum = _six_bit_scales(blocks)
    low = nibbles(blocks[..., 48:].reshape(*blocks.shape[:-1], 4, 32)).reshape(*blocks.shape[:-1], 256)
    return QuantizedBlocks(low | _plane(blocks[..., 16:48]) << FOUR, 0, scale, minimum, 32)


def _unpack_q2_k(blocks: Bytes) -> QuantizedBlocks:
    with np.errstate(invalid="ignore"):
        scale = float16_at(blocks, 80) * (blocks[..., :16] & NIBBLE)
        minimum = float16_at(blocks, 82) * (blocks[..., :16] >> FOUR)
    return QuantizedBlocks(_pairs(blocks[..., 16:80]), 0, scale, minimum, 16)


def _unpack_q3_k(blocks: Bytes) -> QuantizedBlocks:
    high = blocks[..., None, 104:108] >> _PAIR_SHIFTS & np.uint8(3)
    scale = (nibbles(blocks[..., 96:104]) | high.reshape(*blocks.shape[:-1], 16) << FOUR).astype(np.int8) - np.int8(32)
    codes = _pairs(blocks[..., 32:96]) | _plane(blocks[..., :32]) << np.uint8(2)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(codes, 4, float16_at(blocks, 108) * scale, None, 16)


def _unpack_q6_k(blocks: Bytes) -> QuantizedBlocks:
    lead = blocks.shape[:-1]
    low = nibbles(blocks[..., :128].reshape(*lead, 2, 64)).reshape(*lead, 2, 4, 32)
    high = _pairs(blocks[..., 128:192]).reshape(low.shape)
    scale = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(low | high << FOUR, 32, float16_at(blocks, 208) * scale, None, 16)


def _unpack_q8_k(blocks: Bytes) -> QuantizedBlocks:
    scale = np.repeat(np.ascontiguousarray(blocks[..., :4]).view("<f4"), 8, axis=-1)
    return QuantizedBlocks(blocks[..., 4:260] ^ np.uint8(0x80), 128, scale, None, 32)


def _unpack_iq4_xs(blocks: Bytes) -> QuantizedBlocks:
    lead = blocks.shape[:-1]
    low = np.stack([blocks[..., 4:8] & NIBBLE, blocks[..., 4:8] >> FOUR], axis=-1).reshape(*lead, 8)
    high = (blocks[..., 2:4, None] >> _PAIR_SHIFTS[:, 0] & np.uint8(3)).reshape(*lead, 8)
    scale = (low | high << FOUR).astype(np.int8) - np.int8(32)
    codes = look_up(nibbles(blocks[..., 8:].reshape(*lead, 8, 16)), IQ4_VALUES, 128)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(codes, 128, float16_at(blocks, 0) * scale, None, 32)


def _codes_with_minimum(blocks: Floats, levels: int, units: int) -> tuple[Floats, Floats, Bytes, Bytes, Bytes]:
    """Of sub-blocks [n, count, size]: units of scales and of minima [n, 1], their codes 0 .. units, and the codes."""
    scale, minimum = (part[..., 0] for part in fit_with_minimum(blocks, levels))
    unit = stored_scale(scale.max(axis=1, keepdims=True) / np.float32(units))
    minimum_unit = stored_scale(minimum.max(axis=1, keepdims=True) / np.float32(units))
    scale_codes = nearest(scale, unit, 0, units).astype(np.uint8)
    minimum_codes = nearest(minimum, minimum_unit, 0, units).astype(np.uint8)
    shifted = blocks + (minimum_unit * minimum_codes)[..., None]
    codes = nearest(shifted, (unit * scale_codes)[..., None], 0, levels).astype(np.uint8)
    return unit, minimum_unit, scale_codes, minimum_codes, codes


def _six_bit_bytes(scale_codes: Bytes, minimum_codes: Bytes) -> Bytes:
    low = scale_codes[:, :4] | scale_codes[:, 4:] >> 4 << 6
    middle = minimum_codes[:, :4] | minimum_codes[:, 4:] >> 4 << 6
    high = scale_codes[:, 4:] & 15 | (minimum_codes[:, 4:] & 15) << 4
    return np.concatenate([low, middle, high], axis=1)


def _pack_q4_k(values: Floats) -> Bytes:
    unit, minimum_unit, scales, minima, codes = _codes_with_minimum(values.reshape(-1, 8, 32), 15, 63)
    head = [float16_bytes(unit), float16_bytes(minimum_unit), _six_bit_bytes(scales, minima)]
    return np.concatenate([*head, fold_nibbles(codes.reshape(-1, 4, 64)).reshape(-1, 128)], axis=1)


def _pack_q5_k(values: Floats) -> Bytes:
    unit, minimum_unit, scales, minima, codes = _codes_with_minimum(values.reshape(-1, 8, 32), 31, 63)
    head = [float16_bytes(unit), float16_bytes(minimum_unit), _six_bit_bytes(scales, minima)]
    low = fold_nibbles((codes & NIBBLE).reshape(-1, 4, 64)).reshape(-1, 128)
    return np.concatenate([*head, _fold_plane(codes >> FOUR), low], axis=1)


def _pack_q2_k(values: Floats) -> Bytes:
    unit, minimum_unit, scales, minima, codes = _codes_with_minimum(values.reshape(-1, 16, 16), 3, 15)
    both = scales | minima << FOUR
    return np.concatenate([both, _fold_pairs(codes), float16_bytes(unit), float16_bytes(minimum_unit)], axis=1)


def _pack_q3_k(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 16, 16)
    scale = fit_symmetric(blocks, 4)[..., 0]
    unit = stored_scale(extreme(scale) / np.float32(-32))
    scale_codes = nearest(scale, unit, -32, 31)
    codes = (nearest(blocks, (unit * scale_codes)[..., None], -4, 3) + 4).astype(np.uint8)
    six = (scale_codes + 32).astype(np.uint8)
    high = np.bitwise_or.reduce((six >> FOUR).reshape(-1, 4, 4) << _PAIR_SHIFTS, axis=1)
    scales = np.concatenate([fold_nibbles(six & NIBBLE), high], axis=1)
    third = _fold_plane(codes >> np.uint8(2))
    return np.concatenate(
        [third, _fold_pairs(codes.reshape(-1, 256) & np.uint8(3)), scales, float16_bytes(unit)], axis=1
    )


def _pack_q6_k(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 16, 16)
    scale = fit_symmetric(blocks, 32)[..., 0]
    unit = stored_scale(extreme(scale) / np.float32(-128))
    scale_codes = nearest(scale, unit, -128, 127).astype(np.int8)
    codes = (nearest(blocks, (unit * scale_codes)[..., None], -32, 31) + 32).astype(np.uint8)
    low = fold_nibbles((codes & NIBBLE).reshape(-1, 2, 128)).reshape(-1, 128)
    return np.concatenate([low, _fold_pairs(codes >> FOUR), scale_codes.view(np.uint8), float16_bytes(unit)], axis=1)


def _pack_q8_k(values: Floats) -> Bytes:
    scale = extreme(values) / np.float32(-127)
    codes = nearest(values, scale, -127, 127).astype(np.int8)
    sums = codes.reshape(-1, 16, 16).sum(axis=2, dtype=np.int16).astype("<i2")
    return np.concatenate([scale.astype("<f4").view(np.uint8), codes.view(np.uint8), sums.view(np.uint8)], axis=1)


def _pack_iq4_xs(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 8, 32)
    scale = fit_table(blocks, IQ4_VALUES)[..., 0]
    unit = stored_scale(extreme(scale) / np.float32(-32))
    scale_codes = nearest(scale, unit, -32, 31)
    codes = nearest_in_table(blocks, (unit * scale_codes)[..., None], IQ4_VALUES)
    six = (scale_codes + 32).astype(np.uint8)
    low = six[:, ::2] & NIBBLE | (six[:, 1::2] & NIBBLE) << FOUR
    high = np.bitwise_or.reduce((six >> FOUR).reshape(-1, 2, 4) << _PAIR_SHIFTS[:, 0], axis=2)
    return np.concatenate([float16_bytes(unit), high, low, fold_nibbles(codes).reshape(-1, 128)], axis=1)


K_LAYOUTS: Final[dict[DType, Layout]] = {
    q2_k: Layout(_unpack_q2_k, _pack_q2_k, 3 * FLOAT16_MAX),
    q3_k: Layout(_unpack_q3_k, _pack_q3_k, 4 * 32 * FLOAT16_MAX),
    q4_k: Layout(_unpack_q4_k, _pack_q4_k, 63 * FLOAT16_MAX),
    q5_k: Layout(_unpack_q5_k, _pack_q5_k, 63 * FLOAT16_MAX),
    q6_k: Layout(_unpack_q6_k, _pack_q6_k, 32 * 128 * FLOAT16_MAX),
    q8_k: Layout(_unpack_q8_k, _pack_q8_k, float(np.finfo(np.float32).max)),
    iq4_xs: Layout(_unpack_iq4_xs, _pack_iq4_xs, 32 * 113 * FLOAT16_MAX),
}
