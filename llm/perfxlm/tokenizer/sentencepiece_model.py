"""Writes a SentencePiece model (the serialized ModelProto) from the arrays of a GGUF vocabulary.

A quarter of a million pieces are framed by NumPy in some 20 ms, so that nothing needs to be kept on disk. The wire
format is that of Protocol Buffers (protobuf.dev/programming-guides/encoding); field numbers are those of
`sentencepiece_model.proto` in google/sentencepiece.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
SPACE = "▁".encode()
"""How SentencePiece spells a space (U+2581)."""


class PieceType(IntEnum):
    """Kinds of piece, with the numbers that GGUF and SentencePiece share."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class PieceTable:
    """A vocabulary as arrays: piece i is `buffer[offsets[i]:offsets[i + 1]]`, UTF-8.

    buffer uint8 [offsets[-1]]; offsets int64 [n + 1], from 0 and ascending; scores float32 [n], the higher merged
    first; types int32 [n], of PieceType.
    """

    buffer: Bytes
    offsets: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    types: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.types)

    def piece(self, index: int) -> bytes:
        """UTF-8 of one piece."""
        return self.buffer[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def of_type(self, *types: PieceType) -> list[int]:
        """Ids of all pieces of these types, ascending."""
        return [int(index) for index in np.flatnonzero(np.isin(self.types, types))]


def model_message(table: PieceTable, add_space_prefix: bool) -> bytes:
    """The serialized ModelProto: pieces, BPE by score, byte fallback where all 256 bytes are there, no normalization.

    Exactly one piece must be of type UNKNOWN and no two may be equal; `sentencepiece` checks both.
    """
    table = _with_escaped_spaces(table)
    byte_fallback = len(table.of_type(PieceType.BYTE)) == 256
    trainer = _varint_field(3, 2) + _varint_field(35, byte_fallback)  # model_type BPE
    normalizer = _bytes_field(1, b"identity") + _varint_field(3, add_space_prefix)
    normalizer += _varint_field(4, False) + _varint_field(5, True)  # keep extra spaces; spell a space as U+2581
    return _pieces(table) + _bytes_field(2, trainer) + _bytes_field(3, normalizer)


def append_pieces(model: bytes, pieces: list[tuple[bytes, PieceType]]) -> bytes:
    """A serialized model with more pieces at its end (fields of a repeated kind may stand anywhere in a message)."""
    if not pieces:
        return model
    texts = [text for text, _ in pieces]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    buffer = np.frombuffer(b"".join(texts), np.uint8)
    types = np.array([kind for _, kind in pieces], np.int32)
    return model + _pieces(_with_escaped_spaces(PieceTable(buffer, offsets, np.zeros(len(types), np.float32), types)))


def with_control_pieces(model: bytes, ids: set[int]) -> bytes:
    """A serialized model in which these pieces are of type CONTROL: of a field given twice the last one counts."""
    parts: list[bytes] = []
    index = position = 0
    control = _varint_field(3, PieceType.CONTROL)
    while position < len(model):
        start = position
        tag, position = _read_varint(model, position)
        if tag & 7 == 2:
            length, position = _read_varint(model, position)
            body, position = model[position : position + length], position + length
            if tag == _tag(1, 2):
                parts.append(_bytes_field(1, body + control) if index in ids else model[start:position])
                index += 1
                continue
        elif tag & 7 == 0:
            _, position = _read_varint(model, position)
        else:
            position += 8 if tag & 7 == 1 else 4
        parts.append(model[start:position])
    return b"".join(parts)


def _pieces(table: PieceTable) -> bytes:
    """Field 1 of the ModelProto, repeated: a message of piece (1, bytes), score (2, float) and type (3, enum)."""
    count = len(table)
    if count == 0:
        return b""
    lengths = np.diff(table.offsets)
    width = _varint_width(int(lengths.max()) + 16)
    framing = np.empty((count, 9 + 2 * width), np.uint8)
    head, tail = framing[:, : 2 + 2 * width], framing[:, 2 + 2 * width :]
    head[:, 0] = _tag(1, 2)
    head[:, 1 : 1 + width] = _padded_varints(1 + width + lengths + 7, width)
    head[:, 1 + width] = _tag(1, 2)
    head[:, 2 + width :] = _padded_varints(lengths, width)
    tail[:, 0] = _tag(2, 5)
    tail[:, 1:5] = table.scores.astype("<f4").view(np.uint8).reshape(count, 4)
    tail[:, 5] = _tag(3, 0)
    tail[:, 6] = table.types
    return _interleave(framing, 2 + 2 * width, table.buffer, lengths)


def _interleave(framing: Bytes, head: int, buffer: Bytes, lengths: npt.NDArray[np.int64]) -> bytes:
    """Row i of `framing` with piece i put in after its first `head` columns, all rows joined."""
    count, width = framing.shape
    runs = np.empty(2 * count + 1, np.int64)
    runs[0], runs[-1] = head, width - head
    runs[1::2] = lengths
    runs[2:-1:2] = width  # the end of one piece's frame and the start of the next one's
    is_piece = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    message = np.empty(len(is_piece), np.uint8)
    message[is_piece] = buffer
    np.logical_not(is_piece, out=is_piece)
    message[is_piece] = framing.ravel()
    return message.tobytes()


def _with_escaped_spaces(table: PieceTable) -> PieceTable:
    """User-defined pieces are spelled with plain spaces in GGUF; SentencePiece looks for them after escaping."""
    spaced = np.unique(np.searchsorted(table.offsets, np.flatnonzero(table.buffer == 0x20), side="right") - 1)
    chosen = [int(index) for index in spaced if table.types[index] == PieceType.USER_DEFINED]
    if not chosen:
        return table
    lengths = np.diff(table.offsets)
    parts, end = [], 0
    for index in chosen:
        escaped = table.piece(index).replace(b" ", SPACE)
        parts += [table.buffer[end : table.offsets[index]], np.frombuffer(escaped, np.uint8)]
        end = int(table.offsets[index + 1])
        lengths[index] = len(escaped)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return PieceTable(np.concatenate([*parts, table.buffer[end:]]), offsets, table.scores, table.types)


def _varint_width(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def _padded_varints(values: npt.NDArray[np.int64], width: int) -> Bytes:
    """Varints of one width [n, width]: shorter ones are padded with continuation bytes, which the format allows."""
    columns = [(values >> (7 * place)) & 0x7F | (0x80 if place < width - 1 else 0) for place in range(width)]
    return np.stack(columns, axis=1).astype(np.uint8)


def _varint(value: int) -> bytes:
    return _padded_varints(np.array([value], np.int64), _varint_width(value)).tobytes()


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """A varint and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _tag(field: int, wire_type: int) -> int:
    return field << 3 | wire_type


def _varint_field(field: int, value: int) -> bytes:
    return _varint(_tag(field, 0)) + _varint(value)


def _bytes_field(field: int, value: bytes) -> bytes:
    return _varint(_tag(field, 2)) + _varint(len(value)) + value
