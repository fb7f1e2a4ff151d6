"""Metadata of a GGUF file: typed access with errors that name the key, and large string arrays decoded on demand."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.errors import FileFormatError

HEADER_BYTES = 8
"""Bytes of the little-endian length before every string."""

_LENGTH = struct.Struct("<Q")
_WINDOW_BYTES = 1 << 18
_SHORT_BYTES = HEADER_BYTES + 255
_FEW, _MANY = 64, 1 << 14  # strings walked one by one before the fast way is tried again
_FAR = 1 << 62  # past the end of any file


class StringArray:
    """An array of strings that stays in the file's bytes until it is asked for.

    String `i` is the UTF-8 text `buffer[starts[i]:ends[i]]`; `buffer` is the whole file, `starts` and `ends` are int64.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: str,
        buffer: npt.NDArray[np.uint8],
        ends: npt.NDArray[np.int64],
        first: int,
    ) -> None:
        """`first` is the offset of the first string's length; each string follows the one before it."""
        self._path, self._key = path, key
        self.buffer, self.ends = buffer, ends
        self.starts: npt.NDArray[np.int64] = np.concatenate([[first], ends[:-1]]) + HEADER_BYTES if len(ends) else ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        return self._decode(index)

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_list())

    def __repr__(self) -> str:
        return f"StringArray({self._key!r}, {len(self)} strings)"

    def packed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """All texts joined, uint8 [total], and offsets int64 [len + 1]: string i is text[offsets[i]:offsets[i + 1]]."""
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.ends - self.starts, out=offsets[1:])
        if not len(self):
            return self.buffer[:0], offsets
        first = int(self.starts[0]) - HEADER_BYTES
        keep = np.ones(int(self.ends[-1]) - first, np.bool_)
        headers = self.starts - HEADER_BYTES - first
        for byte in range(HEADER_BYTES):
            keep[headers + byte] = False
        return self.buffer[first : int(self.ends[-1])][keep], offsets

    def to_bytes_list(self) -> list[bytes]:
        """The strings as bytes, not checked to be UTF-8."""
        text, offsets = self.packed()
        data, bounds = text.tobytes(), offsets.tolist()
        return [data[start:end] for start, end in pairwise(bounds)]

    def to_list(self) -> list[str]:
        """The strings. Raises FileFormatError with the place of the first that is not UTF-8."""
        text, offsets = self.packed()
        continuation = (text & 0xC0) == 0x80
        filled = offsets[:-1][offsets[:-1] < offsets[1:]]
        try:
            if continuation[filled].any():  # a character split between two strings would decode, joined
                raise ValueError
            joined = text.tobytes().decode()
        except ValueError:
            return [self._decode(index) for index in range(len(self))]
        characters = np.zeros(len(text) + 1, np.int64)
        np.cumsum(~continuation, out=characters[1:])
        bounds = characters[offsets].tolist()
        return [joined[start:end] for start, end in pairwise(bounds)]

    def _decode(self, index: int) -> str:
        start = int(self.starts[index])
        try:
            return self.buffer[start : int(self.ends[index])].tobytes().decode()
        except UnicodeDecodeError as error:
            where = f"byte {start + error.start}, {self._key}[{index}]"
            raise FileFormatError(self._path, where, "invalid UTF-8") from None


def string_ends(data: npt.NDArray[np.uint8], first: int, count: int) -> npt.NDArray[np.int64] | int:
    """Where each of `count` length-prefixed strings from byte `first` on ends, or the offset of one that does not fit.

    A length is only known once the string before it is: a chain, slow to walk in Python. Strings of 1 to 255 bytes
    without zero bytes betray their headers by seven zeros in a row, so candidates are found for a window at once;
    those that form a chain from its start are the strings. Where that fails, some strings are walked one by one. The
    caller makes sure that `count` strings of no bytes would fit.
    """
    ends = np.empty(count, np.int64)
    done, position, steps = 0, first, 0
    while done < count:
        window = data[position : position + min(_WINDOW_BYTES, (count - done) * _SHORT_BYTES)]
        found = _chain_of_short_strings(window) if count - done >= _FEW else ends[:0]
        steps = 0 if len(found) >= _FEW else min(max(2 * steps, _FEW), _MANY)
        if steps:
            found = _walk_strings(window.tobytes(), steps)
        found = position + found[: count - done]
        last = int(found[-2]) if len(found) > 1 else position
        if not len(found) or found[-1] > data.size:
            return last
        ends[done : done + len(found)] = found
        done, position = done + len(found), int(found[-1])
    return ends


