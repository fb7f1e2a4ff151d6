"""Random bits by counting: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1,
2, 3").

A word depends on a key and its place alone. So all devices draw the same numbers, and in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    register_op,
    require,
    require_shape,
)

WORDS_PER_BLOCK = 4
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def random_bits(key: Any, count: int) -> Any:
    """`count` words of uint32 of a key [seed, stream, first block] of uint64."""
    seed, stream, first = (int(word) for word in key)
    blocks = np.arange(-(-count // WORDS_PER_BLOCK), dtype=np.uint64) + np.uint64(first)
    streams = np.full_like(blocks, stream)
    words = [blocks & _LOW, blocks >> _HALF, streams & _LOW, streams >> _HALF]
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(_ROUNDS):
        products = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = [
            (products[1] >> _HALF) ^ words[1] ^ np.uint64(keys[0]),
            products[1] & _LOW,
            (products[0] >> _HALF) ^ words[3] ^ np.uint64(keys[1]),
            products[0] & _LOW,
        ]
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _WEYL, strict=True)]
    return np.stack(words, axis=-1).reshape(-1)[:count].astype(np.uint32)


def _infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    (key,) = inputs
    require_shape("random_bits", "the key", key, 3)
    require(key.dtype is dtypes.uint64, "random_bits", f"the key must be uint64; got {key.dtype.name}")
    require(attributes["count"] >= 0, "random_bits", f"count must not be negative; got {attributes['count']}")
    return (TensorSpec((attributes["count"],), dtypes.uint32),)


def _samples() -> Iterable[Sample]:
    largest = np.iinfo(np.uint64).max
    for count in (0, 1, 5, 64, 4099):
        yield Sample((np.array([7, 1, 100], np.uint64),), {"count": count}, f"{count} words")
    yield Sample((np.array([largest, largest, largest - 2], np.uint64),), {"count": 37}, "the counter starts again")


register_op(
    OpSpec(
        "random_bits",
        ("key",),
        _infer,
        random_bits,
        _samples,
        (Attribute("count", int),),
        cost=lambda inputs, attributes: Cost(4 * attributes["count"], 20 * attributes["count"]),
        tolerance=0,
        domain="array",
    )
)
