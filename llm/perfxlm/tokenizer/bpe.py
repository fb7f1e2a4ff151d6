"""Builds a `tokenizers` pipeline from a GGUF vocabulary of the byte-level BPE kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Pipeline

from perfxapi.errors import FileFormatError, UnknownNameError
from perfxlm.tokenizer.base import SpecialTokens
from perfxlm.tokenizer.control import ControlToken
from perfxlm.tokenizer.huggingface import HuggingFaceTokenizer
from perfxlm.tokenizer.piece_bytes import byte_alphabet
from perfxlm.tokenizer.sentencepiece_model import PieceType


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How text is cut into words before merging. patterns: applied one after the other, each match a word."""

    patterns: tuple[str, ...]
    normalizes: bool = False
    ignore_merges: bool = False


_UTF8 = frozenset(range(0xF5)) - {0xC0, 0xC1}  # the bytes that valid UTF-8 is made of
_CONTRACTION = r"'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CASE_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = rf"{_CONTRACTION}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    rf"{_ANY_CASE_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_QWEN2 = rf"{_ANY_CASE_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_DEFAULT = (
    r"[\p{P}\$\+<=>\^~\|]+",
    rf"{_CONTRACTION}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer(_DEFAULT),
    "gpt-2": PreTokenizer((_GPT2,)),
    "llama-bpe": PreTokenizer((_LLAMA3,), ignore_merges=True),
    "qwen2": PreTokenizer((_QWEN2,), normalizes=True),
    "smollm": PreTokenizer((r"\p{N}", _GPT2)),
}
"""By the name in `tokenizer.ggml.pre`. Qwen 2 and 3 normalize to NFC, as their own tokenizers do."""

_SAME_AS = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "gpt2": "gpt-2",
    "phi-2": "gpt-2",
    "deepseek-r1-qwen": "qwen2",
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that name. Raises UnknownNameError: a guess would encode wrongly without a word."""
    known = PRE_TOKENIZERS.get(_SAME_AS.get(name, name))
    if known is None:
        raise UnknownNameError("pre-tokenizer (tokenizer.ggml.pre)", name, sorted([*PRE_TOKENIZERS, *_SAME_AS]))
    return known


def from_merges(
    path: object,
    pieces: Sequence[str],
    types: Sequence[int],
    merges: Sequence[str],
    pre: str,
    special: SpecialTokens,
    chat_templates: Mapping[str, str],
) -> HuggingFaceTokenizer:
    """A tokenizer from pieces (spelled in the byte alphabet), their GGUF types, and merges ("left right", by rank).

    path: the file, for messages. Raises FileFormatError, or UnknownNameError for an unknown pre-tokenizer.
    """
    recipe = pre_tokenizer(pre)
    hidden = {index for index, kind in enumerate(types) if kind in (PieceType.CONTROL, PieceType.UNKNOWN)}
    pipeline = Pipeline(_model(path, pieces, hidden, merges, recipe.ignore_merges))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in recipe.patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pipeline.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    if recipe.normalizes:
        pipeline.normalizer = normalizers.NFC()
    pipeline.decoder = decoders.ByteLevel()
    user_defined = [pieces[index] for index, kind in enumerate(types) if kind == PieceType.USER_DEFINED]
    pipeline.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in user_defined if piece])
    surround(pipeline, special)
    control = [ControlToken(index, pieces[index]) for index in sorted(hidden)]
    return HuggingFaceTokenizer(pipeline, control, special, chat_templates)


def _model(
    path: object, pieces: Sequence[str], hidden: set[int], merges: Sequence[str], ignore_merges: bool
) -> models.BPE:
    """Control tokens get names that no text can spell: a zero byte is not in the byte alphabet."""
    vocabulary = {f"\0{index}" if index in hidden else piece: index for index, piece in enumerate(pieces)}
    if len(vocabulary) != len(pieces):
        twin = next(index for index, piece in enumerate(pieces) if index not in hidden and vocabulary[piece] != index)
        problem = f"tokens {twin} and {vocabulary[pieces[twin]]} are both {pieces[twin]!r}"
        raise FileFormatError(path, "tokenizer.ggml.tokens", problem)
    missing = [byte for character, byte in byte_alphabet().items() if byte in _UTF8 and character not in vocabulary]
    if missing:
        raise FileFormatError(path, "tokenizer.ggml.tokens", f"no token spells the byte 0x{min(missing):02X}")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        return models.BPE(vocabulary, pairs, ignore_merges=ignore_merges)
    except Exception as error:  # the library raises nothing more exact
        raise FileFormatError(path, "tokenizer.ggml.merges", str(error)) from None


def surround(pipeline: Pipeline, special: SpecialTokens) -> None:
    """Tells the pipeline which special tokens it puts before and after a text."""
    before = special.bos if special.add_bos else None
    after = special.eos if special.add_eos else None
    around = [[f"\0{index}"] if index is not None else [] for index in (before, after)]
    names = [(f"\0{index}", index) for index in {before, after} if index is not None]
    if names:
        single = [*around[0], "$A", *around[1]]
        pipeline.post_processor = processors.TemplateProcessing(single=single, special_tokens=names)
