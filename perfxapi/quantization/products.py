"""Products with quantized weights: `quantized_linear` multiplies codes by quantized activations in the exact order of
operations that "Numerics of quantized products" lays down, so a kernel can be compared with it bit by bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.quantization.blocks import Bytes, Floats, Integers, QuantizedBlocks
from perfxapi.quantization.storage import dequantize, layout_of, unpack_codes

_ExactCodes = npt.NDArray[Any]  # whole numbers, as float32 or float64

ACTIVATION_BLOCK: Final = 32
"""Columns of an activation row that share a scale."""

ACTIVATION_LEVELS: Final = {"int8": 127, "int16": 32512}
"""Largest activation code of each format. 32512 = 127 * 256, so a code splits in two int8 planes, 256 * high + low."""

_TILE_PRODUCTS = 1 << 17  # outputs computed at a time: keeps the accumulators of `quantized_linear` in cache


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
    layout_of(dtype)
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
