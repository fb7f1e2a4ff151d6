"""Builds GGUF files byte by byte, well-formed or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
TENSOR_F32, TENSOR_Q8_0 = 0, 8


def string(text: str | bytes, length: int | None = None) -> bytes:
    """A string; `length` overrides the length that is stored."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data


def scalar(kind: int, value: Any) -> bytes:
    """A value without its type."""
    return string(value) if kind == STRING else struct.pack("<" + _FORMATS[kind], value)


def array(kind: int, values: Sequence[Any], count: int | None = None) -> bytes:
    """An array without its own type; elements of kind ARRAY are given as bytes. `count` overrides the stored length."""
    items = values if kind == ARRAY else [scalar(kind, value) for value in values]
    return struct.pack("<IQ", kind, len(values) if count is None else count) + b"".join(items)


def pair(key: str | bytes, kind: int, value: Any) -> bytes:
    """A metadata pair; the value of an ARRAY is given as bytes."""
    return string(key) + struct.pack("<I", kind) + (value if kind == ARRAY else scalar(kind, value))


def tensor(
    name: str | bytes, dims: Sequence[int], kind: int = TENSOR_F32, offset: int = 0, ndim: int | None = None
) -> bytes:
    """An entry of the tensor table; `dims` has the innermost first, as in the file."""
    ndim = len(dims) if ndim is None else ndim
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", ndim, *dims, kind, offset)


def build(
    pairs: Sequence[bytes] = (), tensors: Sequence[bytes] = (), data: bytes = b"", *, magic: bytes = b"GGUF",
    version: int = 3, num_pairs: int | None = None, num_tensors: int | None = None, alignment: int = 32,
) -> bytes:  # fmt: skip
    """A whole file; `num_pairs` and `num_tensors` override the counts that are stored."""
    counts = len(tensors) if num_tensors is None else num_tensors, len(pairs) if num_pairs is None else num_pairs
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment if data else 0) + data
