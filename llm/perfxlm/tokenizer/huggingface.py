"""Tokenizer over the `tokenizers` library: vocabularies with merges, and HuggingFace's tokenizer.json."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken
from tokenizers import Tokenizer as Pipeline

from perfxapi.errors import InvalidArgumentError
from perfxlm.tokenizer.base import SpecialTokens, Tokenizer
from perfxlm.tokenizer.control import ControlToken, Segment
from perfxlm.tokenizer.piece_bytes import PieceDecoder


class HuggingFaceTokenizer(Tokenizer):
    """A pipeline of normalizer, pre-tokenizer, model, post-processor and decoder.

    The library finds special tokens in any text; here it is told never to. Text is cut at control tokens first, and
    each of them is handed to the library as a random marker: so one call encodes everything, a stretch knows whether
    it begins the text, and no user can write a marker.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        control: Iterable[ControlToken],
        special: SpecialTokens,
        chat_templates: Mapping[str, str],
    ) -> None:
        """pipeline: this tokenizer's own from now on; control: its control tokens.

        `special.add_bos` and `add_eos` are not asked: the pipeline's post-processor says what surrounds a text.
        """
        super().__init__(max(pipeline.get_vocab().values(), default=-1) + 1, special, chat_templates)
        self._control = {token.id: token for token in control}
        self._control_ids = {token.text: token.id for token in self._control.values()}
        self._forbidden = frozenset(self._control) - {special.unk}
        self._added = {index: token.content.encode() for index, token in pipeline.get_added_tokens_decoder().items()}
        self._piece_decoder = PieceDecoder.of(pipeline.decoder)
        self._marker = f"\uf8ff{secrets.token_hex(16)}\uf8ff"
        pipeline.no_truncation()
        pipeline.no_padding()
        pipeline.encode_special_tokens = True
        pipeline.add_tokens([AddedToken(self._marker, normalized=False, special=False)])
        self._marker_id = pipeline.token_to_id(self._marker)
        self._before, self._after = _surroundings(pipeline)
        self._pipeline = pipeline

    @property
    def strips_leading_space(self) -> bool:
        """Whether encoding puts a space before the text, which decoding takes away again."""
        return self._piece_decoder.strips_leading_space

    def control_tokens(self) -> Iterable[ControlToken]:
        """The tokens that tokenizer.json calls special, or of GGUF's type CONTROL."""
        return self._control.values()

    def is_control(self, token_id: int) -> bool:
        """Whether the token is special."""
        return token_id in self._control

    def id_to_piece(self, token_id: int) -> str:
        """The token as the vocabulary spells it (`Ġthe`)."""
        token = self._control.get(token_id)
        return token.text if token else self._spelling(token_id)

    def piece_to_id(self, piece: str) -> int | None:
        """The id of a token spelled as in the vocabulary; None if there is none."""
        found = self._control_ids.get(piece, self._pipeline.token_to_id(piece))
        return None if found == self._marker_id else found

    def id_to_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes, perhaps half a character, that a token stands for in running text."""
        if token_id in self._control:
            return self._control[token_id].text.encode()
        added = self._added.get(token_id)
        return self._piece_decoder.to_bytes(self._spelling(token_id)) if added is None else added

    def decode(
        self, ids: int | Iterable[int], skip_special_tokens: bool = True, spaces_between_special_tokens: bool = True
    ) -> str:
        """See `Tokenizer.decode`. A decoder with rules beyond joining bytes (WordPiece) is asked itself."""
        if self._piece_decoder.joins_bytes:
            return super().decode(ids, skip_special_tokens, spaces_between_special_tokens)
        ids = [ids] if isinstance(ids, int) else list(ids)
        self._check_ids(ids)
        return str(self._pipeline.decode(ids, skip_special_tokens=skip_special_tokens))

    def _spelling(self, token_id: int) -> str:
        return (self._pipeline.id_to_token(token_id) or "") if token_id < self.vocab_size else ""

    def _encode_segments(self, segments: Sequence[Segment]) -> list[int]:
        marked = "".join(self._marker if isinstance(part, int) else part for part in segments)
        ids: list[int] = self._pipeline.encode(marked, add_special_tokens=False).ids
        if not self._forbidden.isdisjoint(ids):
            ids = self._spelled_out(ids)
        control = iter([part for part in segments if isinstance(part, int)])
        return [next(control) if token_id == self._marker_id else token_id for token_id in ids]

    def _spelled_out(self, ids: list[int]) -> list[int]:
        """Where a vocabulary merges plain text into a control token, the characters are encoded one by one."""
        result: list[int] = []
        for token_id in ids:
            if token_id not in self._forbidden:
                result.append(token_id)
                continue
            for character in self._control[token_id].text:
                result += self._pipeline.encode(character, add_special_tokens=False).ids
        if not self._forbidden.isdisjoint(result):
            raise InvalidArgumentError("text spells a control token of one character, which it must not become")
        return result

    def _add_special_tokens(self, ids: list[int]) -> list[int]:
        return self._before + ids + self._after


def _surroundings(pipeline: Pipeline) -> tuple[list[int], list[int]]:
    """What the pipeline's post-processor puts before and after a text."""
    encoding = pipeline.encode("a", add_special_tokens=True)
    ids, mask = list(encoding.ids), list(encoding.special_tokens_mask)
    if 0 not in mask:
        return ids, []
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    return ids[:first], ids[last:]
