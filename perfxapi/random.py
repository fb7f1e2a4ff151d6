"""Random numbers that are the same on every device: a Generator holds a seed and how far it has drawn.

    rng = px.random.default_rng(0)
    x = rng.normal((3, 4), dtype=px.float32)

Names are those of `numpy.random.Generator`. Bits are those of Philox4x32-10 (`perfxapi/ops/random.py`); the numbers are
made of them by functions of the array API. The state is two whole numbers on the host. What is drawn while a graph is
traced becomes a constant of the graph.
"""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.array import Array, apply, asarray
from perfxapi.creation import checked_sizes
from perfxapi.device import Device
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.ops.random import WORDS_PER_BLOCK, random_bits
from perfxapi.policy import get_device
from perfxapi.standard.creation import arange
from perfxapi.standard.data_types import astype
from perfxapi.standard.elementwise import (
    add,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    cos,
    log,
    multiply,
    negative,
    remainder,
    sin,
    sqrt,
    subtract,
)
from perfxapi.standard.indexing import take
from perfxapi.standard.manipulation import concat
from perfxapi.standard.searching import argsort

Shape = int | Sequence[int]


class Generator:
    """Draws random numbers. Two generators of one seed and stream draw the same; streams of a seed are independent.

    `seed` and `stream` are whole numbers below 2^64. Arrays are made on `device`.
    """

    def __init__(self, seed: int, *, stream: int = 0, device: Device | str | None = None) -> None:
        self._seed, self._stream = _word("seed", seed), _word("stream", stream)
        self._blocks = self._children = 0
        self.device = get_device(device)

    def spawn(self, count: int) -> list[Generator]:
        """Generators that are independent of this one and of each other, new ones each time.

        Their streams are bits of the last blocks of this one's, which no drawing reaches.
        """
        streams = []
        for _ in range(count):
            self._children += 1
            key = np.array([self._seed, self._stream, (1 << 64) - self._children], np.uint64)
            streams.append(int(random_bits(key, 2).view(np.uint64)[0]))
        return [Generator(self._seed, stream=stream, device=self.device) for stream in streams]

    def bits(self, shape: Shape = (), dtype: DType | str = dtypes.uint32) -> Array:
        """Random bits: whole numbers of uint32 or uint64, all equally likely."""
        kind = dtype_of(dtype)
        sizes = _sizes(shape, kind)
        if kind not in (dtypes.uint32, dtypes.uint64):
            raise InvalidDTypeError(f"bits: dtype must be uint32 or uint64; got {kind.name}")
        count = math.prod(sizes) * kind.itemsize // 4
        key = np.array([self._seed, self._stream, self._blocks], np.uint64)
        self._blocks = (self._blocks + -(-count // WORDS_PER_BLOCK)) % (1 << 64)
        words: Array = apply("random_bits", asarray(key, device=self.device), count=count)
        if kind is dtypes.uint64:
            wide = astype(words, dtypes.uint64)
            words = bitwise_or(bitwise_left_shift(wide[1::2], 32), wide[::2])
        return words.reshape(*sizes)

    def random(self, shape: Shape = (), dtype: DType | str = dtypes.float64) -> Array:
        """Numbers from 0 (included) to 1 (not included), evenly: multiples of 2^-24 in float32, of 2^-53 in float64."""
        kind = _floating("random", dtype)
        word, shift, bits = (dtypes.uint64, 11, 53) if kind is dtypes.float64 else (dtypes.uint32, 8, 24)
        whole = bitwise_right_shift(self.bits(shape, word), shift)
        return multiply(astype(whole, kind), 2.0**-bits)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: Shape = (), dtype: DType | str = dtypes.float64
    ) -> Array:
        """Numbers from `low` to `high`, evenly."""
        return add(multiply(self.random(shape, dtype), float(high) - float(low)), float(low))

    def normal(
        self, shape: Shape = (), dtype: DType | str = dtypes.float64, *, loc: float = 0.0, scale: float = 1.0
    ) -> Array:
        """Normally distributed numbers of mean `loc` and standard deviation `scale` (Box and Muller 1958)."""
        kind = _floating("normal", dtype)
        if scale < 0:
            raise InvalidArgumentError(f"normal: scale must not be negative; got {scale}")
        sizes = _sizes(shape, kind)
        count = math.prod(sizes)
        half = -(-count // 2)
        radius = sqrt(multiply(log(subtract(1.0, self.random(half, kind))), -2.0))
        angle = multiply(self.random(half, kind), 2 * np.pi)
        drawn = concat([multiply(radius, cos(angle)), multiply(radius, sin(angle))])[:count]
        return add(multiply(drawn, float(scale)), float(loc)).reshape(*sizes)

    def exponential(self, scale: float = 1.0, shape: Shape = (), dtype: DType | str = dtypes.float64) -> Array:
        """Exponentially distributed numbers of mean `scale`."""
        return multiply(negative(log(subtract(1.0, self.random(shape, _floating("exponential", dtype))))), float(scale))

    def integers(
        self, low: int, high: int | None = None, shape: Shape = (), dtype: DType | str = dtypes.int64
    ) -> Array:
        """Whole numbers from `low` to `high` (not included), or from 0 to `low`.

        They are remainders of 64 random bits: no number is likelier than another by more than a part in 2^64 / (high -
        low).
        """
        start, stop = (0, low) if high is None else (low, high)
        start, stop = _whole("integers: low", start), _whole("integers: high", stop)
        kind = dtype_of(dtype)
        if kind.kind not in ("int", "uint"):
            raise InvalidDTypeError(f"integers: dtype must be one of whole numbers; got {kind.name}")
        limits = np.iinfo(kind.name)
        if not limits.min <= start < stop <= int(limits.max) + 1:
            raise InvalidArgumentError(f"integers: there is no number of {kind.name} from {start} to below {stop}")
        drawn = self.bits(shape, dtypes.uint64)
        if stop - start < 1 << 64:
            drawn = remainder(drawn, stop - start)
        return astype(add(drawn, start % (1 << 64)), kind)  # sums and casts wrap around at 2^64

    def permutation(self, x: int | Array) -> Array:
        """The numbers below `x` in random order, or the array `x` with its first axis so."""
        if isinstance(x, Array) and not x.shape:
            raise InvalidArgumentError("permutation: an array of no dimensions has no order")
        count = int(x.shape[0]) if isinstance(x, Array) else _whole("permutation: x", x)
        order = argsort(self.bits(count, dtypes.uint64))
        return take(x, order, axis=0) if isinstance(x, Array) else order

    def choice(self, x: int | Array, shape: Shape = (), *, replace: bool = True) -> Array:
        """Elements (along the first axis) of `x`, or numbers below it, each as likely; without `replace` none twice."""
        pool = x if isinstance(x, Array) else arange(_whole("choice: x", x), device=self.device)
        size, sizes = int(pool.shape[0]), _sizes(shape, dtypes.int64)
        count = math.prod(sizes)
        if not replace and count > size:
            raise InvalidArgumentError(f"choice: {count} of {size} cannot be taken without taking one twice")
        places = self.integers(size, shape=count) if replace else self.permutation(size)[:count]
        return take(pool, places, axis=0).reshape(*sizes, *pool.shape[1:])


def default_rng(seed: int | None = None, *, device: Device | str | None = None) -> Generator:
    """A generator of a seed; without one, of bits that the system draws."""
    return Generator(secrets.randbits(64) if seed is None else seed, device=device)


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise InvalidArgumentError(f"{name} must be a whole number; got {value!r}") from None


def _word(name: str, value: Any) -> int:
    word = _whole(name, value)
    if not 0 <= word < 1 << 64:
        raise InvalidArgumentError(f"{name} must be a whole number from 0 to 2^64 - 1; got {value!r}")
    return word


def _sizes(shape: Shape, dtype: DType) -> tuple[int, ...]:
    return checked_sizes("shape", shape if isinstance(shape, tuple | list) else (shape,), dtype)


def _floating(name: str, dtype: DType | str) -> DType:
    kind = dtype_of(dtype)
    if kind not in (dtypes.float32, dtypes.float64):
        raise InvalidDTypeError(f"{name}: dtype must be float32 or float64; got {kind.name}: convert by astype")
    return kind


__all__ = ["Generator", "default_rng"]
