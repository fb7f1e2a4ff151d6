"""Block-quantized storage types in NumPy: the reference that every backend's kernels are compared with.

Byte layouts are GGUF's (ggml-common.h of the ggml project); int4_g128 is PerfXAPI's own. Every type decodes as

    value = (code - offset) * scale - minimum

with one float32 scale (and, for some, one minimum) for each run of `sub_block` columns. `quantized_linear` multiplies
codes by quantized activations in the exact order of operations that "Numerics of quantized products" lays down, so a
kernel can be compared with it bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from perfxapi.dtypes import DType, int4_g128, q4_0, q4_k, q5_0, q6_k, q8_0
from perfxapi.errors import InvalidArgumentError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
_ExactCodes = npt.NDArray[Any]  # whole numbers, as float32 or float64

ACTIVATION_BLOCK: Final = 32
"""Columns of an activation row that share a scale."""

ACTIVATION_LEVELS: Final = {"int8": 127, "int16": 32512}
"""Largest activation code of each format. 32512 = 127 * 256, so a code splits in two int8 planes, 256 * high + low."""

_CHUNK_VALUES = 1 << 20  # values quantized at a time: bounds the temporaries of the k-quant search
_TILE_PRODUCTS = 1 << 17  # outputs computed at a time: keeps the accumulators of `quantized_linear` in cache
_FLOAT16_MAX = 65504.0
_FOUR, _NIBBLE = np.uint8(4), np.uint8(15)
_PAIR_SHIFTS = np.array([[0], [2], [4], [6]], np.uint8)  # where q6_k keeps the high bits of its four groups of columns
_SEARCH_STEPS = np.linspace(-2.5, 1.5, 17)  # how far the number of levels of a candidate scale is from the nominal one


@dataclass(frozen=True, slots=True)
class QuantizedBlocks:
    """Rows of a quantized array, unpacked: value = (codes - offset) * scale - minimum.

    `codes` is uint8 [..., columns]; `scale` is float32 [..., columns / sub_block]; `minimum` has the shape of `scale`,
    and is None where the type has none. Scales and minima are exact: products of stored numbers that fit in float32.
    """

    codes: Bytes
    offset: int
    scale: Floats
    minimum: Floats | None
    sub_block: int


class _Layout(NamedTuple):
    unpack: Callable[[Bytes], QuantizedBlocks]
    pack: Callable[[Floats], Bytes]
    largest: float  # magnitude that can be stored


def unpack_codes(raw: Bytes, dtype: DType) -> QuantizedBlocks:
    """Unpacks rows of blocks into codes, scales and minima.

    `raw` is uint8 [..., row_bytes]. Raises InvalidArgumentError if `dtype` is not quantized or a row not whole blocks.
    """
    layout = _layout(dtype)
    if raw.dtype != np.uint8 or raw.ndim == 0:
        raise InvalidArgumentError(
            f"raw: expected uint8 rows of {dtype.name} blocks, got {raw.dtype} of shape {raw.shape}"
        )
    num_blocks, rest = divmod(raw.shape[-1], dtype.block_bytes)
    if rest:
        raise InvalidArgumentError(
            f"raw: a row of {raw.shape[-1]} bytes is not whole {dtype.name} blocks of {dtype.block_bytes} bytes"
        )
    lead = raw.shape[:-1]
    blocks = layout.unpack(raw.reshape(*lead, num_blocks, dtype.block_bytes))
    columns = num_blocks * dtype.block_size
    scales = (*lead, columns // blocks.sub_block)
    minimum = None if blocks.minimum is None else blocks.minimum.reshape(scales)
    codes = blocks.codes.reshape(*lead, columns)
    return QuantizedBlocks(codes, blocks.offset, blocks.scale.reshape(scales), minimum, blocks.sub_block)


def dequantize(raw: Bytes, dtype: DType) -> Floats:
    """The float32 values [..., columns] of quantized rows `raw` (uint8 [..., row_bytes]).

    Exact but for q4_k, where subtracting the minimum rounds once. Raises InvalidArgumentError as `unpack_codes` does.
    """
    blocks = unpack_codes(raw, dtype)
    values = blocks.codes.astype(np.float32).reshape(*blocks.scale.shape, blocks.sub_block)
    values -= np.float32(blocks.offset)
    with np.errstate(invalid="ignore"):  # a file may hold infinite scales: inf * 0 is NaN, as in a kernel
        values *= blocks.scale[..., None]
        if blocks.minimum is not None:
            values -= blocks.minimum[..., None]
    return values.reshape(blocks.codes.shape)


def quantize(values: npt.ArrayLike, dtype: DType) -> Bytes:
    """Quantizes float rows [..., columns] to uint8 rows [..., row_bytes], deterministically.

    q4_0, q5_0 and q8_0 take the scale from the largest magnitude and the nearest codes; q4_k and q6_k search, for each
    sub-block, for the scale of least squared error; int4_g128 spreads its codes evenly over the range of each group.
    Raises InvalidArgumentError if `columns` is not a multiple of the block size, or a value is NaN or too large for a
    float16 scale.
    """
    layout = _layout(dtype)
    source = np.asarray(values, np.float32)
    if source.ndim == 0 or source.shape[-1] % dtype.block_size:
        raise InvalidArgumentError(
            f"values: the last axis of shape {source.shape} must be a multiple of {dtype.block_size}"
        )
    if not (np.abs(source) <= layout.largest).all():
        raise InvalidArgumentError(f"values: {dtype.name} stores magnitudes up to {layout.largest:.0f}, and no NaN")
    blocks = source.reshape(-1, dtype.block_size)
    packed = np.empty((len(blocks), dtype.block_bytes), np.uint8)
    step = max(1, _CHUNK_VALUES // dtype.block_size)
    for start in range(0, len(blocks), step):
        packed[start : start + step] = layout.pack(blocks[start : start + step])
    return packed.reshape(*source.shape[:-1], dtype.row_bytes(source.shape[-1]))


def quantize_activations(x: npt.ArrayLike, activation_format: str) -> tuple[Integers, Floats]:
    """Quantizes activations x [T, K], K a multiple of 32: codes int32 [T, K] and scales float32 [T, K / 32].

    A block that holds a value that is not finite gets a scale that is not finite, and so makes its row's products NaN.
    Raises InvalidArgumentError for an unknown format or shape.
    """
    if activation_format not in ACTIVATION_LEVELS:
        raise InvalidArgumentError(
            f"activation_format: expected one of {list(ACTIVATION_LEVELS)}, got {activation_format!r}"
        )
    source = np.asarray(x, np.float32)
    if source.ndim != 2 or source.shape[1] % ACTIVATION_BLOCK:
        raise InvalidArgumentError(f"x: expected [T, K] with K a multiple of {ACTIVATION_BLOCK}, got {source.shape}")
    blocks = source.reshape(len(source), -1, ACTIVATION_BLOCK)
    levels = np.float32(ACTIVATION_LEVELS[activation_format])
    largest = np.abs(blocks).max(axis=-1)
    with np.errstate(all="ignore"):  # divisions by zero and products with infinities are meant, and handled below
        inverse = np.where(largest > 0, levels / largest, np.float32(0))
        codes = np.rint(blocks * inverse[..., None])
    codes = np.clip(np.where(np.isnan(codes), np.float32(0), codes), -levels, levels)
    return codes.astype(np.int32).reshape(source.shape), largest / levels


def quantized_linear(x: npt.ArrayLike, raw_weight: Bytes, dtype: DType, activation_format: str) -> Floats:
    """y [T, N] = x [T, K] times the transpose of a quantized weight [N, K], given as raw rows uint8 [N, row_bytes].

    With "int8" or "int16" activations the result is the one that every backend must give, bit for bit; with "float32"
    the weight is dequantized and `float_linear` applied. Raises InvalidArgumentError if formats or shapes do not fit.
    """
    source = np.asarray(x, np.float32)
    _layout(dtype)
    columns = raw_weight.shape[-1] // dtype.block_bytes * dtype.block_size if raw_weight.ndim == 2 else -1
    if source.ndim != 2 or source.shape[1] != columns:
        raise InvalidArgumentError(
            f"x: shape {source.shape} does not fit a {dtype.name} weight of raw shape {raw_weight.shape}"
        )
    if activation_format == "float32":
        return float_linear(source, dequantize(raw_weight, dtype))
    codes, scales = quantize_activations(source, activation_format)
    # Integer products are sums of at most 32 * 127 * 128 < 2^24 (int8) and 32 * 32512 * 128 < 2^53 (int16): exact.
    exact: _ExactCodes = codes.astype(np.float32) if activation_format == "int8" else codes.astype(np.float64)
    result = np.empty((len(source), len(raw_weight)), np.float32)
    step = max(256, _TILE_PRODUCTS // max(1, len(source)))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(raw_weight), step):
            blocks = unpack_codes(raw_weight[start : start + step], dtype)
            result[:, start : start + step] = _tile_product(exact, scales, blocks)
    return result


def float_linear(x: npt.ArrayLike, weight: npt.ArrayLike) -> Floats:
    """y [T, N] = x [T, K] times the transpose of a float weight [N, K]: float32 fused multiply-adds, K ascending."""
    source, table = np.asarray(x, np.float32), np.asarray(weight, np.float32)
    if source.ndim != 2 or table.ndim != 2 or source.shape[1] != table.shape[1]:
        raise InvalidArgumentError(f"x: shape {source.shape} does not fit a weight of shape {table.shape}")
    result = np.zeros((len(source), len(table)), np.float32)
    step = max(256, _TILE_PRODUCTS // max(1, len(source)))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(table), step):
            tile = np.ascontiguousarray(table[start : start + step].T)
            for k, row in enumerate(tile):
                total = result[:, start : start + step]
                total[...] = fused_multiply_add(source[:, k, None], row, total)
    return result


def fused_multiply_add(a: Floats, b: Floats, c: Floats) -> Floats:
    """a * b + c in float32, rounded once, for results in the normal range (arrays broadcast).

    The product of two float32 is exact in float64; the sum is rounded to float64 and then to float32. The second
    rounding errs only if the first ended halfway between two float32, so just those sums are nudged to the true one.
    """
    product = a.astype(np.float64) * b
    total = product + c
    halfway = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if halfway.any():
        near = total[halfway]
        part, addend = (np.broadcast_to(operand, total.shape)[halfway] for operand in (product, c))
        back = near - part
        lost = (part - (near - back)) + (addend - back)  # Knuth's TwoSum: the rounding error, exactly
        total[halfway] = np.where(lost == 0, near, np.nextafter(near, np.copysign(np.inf, lost)))
    return total.astype(np.float32)


def _tile_product(codes: _ExactCodes, scales: Floats, blocks: QuantizedBlocks) -> Floats:
    """Products of activation codes [T, K] (in a type in which integer sums are exact) with some rows of the weight."""
    size = blocks.sub_block
    weight: _ExactCodes = np.ascontiguousarray(blocks.codes.T).astype(codes.dtype)
    weight -= blocks.offset
    weight_scale = np.ascontiguousarray(blocks.scale.T)
    minimum = None if blocks.minimum is None else -np.ascontiguousarray(blocks.minimum.T)
    total = np.zeros((len(codes), weight.shape[1]), np.float32)
    for block in range(len(weight_scale)):
        part = slice(block * size, (block + 1) * size)
        scale = scales[:, block * size // ACTIVATION_BLOCK, None]
        dot = (codes[:, part] @ weight[part]).astype(np.float32)
        total = fused_multiply_add(dot, weight_scale[block] * scale, total)
        if minimum is not None:
            code_sum = codes[:, part].sum(axis=1, keepdims=True).astype(np.float32)
            total = fused_multiply_add(minimum[block], scale * code_sum, total)
    return total


def _layout(dtype: DType) -> _Layout:
    if dtype not in _LAYOUTS:
        raise InvalidArgumentError(f"dtype: {dtype.name} is not one of {[known.name for known in _LAYOUTS]}")
    return _LAYOUTS[dtype]


# Layouts. Unpackers take blocks uint8 [..., num_blocks, block_bytes]; packers take float32 [num_blocks, block_size].


def _float16_at(blocks: Bytes, start: int) -> Floats:
    """The little-endian float16 at byte `start` of each block, widened: float32 [..., 1]."""
    return np.ascontiguousarray(blocks[..., start : start + 2]).view("<f2").astype(np.float32)


def _float16_bytes(values: Floats) -> Bytes:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _nibbles(packed: Bytes) -> Bytes:
    """Low nibbles of the last axis, then its high nibbles."""
    return np.concatenate([packed & _NIBBLE, packed >> _FOUR], axis=-1)


def _fold_nibbles(codes: Bytes) -> Bytes:
    """The inverse of `_nibbles`."""
    half = codes.shape[-1] // 2
    return codes[..., :half] | codes[..., half:] << _FOUR


def _unpack_q4_0(blocks: Bytes) -> QuantizedBlocks:
    return QuantizedBlocks(_nibbles(blocks[..., 2:]), 8, _float16_at(blocks, 0), None, 32)


def _unpack_q5_0(blocks: Bytes) -> QuantizedBlocks:
    high = np.unpackbits(blocks[..., 2:6], axis=-1, bitorder="little")
    return QuantizedBlocks(_nibbles(blocks[..., 6:]) | high << _FOUR, 16, _float16_at(blocks, 0), None, 32)


def _unpack_q8_0(blocks: Bytes) -> QuantizedBlocks:
    return QuantizedBlocks(blocks[..., 2:] ^ np.uint8(0x80), 128, _float16_at(blocks, 0), None, 32)


def _unpack_q4_k(blocks: Bytes) -> QuantizedBlocks:
    low, middle, high = (blocks[..., start : start + 4] for start in (4, 8, 12))
    scale = np.concatenate([low & np.uint8(63), (high & _NIBBLE) | (low >> np.uint8(6)) << _FOUR], axis=-1)
    minimum = np.concatenate([middle & np.uint8(63), high >> _FOUR | (middle >> np.uint8(6)) << _FOUR], axis=-1)
    codes = _nibbles(blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 32))
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(codes, 0, _float16_at(blocks, 0) * scale, _float16_at(blocks, 2) * minimum, 32)


def _unpack_q6_k(blocks: Bytes) -> QuantizedBlocks:
    lead = blocks.shape[:-1]
    low = _nibbles(blocks[..., :128].reshape(*lead, 2, 64)).reshape(*lead, 2, 4, 32)
    high = blocks[..., 128:192].reshape(*lead, 2, 1, 32) >> _PAIR_SHIFTS & np.uint8(3)
    scale = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(low | high << _FOUR, 32, _float16_at(blocks, 208) * scale, None, 16)


def _unpack_int4_g128(blocks: Bytes) -> QuantizedBlocks:
    codes = _nibbles(blocks[..., 3:].reshape(*blocks.shape[:-1], 4, 16))
    scale = np.repeat(_float16_at(blocks, 0), 4, axis=-1)
    with np.errstate(invalid="ignore"):
        return QuantizedBlocks(codes, 0, scale, scale * blocks[..., 2:3], 32)


def _stored_scale(scale: Floats) -> Floats:
    """The scale as float16 keeps it; what is past its range by a rounding becomes its largest value."""
    return np.clip(scale, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16).astype(np.float32)


def _nearest(values: Floats, scale: Floats, low: int, high: int) -> Floats:
    """The whole numbers in [low, high] nearest to values / scale; 0 where the scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(scale == 0, np.float32(0), values / scale)
    return np.clip(np.rint(ratio), low, high)


