"""Weights as products on a device take them: tiles of rows whose words lie side by side (`kernels/linear_tile.h`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from perfxapi import quantization
from perfxapi.dtypes import DType
from perfxapi.memory import View
from perfxapi_gpu_kernels.driver import Bytes

_ROWS_AT_A_TIME = 2048


class Format(NamedTuple):
    """How a packed weight is laid out.

    `form` says what a word of 32 bits holds (a define of `linear_tile.h`), `block` is the columns that share a scale,
    `scale_bytes` 0 for none, 2 for halves, 4 for floats.
    """

    form: str
    block: int
    scale_bytes: int
    has_minimum: bool

    @property
    def arguments(self) -> str:
        """The arguments that kernels are compiled with."""
        return f"{self.form}, {self.block}, {self.scale_bytes}, {int(self.has_minimum)}"

    @property
    def columns_of_word(self) -> int:
        """Columns in 32 bits."""
        return _COLUMNS_OF_WORD[self.form]

    def nbytes(self, rows: int, columns: int, lanes: int) -> int:
        """Bytes of a weight [rows, columns] in tiles of `lanes` rows, columns in 32s."""
        values = -(-rows // lanes) * lanes * columns
        return values // self.columns_of_word * 4 + values // self.block * (self.scale_bytes + 4 * self.has_minimum)


_COLUMNS_OF_WORD: Final = {"CODES4": 8, "CODES4_OF_8": 8, "CODES8": 4, "FLOAT16": 2, "BFLOAT16": 2, "FLOAT32": 1}

FORMATS: Final = {
    "float32": Format("FLOAT32", 32, 0, False),
    "float16": Format("FLOAT16", 32, 0, False),
    "bfloat16": Format("BFLOAT16", 32, 0, False),
    "q4_0": Format("CODES4_OF_8", 32, 2, False),
    "q4_1": Format("CODES4", 32, 2, True),
    "q5_0": Format("CODES8", 32, 2, False),
    "q5_1": Format("CODES8", 32, 2, True),
    "q8_0": Format("CODES8", 32, 2, False),
    "iq4_nl": Format("CODES8", 32, 2, False),
    "mxfp4": Format("CODES8", 32, 4, False),
    "int4_g128": Format("CODES4", 128, 2, True),
    "q2_k": Format("CODES4", 16, 4, True),
    "q3_k": Format("CODES4_OF_8", 16, 4, False),
    "q4_k": Format("CODES4", 32, 4, True),
    "q5_k": Format("CODES8", 32, 4, True),
    "q6_k": Format("CODES8", 16, 4, False),
    "q8_k": Format("CODES8", 32, 4, False),
    "iq4_xs": Format("CODES8", 32, 4, False),
}
"""By the name of the dtype. Halves hold the scales of types that store those as they are."""


def padded_columns(columns: int) -> int:
    """Columns of packed weights and prepared activations: in 32s."""
    return -(-columns // 32) * 32


def pack(weight: View, lanes: int) -> Bytes:
    """The packed form of a weight [rows, columns]. Rows and columns are filled up with zeros."""
    rows, columns = (int(size) for size in weight.shape)
    form, padded = FORMATS[weight.dtype.name], padded_columns(columns)
    packed = np.zeros(form.nbytes(rows, padded, lanes), np.uint8)
    sections = _sections(packed, form, -(-rows // lanes), padded, lanes)
    for start, parts in _unpacked(weight.host(), weight.dtype, form):
        for section, part in zip(sections, parts, strict=True):
            _interleave(section, part, start)
    return packed


def _sections(packed: Bytes, form: Format, tiles: int, columns: int, lanes: int) -> list[npt.NDArray[Any]]:
    """Codes as words, scales and minima, each [tiles, words of a row, lanes]."""
    blocks = columns // form.block
    parts: list[tuple[npt.DTypeLike, int]] = [(np.uint32, columns // form.columns_of_word)]
    if form.scale_bytes:
        parts.append((np.float16 if form.scale_bytes == 2 else np.float32, blocks))
    if form.has_minimum:
        parts.append((np.float32, blocks))
    sections, begin = [], 0
    for dtype, count in parts:
        end = begin + tiles * count * lanes * np.dtype(dtype).itemsize
        sections.append(packed[begin:end].view(dtype).reshape(tiles, count, lanes))
        begin = end
    return sections


def _interleave(section: npt.NDArray[Any], rows: npt.NDArray[Any], start: int) -> None:
    """Writes rows [n, words of a row], which begin with a tile, side by side."""
    lanes = section.shape[2]
    first, (whole, rest) = start // lanes, divmod(len(rows), lanes)
    words = rows.shape[1]  # the columns that fill a section up stay zero
    tiles = rows[: whole * lanes].reshape(whole, lanes, words)
    section[first : first + whole, :words] = tiles.transpose(0, 2, 1)
    if rest:
        section[first + whole, :words, :rest] = rows[whole * lanes :].T


def _unpacked(
    stored: npt.NDArray[Any], dtype: DType, form: Format
) -> Iterator[tuple[int, tuple[npt.NDArray[Any], ...]]]:
    """Some rows at a time: their number, and their words, scales and minima."""
    for start in range(0, len(stored), _ROWS_AT_A_TIME):
        rows = stored[start : start + _ROWS_AT_A_TIME]
        yield start, _quantized_parts(rows, dtype, form) if dtype.is_quantized else (_float_words(rows),)


def _float_words(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    short = -rows.shape[1] * rows.itemsize % 4 // rows.itemsize
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, short)))).view(np.uint32)


def _quantized_parts(rows: Bytes, dtype: DType, form: Format) -> tuple[npt.NDArray[Any], ...]:
    blocks = quantization.unpack_codes(np.ascontiguousarray(rows), dtype)
    if form.form == "CODES8":
        words = (blocks.codes - np.uint8(blocks.offset)).view(np.uint32)
    else:
        codes = blocks.codes + np.uint8(8 - blocks.offset) if form.form == "CODES4_OF_8" else blocks.codes
        words = (codes[:, ::2] | codes[:, 1::2] << np.uint8(4)).view(np.uint32)
    step = form.block // blocks.sub_block
    parts: list[npt.NDArray[Any]] = [words, blocks.scale[:, ::step]]
    if form.has_minimum and blocks.minimum is not None:
        parts.append(blocks.minimum[:, ::step])
    return tuple(parts)
