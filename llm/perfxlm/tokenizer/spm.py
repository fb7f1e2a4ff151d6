"""Tokenizer over the `sentencepiece` library: vocabularies of the SentencePiece kind (Gemma, Llama 2, Mistral)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perfxapi.errors import FileFormatError
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.tokenizer.base import SpecialTokens, Tokenizer
from perfxlm.tokenizer.control import ControlToken, Segment
from perfxlm.tokenizer.sentencepiece_model import (
    PieceTable,
    PieceType,
    append_pieces,
    model_message,
    with_control_pieces,
)

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_BYTE_PIECE = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
_HIDDEN = (PieceType.CONTROL, PieceType.UNKNOWN)


class SentencePieceTokenizer(Tokenizer):
    """Ids equal those of the model's own SentencePiece file; user-defined pieces are found in any text."""

    def __init__(
        self,
        processor: SentencePieceProcessor,
        table: PieceTable,
        special: SpecialTokens,
        chat_templates: Mapping[str, str],
        *,
        add_space_prefix: bool,
    ) -> None:
        """processor: the loaded model; table: its pieces as shown to users; add_space_prefix: text begins with one."""
        super().__init__(len(table), special, chat_templates)
        self._processor = processor
        self._add_space_prefix = add_space_prefix
        self._buffer = table.buffer.tobytes()
        self._offsets: memoryview[int] = table.offsets.astype(np.uint32).data
        self._types = table.types.astype(np.uint8).tobytes()

    @property
    def strips_leading_space(self) -> bool:
        """Whether encoding puts a space before the text, which decoding takes away again."""
        return self._add_space_prefix

    def control_tokens(self) -> Iterable[ControlToken]:
        """Pieces of type CONTROL and UNKNOWN."""
        hidden = np.flatnonzero(np.isin(np.frombuffer(self._types, np.uint8), _HIDDEN))
        return [ControlToken(index, self.id_to_piece(index)) for index in hidden.tolist()]

    def is_control(self, token_id: int) -> bool:
        """Whether the piece is of type CONTROL or UNKNOWN."""
        return token_id < self.vocab_size and self._types[token_id] in _HIDDEN

    def id_to_piece(self, token_id: int) -> str:
        """The token as the vocabulary spells it (`▁the`)."""
        return self._piece(token_id).decode("utf-8", "replace") if token_id < self.vocab_size else ""

    def piece_to_id(self, piece: str) -> int | None:
        """The id of a token spelled as in the vocabulary; None if there is none."""
        for spelling in (piece, piece.replace(" ", "▁")):
            token_id = int(self._processor.piece_to_id(spelling))
            if self.id_to_piece(token_id) == piece:
                return token_id
        return None

    def id_to_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token in running text; of a byte piece the byte itself."""
        if token_id >= self.vocab_size:
            return b""
        kind = self._types[token_id]
        if kind == PieceType.BYTE:
            return self._byte_values[token_id]
        piece = self._piece(token_id)
        return piece if kind in _HIDDEN else piece.replace(b"\xe2\x96\x81", b" ")

    def _encode_segments(self, segments: Sequence[Segment]) -> list[int]:
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, int):
                ids.append(segment)
            else:
                ids += self._processor.encode(segment, out_type=int)
        return ids

    def _add_special_tokens(self, ids: list[int]) -> list[int]:
        before = [self.special.bos] if self.special.add_bos and self.special.bos is not None else []
        after = [self.special.eos] if self.special.add_eos and self.special.eos is not None else []
        return before + ids + after

    def _piece(self, token_id: int) -> bytes:
        return self._buffer[self._offsets[token_id] : self._offsets[token_id + 1]]

    @cached_property
    def _byte_values(self) -> dict[int, bytes]:
        """Byte of each byte piece, which is spelled <0xHH>."""
        found = np.flatnonzero(np.frombuffer(self._types, np.uint8) == PieceType.BYTE)
        return {index: bytes([int(self._piece(index)[3:5], 16)]) for index in found.tolist()}


def from_pieces(
    path: object,
    table: PieceTable,
    special: SpecialTokens,
    chat_templates: Mapping[str, str],
    *,
    add_space_prefix: bool,
) -> Tokenizer:
    """A tokenizer from a vocabulary of pieces with scores, as GGUF stores it.

    path: the file, for messages. special.unk: the piece for what cannot be spelled. Raises FileFormatError.
    """
    types = table.types.copy()
    types[types == PieceType.UNKNOWN] = PieceType.CONTROL
    if special.unk is not None:
        types[special.unk] = PieceType.UNKNOWN
    table = replace(table, types=types)
    _check_table(path, table)
    if find_spec("sentencepiece") is None:
        from perfxlm.tokenizer import piece_merges

        return piece_merges.from_pieces(path, table, special, chat_templates, add_space_prefix=add_space_prefix)
    processor = _load(path, "tokenizer.ggml.tokens", model_message(table, add_space_prefix))
    return SentencePieceTokenizer(processor, table, special, chat_templates, add_space_prefix=add_space_prefix)


def from_model_file(
    path: Path, added: dict[int, tuple[str, PieceType]], special: SpecialTokens, chat_templates: Mapping[str, str]
) -> SentencePieceTokenizer:
    """A tokenizer from a SentencePiece model file, with tokens added behind it or declared as control tokens.

    added: (text, type) by id. Ids within the model may turn a piece into a control token; those behind it must follow
    on without a gap. Raises FileFormatError, or UnsupportedFeatureError where `sentencepiece` is not installed.
    """
    if find_spec("sentencepiece") is None:
        raise UnsupportedFeatureError(f"{path} needs the package sentencepiece; a tokenizer.json beside it does not")
    model = path.read_bytes()
    size = len(_load(path, "model", model))
    behind = {index: token for index, token in sorted(added.items()) if index >= size}
    if list(behind) != list(range(size, size + len(behind))):
        raise FileFormatError(path, "added tokens", f"ids must follow on from {size} without a gap; got {list(behind)}")
    control = {index for index, (_, kind) in added.items() if index < size and kind == PieceType.CONTROL}
    if control:
        model = with_control_pieces(model, control)
    pieces = [(text.encode(), kind) for text, kind in behind.values()]
    processor = _load(path, "added tokens", append_pieces(model, pieces))
    table = _table_of(processor)
    unknown = processor.unk_id()
    special = replace(special, unk=unknown if unknown >= 0 else None)
    prefix = processor.encode("a", out_type=str)[0].startswith("▁")
    return SentencePieceTokenizer(processor, table, special, chat_templates, add_space_prefix=prefix)


def _load(path: object, where: str, model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor()
        processor.load_from_serialized_proto(model)
    except (RuntimeError, OSError, ValueError) as error:
        raise FileFormatError(path, where, f"no SentencePiece vocabulary: {error}") from None
    return processor


def _check_table(path: object, table: PieceTable) -> None:
    """Raises FileFormatError for what `sentencepiece` would take without a word."""
    allowed = np.isin(table.types, list(PieceType))
    if not allowed.all():
        index = int(np.argmin(allowed))
        raise FileFormatError(path, "tokenizer.ggml.token_type", f"token {index} has type {table.types[index]}")
    if (lengths := np.diff(table.offsets)).size and not lengths.all():
        raise FileFormatError(path, "tokenizer.ggml.tokens", f"token {int(np.argmin(lengths))} is empty")
    finite = np.isfinite(table.scores)
    if not finite.all():
        index = int(np.argmin(finite))
        raise FileFormatError(path, "tokenizer.ggml.scores", f"token {index} has score {table.scores[index]}")
    for index in table.of_type(PieceType.BYTE):
        piece = table.piece(index)
        if not _BYTE_PIECE.fullmatch(piece):
            raise FileFormatError(path, "tokenizer.ggml.tokens", f"byte token {index} is {piece!r}, not <0xHH>")


def _table_of(processor: SentencePieceProcessor) -> PieceTable:
    """The pieces of a loaded model as arrays."""
    ids = list(range(len(processor)))
    pieces = [piece.encode() for piece in processor.id_to_piece(ids)]
    offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    types = np.full(len(ids), PieceType.NORMAL, np.int32)
    for kind, flags in (
        (PieceType.UNKNOWN, processor.is_unknown(ids)),
        (PieceType.CONTROL, processor.is_control(ids)),
        (PieceType.UNUSED, processor.is_unused(ids)),
        (PieceType.BYTE, processor.is_byte(ids)),
    ):
        types[np.array(flags, bool)] = kind
    scores = np.array(processor.get_score(ids), np.float32)
    return PieceTable(np.frombuffer(b"".join(pieces), np.uint8), offsets, scores, types)
