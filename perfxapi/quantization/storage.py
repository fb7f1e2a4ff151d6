"""From floats to the bytes of a quantized type, and back."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.quantization.blocks import Bytes, Floats, Layout, QuantizedBlocks
from perfxapi.quantization.k_types import K_LAYOUTS
from perfxapi.quantization.simple_types import SIMPLE_LAYOUTS

_CHUNK_VALUES = 1 << 20  # values quantized at a time: bounds the temporaries of the search for scales
_LAYOUTS: Final[dict[DType, Layout]] = {**SIMPLE_LAYOUTS, **K_LAYOUTS}


def unpack_codes(raw: Bytes, dtype: DType) -> QuantizedBlocks:
    """Unpacks rows of blocks into codes, scales and minima.

    `raw` is uint8 [..., row_bytes]. Raises InvalidArgumentError if `dtype` is not quantized or a row not whole blocks.
    """
    layout = layout_of(dtype)
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

    Exact but for types with a minimum, where subtracting it rounds once, and q8_k, whose scale is a float32. Raises
    InvalidArgumentError as `unpack_codes` does.
    """
    blocks = unpack_codes(raw, dtype)
    values = blocks.codes.astype(np.float32).reshape(*blocks.scale.shape, blocks.sub_block)
    values -= np.float32(blocks.offset)
    # a file may hold scales that are infinite or nearly so: inf * 0 is NaN, as in a kernel
    with np.errstate(invalid="ignore", over="ignore"):
        values *= blocks.scale[..., None]
        if blocks.minimum is not None:
            values -= blocks.minimum[..., None]
    return values.reshape(blocks.codes.shape)


def quantize(values: npt.ArrayLike, dtype: DType) -> Bytes:
    """Quantizes float rows [..., columns] to uint8 rows [..., row_bytes], deterministically.

    Simple types take the scale from the largest magnitude or the range, and the nearest codes; the others search, for
    each sub-block, for the scale of least squared error. Raises InvalidArgumentError if `columns` is not a multiple of
    the block size, or a value is NaN or too large for the type's scale.
    """
    layout = layout_of(dtype)
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


def layout_of(dtype: DType) -> Layout:
    """The layout of a quantized type. Raises InvalidArgumentError for another."""
    if dtype not in _LAYOUTS:
        raise InvalidArgumentError(f"dtype: {dtype.name} is not one of {[known.name for known in _LAYOUTS]}")
    return _LAYOUTS[dtype]