def _extreme(values: Floats) -> Floats:
    """The value of largest magnitude of each row, with its sign: [..., 1]."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=-1, keepdims=True), axis=-1)


def _symmetric_codes(values: Floats, levels: int) -> tuple[Floats, Bytes]:
    """Float16 scales and codes 0 .. 2 * levels - 1: the value of largest magnitude becomes code 0, that is -levels."""
    scale = _stored_scale(_extreme(values) / np.float32(-levels))
    return scale, (_nearest(values, scale, -levels, levels - 1) + levels).astype(np.uint8)


def _pack_q4_0(values: Floats) -> Bytes:
    scale, codes = _symmetric_codes(values, 8)
    return np.concatenate([_float16_bytes(scale), _fold_nibbles(codes)], axis=1)


def _pack_q5_0(values: Floats) -> Bytes:
    scale, codes = _symmetric_codes(values, 16)
    high = np.packbits(codes >> 4, axis=1, bitorder="little")
    return np.concatenate([_float16_bytes(scale), high, _fold_nibbles(codes & _NIBBLE)], axis=1)


def _pack_q8_0(values: Floats) -> Bytes:
    scale = _stored_scale(np.abs(values).max(axis=1, keepdims=True) / np.float32(127))
    codes = _nearest(values, scale, -127, 127).astype(np.int8)
    return np.concatenate([_float16_bytes(scale), codes.view(np.uint8)], axis=1)


def _fit_with_minimum(values: Floats) -> tuple[Floats, Floats]:
    """Scale and minimum [..., 1] with which codes 0 .. 15 come closest to `values` [..., size], by squared error.

    Codes are guessed from a few candidate scales; for each guess linear regression gives the best scale and minimum.
    """
    low = np.minimum(values.min(axis=-1, keepdims=True), 0)
    span = np.maximum(values.max(axis=-1, keepdims=True) - low, 0)
    best = np.full_like(low, np.inf)
    scale, minimum = np.zeros_like(low), np.zeros_like(low)
    for step in _SEARCH_STEPS.astype(np.float32):
        codes = _nearest(values - low, span / (15 + step), 0, 15)
        mean_code, mean = codes.mean(axis=-1, keepdims=True), values.mean(axis=-1, keepdims=True)
        slope = _ratio(((codes - mean_code) * (values - mean)).sum(-1, keepdims=True), np.square(codes - mean_code))
        shift = slope * mean_code - mean
        through_zero = _ratio((codes * values).sum(-1, keepdims=True), np.square(codes))
        free = (shift >= 0) & (slope >= 0)
        slope, shift = np.where(free, slope, np.maximum(through_zero, 0)), np.where(free, shift, 0)
        error = np.square(slope * codes - shift - values).sum(axis=-1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        scale, minimum = np.where(better, slope, scale), np.where(better, shift, minimum)
    return scale, minimum


def _fit_symmetric(values: Floats) -> Floats:
    """Scale [..., 1] with which codes -32 .. 31 come closest to `values` [..., size], by squared error."""
    extreme = _extreme(values)
    best, scale = np.full_like(extreme, np.inf), np.zeros_like(extreme)
    for step in _SEARCH_STEPS.astype(np.float32):
        codes = _nearest(values, extreme / (-32 - step), -32, 31)
        slope = _ratio((codes * values).sum(-1, keepdims=True), np.square(codes))
        error = np.square(slope * codes - values).sum(axis=-1, keepdims=True)
        better = error < best
        best, scale = np.where(better, error, best), np.where(better, slope, scale)
    return scale


def _ratio(numerator: Floats, squares: Floats) -> Floats:
    """numerator / sum(squares), and 0 where that sum is 0."""
    denominator = squares.sum(axis=-1, keepdims=True)
    ratio: Floats = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return ratio


def _pack_q4_k(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 8, 32)
    scale, minimum = (part[..., 0] for part in _fit_with_minimum(blocks))
    unit = _stored_scale(scale.max(axis=1, keepdims=True) / np.float32(63))
    minimum_unit = _stored_scale(minimum.max(axis=1, keepdims=True) / np.float32(63))
    scale_codes = _nearest(scale, unit, 0, 63).astype(np.uint8)
    minimum_codes = _nearest(minimum, minimum_unit, 0, 63).astype(np.uint8)
    shifted = blocks + (minimum_unit * minimum_codes)[..., None]
    codes = _nearest(shifted, (unit * scale_codes)[..., None], 0, 15).astype(np.uint8)
    low = scale_codes[:, :4] | scale_codes[:, 4:] >> 4 << 6
    middle = minimum_codes[:, :4] | minimum_codes[:, 4:] >> 4 << 6
    high = scale_codes[:, 4:] & 15 | (minimum_codes[:, 4:] & 15) << 4
    nibbles = _fold_nibbles(codes.reshape(-1, 4, 64)).reshape(-1, 128)
    return np.concatenate([_float16_bytes(unit), _float16_bytes(minimum_unit), low, middle, high, nibbles], axis=1)


def _pack_q6_k(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 16, 16)
    scale = _fit_symmetric(blocks)[..., 0]
    unit = _stored_scale(_extreme(scale) / np.float32(-128))
    scale_codes = _nearest(scale, unit, -128, 127).astype(np.int8)
    codes = (_nearest(blocks, (unit * scale_codes)[..., None], -32, 31) + 32).astype(np.uint8)
    groups = codes.reshape(-1, 2, 4, 32)
    low = _fold_nibbles((groups & _NIBBLE).reshape(-1, 2, 128)).reshape(-1, 128)
    high = np.bitwise_or.reduce(groups >> _FOUR << _PAIR_SHIFTS, axis=2).reshape(-1, 64)
    return np.concatenate([low, high, scale_codes.view(np.uint8), _float16_bytes(unit)], axis=1)


def _pack_int4_g128(values: Floats) -> Bytes:
    low = np.minimum(values.min(axis=1, keepdims=True), 0)
    span = np.maximum(values.max(axis=1, keepdims=True), 0) - low
    scale = _stored_scale(span / np.float32(15))
    zero = _nearest(-low, scale, 0, 15)
    codes = np.clip(_nearest(values, scale, -15, 15) + zero, 0, 15).astype(np.uint8)
    nibbles = _fold_nibbles(codes.reshape(-1, 4, 32)).reshape(-1, 64)
    return np.concatenate([_float16_bytes(scale), zero.astype(np.uint8), nibbles], axis=1)


_LAYOUTS: Final[dict[DType, _Layout]] = {
    q4_0: _Layout(_unpack_q4_0, _pack_q4_0, 8 * _FLOAT16_MAX),
    q5_0: _Layout(_unpack_q5_0, _pack_q5_0, 16 * _FLOAT16_MAX),
    q8_0: _Layout(_unpack_q8_0, _pack_q8_0, 127 * _FLOAT16_MAX),
    q4_k: _Layout(_unpack_q4_k, _pack_q4_k, 63 * _FLOAT16_MAX),
    q6_k: _Layout(_unpack_q6_k, _pack_q6_k, 32 * 128 * _FLOAT16_MAX),
    int4_g128: _Layout(_unpack_int4_g128, _pack_int4_g128, 7 * _FLOAT16_MAX),
}