def _chain_of_short_strings(window: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Ends, from the window's start, of the strings that follow one another from there; the last may end outside."""
    zero = window == 0
    twos = zero[:-1] & zero[1:]
    fours = twos[:-2] & twos[2:]
    headers = np.flatnonzero((fours[:-3] & fours[3:])[1:])  # bytes 1 to 7 of the length are zero
    if not len(headers) or headers[0] != 0:
        return headers[:0]
    ends = headers + HEADER_BYTES + window[headers]
    breaks = np.flatnonzero(ends[:-1] != headers[1:])
    return ends[: breaks[0] + 1] if len(breaks) else ends


def _walk_strings(window: bytes, count: int) -> npt.NDArray[np.int64]:
    """As above for strings of any kind, one by one, and at most `count`."""
    found: list[int] = []
    position, last = 0, len(window) - HEADER_BYTES
    for _ in range(count):
        if position > last:
            break
        position += HEADER_BYTES + _LENGTH.unpack_from(window, position)[0]
        found.append(position)
    found[-1:] = [min(end, _FAR) for end in found[-1:]]  # only the last can be past the window, and past 64 bits
    return np.array(found, np.int64)


@dataclass(frozen=True, slots=True)
class Metadata(Mapping[str, Any]):
    """The key-value pairs of a GGUF file, in file order.

    Values are bool, int, float, str, a read-only NumPy array, a StringArray, or a list for arrays of arrays. Besides
    the mapping's own access there is one accessor for each type: it raises FileFormatError if the value has another
    type, or if the key is absent and no default is given.
    """

    path: str | os.PathLike[str]
    values_by_key: Mapping[str, Any] = field(repr=False)
    offsets: Mapping[str, int] = field(repr=False)
    release: Callable[[], None] = field(repr=False)
    """Says that the arrays are not needed for now: their pages leave memory, and come back if touched."""

    def __getitem__(self, key: str) -> Any:
        return self.values_by_key[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number under `key`."""
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._mismatch(key, value, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The whole or floating-point number under `key`."""
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._mismatch(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """The truth value under `key`."""
        value = self._find(key, default)
        if not isinstance(value, bool):
            raise self._mismatch(key, value, "a bool")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """The string under `key`."""
        value = self._find(key, default)
        if not isinstance(value, str):
            raise self._mismatch(key, value, "a string")
        return value

    def numbers(self, key: str) -> npt.NDArray[Any]:
        """The array of numbers (or bools) under `key`, with the type that the file gives it."""
        value = self._find(key, None)
        if not isinstance(value, np.ndarray):
            raise self._mismatch(key, value, "an array of numbers")
        return value

    def strings(self, key: str) -> StringArray:
        """The array of strings under `key`."""
        value = self._find(key, None)
        if not isinstance(value, StringArray):
            raise self._mismatch(key, value, "an array of strings")
        return value

    def _find(self, key: str, default: Any) -> Any:
        value = self.values_by_key.get(key, default)
        if value is None:
            raise FileFormatError(self.path, f"metadata key {key!r}", "missing, and needed")
        return value

    def _mismatch(self, key: str, value: object, expected: str) -> FileFormatError:
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        where = f"byte {self.offsets[key]}, metadata key {key!r}" if key in self.offsets else f"metadata key {key!r}"
        return FileFormatError(self.path, where, f"expected {expected}, got {kind}")
