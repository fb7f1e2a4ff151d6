"""SentencePiece vocabularies over the `tokenizers` library, where `sentencepiece` is not to be had (riscv64).

Slower to load (3 s for 262,144 pieces) and larger (300 MB): the merges, which SentencePiece finds as it goes, have to
be listed, half a million of them. The ids are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Pipeline

from perfxapi.errors import FileFormatError
from perfxlm.tokenizer.base import SpecialTokens
from perfxlm.tokenizer.bpe import surround
from perfxlm.tokenizer.control import ControlToken, Segment
from perfxlm.tokenizer.huggingface import HuggingFaceTokenizer
from perfxlm.tokenizer.sentencepiece_model import PieceTable, PieceType

_UNREACHABLE = (PieceType.CONTROL, PieceType.UNUSED)


class MergedPiecesTokenizer(HuggingFaceTokenizer):
    """As SentencePiece, each stretch of plain text gets the space prefix, if the model has one."""

    add_space_prefix: bool = False

    @property
    def strips_leading_space(self) -> bool:
        """Whether encoding puts a space before the text, which decoding takes away again."""
        return self.add_space_prefix

    def _encode_segments(self, segments: Sequence[Segment]) -> list[int]:
        if self.add_space_prefix:
            segments = [" " + segment if isinstance(segment, str) else segment for segment in segments]
        return super()._encode_segments(segments)


def from_pieces(
    path: object,
    table: PieceTable,
    special: SpecialTokens,
    chat_templates: Mapping[str, str],
    *,
    add_space_prefix: bool,
) -> MergedPiecesTokenizer:
    """A tokenizer from a checked vocabulary of pieces with scores. Raises FileFormatError; path: for messages."""
    pieces = _texts(path, table)
    names = [
        f"\0{index}" if kind in _UNREACHABLE else piece
        for index, (piece, kind) in enumerate(zip(pieces, table.types, strict=True))
    ]
    vocabulary = {name: index for index, name in enumerate(names)}
    if len(vocabulary) != len(names):
        twin = next(index for index, name in enumerate(names) if vocabulary[name] != index)
        raise FileFormatError(path, "tokenizer.ggml.tokens", f"token {twin}, {names[twin]!r}, is already defined")
    unknown = names[special.unk] if special.unk is not None else None
    merges = list(_merges(pieces, table))
    pipeline = Pipeline(models.BPE(vocabulary, merges, unk_token=unknown, byte_fallback=True))
    pipeline.normalizer = normalizers.Replace(" ", "▁")
    pipeline.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    user_defined = [pieces[index] for index in table.of_type(PieceType.USER_DEFINED)]
    pipeline.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in user_defined])
    surround(pipeline, special)
    control = [ControlToken(index, pieces[index]) for index in table.of_type(PieceType.CONTROL, PieceType.UNKNOWN)]
    tokenizer = MergedPiecesTokenizer(pipeline, control, special, chat_templates)
    tokenizer.add_space_prefix = add_space_prefix
    return tokenizer


def _texts(path: object, table: PieceTable) -> list[str]:
    data, bounds = table.buffer.tobytes(), table.offsets.tolist()
    try:
        return [data[start:end].decode() for start, end in pairwise(bounds)]
    except UnicodeDecodeError as error:
        raise FileFormatError(path, "tokenizer.ggml.tokens", f"a token is no UTF-8: {error.object!r}") from None


def _merges(pieces: Sequence[str], table: PieceTable) -> Iterator[tuple[str, str]]:
    """Every way to make a piece of two others, the pieces with the highest scores first."""
    normal = np.array(table.of_type(PieceType.NORMAL), np.int64)
    known = {pieces[index] for index in normal.tolist()}
    for index in normal[np.argsort(-table.scores[normal], kind="stable")].tolist():
        piece = pieces[index]
        for cut in range(1, len(piece)):
            if (left := piece[:cut]) in known and (right := piece[cut:]) in known:
                yield left, right
