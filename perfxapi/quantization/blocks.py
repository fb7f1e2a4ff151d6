"""What the quantized types have in common: unpacked blocks, and the small parts that their bytes are made of.

Every type decodes as

    value = (code - offset) * scale - minimum

with one float32 scale (and, for some, one minimum) for each run of `sub_block` columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

FLOAT16_MAX: Final = 65504.0
FOUR, NIBBLE = np.uint8(4), np.uint8(15)


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


class Layout(NamedTuple):
    """How the blocks of a type are read and written.

    `unpack` takes blocks uint8 [..., num_blocks, block_bytes], `pack` float32 [num_blocks, block_size]. `largest` is
    the largest magnitude that can be stored.
    """

    unpack: Callable[[Bytes], QuantizedBlocks]
    pack: Callable[[Floats], Bytes]
    largest: float


def float16_at(blocks: Bytes, start: int) -> Floats:
    """The little-endian float16 at byte `start` of each block, widened: float32 [..., 1]."""
    return np.ascontiguousarray(blocks[..., start : start + 2]).view("<f2").astype(np.float32)


def float16_bytes(values: Floats) -> Bytes:
    """Values [n] or [n, 1] as the two bytes of a float16 each: uint8 [n, 2]."""
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def nibbles(packed: Bytes) -> Bytes:
    """Low nibbles of the last axis, then its high nibbles."""
    return np.concatenate([packed & NIBBLE, packed >> FOUR], axis=-1)


def fold_nibbles(codes: Bytes) -> Bytes:
    """The inverse of `nibbles`."""
    half = codes.shape[-1] // 2
    return codes[..., :half] | codes[..., half:] << FOUR


def stored_scale(scale: Floats) -> Floats:
    """The scale as float16 keeps it; what is past its range by a rounding becomes its largest value."""
    return np.clip(scale, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16).astype(np.float32)
