"""Tokenizers out of GGUF files ("GGUF" specification, ggml project, docs/gguf.md, section "Tokenizer")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perfxapi.errors import FileFormatError, UnknownNameError
from perfxlm.tokenizer.base import SpecialTokens, Tokenizer
from perfxlm.tokenizer.sentencepiece_model import PieceTable, PieceType
from perfxlm.weights.gguf import GGUFFile
from perfxlm.weights.metadata import Metadata

_PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"
_SENTENCEPIECE_DEFAULTS = {"bos": 1, "eos": 2, "unk": 0}
_ID_KEYS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "eot": "eot", "eom": "eom"}

END_OF_TURN = frozenset(
    {
        b"<end_of_turn>", b"<|eot_id|>", b"<|eom_id|>", b"<|im_end|>", b"<|end|>", b"<|end_of_text|>", b"<|endoftext|>",
        b"<|eot|>", b"<|return|>", b"<|call|>", b"<eos>", b"</s>", b"<EOT>", b"_<EOT>", b"<turn|>",
    }
)  # fmt: skip
"""Control tokens that end a text or a turn in the chat formats of well-known models; files often name only one."""


def load_from_gguf(file: GGUFFile | Metadata) -> Tokenizer:
    """The tokenizer of an open GGUF file, or of its metadata.

    Two kinds of vocabulary are supported: SentencePiece ("llama") and byte-level BPE ("gpt2"). Raises FileFormatError
    for a malformed vocabulary, UnknownNameError for a kind that is not supported.
    """
    metadata = file if isinstance(file, Metadata) else file.metadata
    kind = metadata.text(_PREFIX + "model")
    makers = {"llama": _sentencepiece, "gpt2": _byte_level_bpe}
    if kind not in makers:
        raise UnknownNameError("tokenizer (tokenizer.ggml.model)", kind, sorted(makers))
    tokenizer = makers[kind](metadata)
    metadata.release()
    return tokenizer


def _sentencepiece(metadata: Metadata) -> Tokenizer:
    from perfxlm.tokenizer.spm import from_pieces

    buffer, offsets = metadata.strings(_PREFIX + "tokens").packed()
    count = len(offsets) - 1
    scores = _column(metadata, "scores", count).astype(np.float32)
    table = PieceTable(buffer, offsets, scores, _types(metadata, count))
    ids = _special_ids(metadata, count, _SENTENCEPIECE_DEFAULTS)
    return from_pieces(
        metadata.path,
        table,
        _special_tokens(metadata, table, ids, add_bos=True),
        _chat_templates(metadata),
        add_space_prefix=metadata.flag(_PREFIX + "add_space_prefix", True),
    )


def _byte_level_bpe(metadata: Metadata) -> Tokenizer:
    from perfxlm.tokenizer.bpe import from_merges

    pieces = metadata.strings(_PREFIX + "tokens")
    buffer, offsets = pieces.packed()
    types = _types(metadata, len(pieces))
    table = PieceTable(buffer, offsets, np.zeros(len(pieces), np.float32), types)
    pre = metadata.text(_PREFIX + "pre", "default")
    ids = _special_ids(metadata, len(pieces), {})
    return from_merges(
        metadata.path,
        pieces.to_list(),
        types.tolist(),
        metadata.strings(_PREFIX + "merges").to_list(),
        pre,
        _special_tokens(metadata, table, ids, add_bos=pre in ("llama-bpe", "llama3", "llama-v3")),
        _chat_templates(metadata),
    )


def _types(metadata: Metadata, count: int) -> npt.NDArray[np.int32]:
    if _PREFIX + "token_type" not in metadata:
        return np.full(count, PieceType.NORMAL, np.int32)
    return _column(metadata, "token_type", count).astype(np.int32)


def _column(metadata: Metadata, name: str, count: int) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    """An array with one number for each token."""
    column = metadata.numbers(_PREFIX + name)
    if len(column) != count:
        problem = f"{len(column)} entries for the {count} tokens of {_PREFIX}tokens"
        raise FileFormatError(metadata.path, _where(metadata, name), problem)
    return column


def _special_ids(metadata: Metadata, count: int, defaults: dict[str, int]) -> dict[str, int]:
    """Ids by role; those that the file leaves out, or sets to all ones for "none", are not in the result."""
    ids: dict[str, int] = {}
    for role, name in _ID_KEYS.items():
        key = f"{name}_token_id"
        if _PREFIX + key in metadata or role in defaults:
            index = metadata.integer(_PREFIX + key, defaults.get(role))
            if index in (-1, 0xFFFFFFFF):
                continue
            if not 0 <= index < count:
                problem = f"token id {index} is not among the {count} tokens"
                raise FileFormatError(metadata.path, _where(metadata, key), problem)
            ids[role] = index
    return ids


def _special_tokens(metadata: Metadata, table: PieceTable, ids: dict[str, int], *, add_bos: bool) -> SpecialTokens:
    ends = {ids[role] for role in ("eos", "eot", "eom") if role in ids}
    ends |= {index for index in table.of_type(PieceType.CONTROL) if table.piece(index) in END_OF_TURN}
    return SpecialTokens(
        bos=ids.get("bos"),
        eos=ids.get("eos"),
        unk=ids.get("unk"),
        pad=ids.get("pad"),
        end=frozenset(ends),
        add_bos=metadata.flag(_PREFIX + "add_bos_token", add_bos),
        add_eos=metadata.flag(_PREFIX + "add_eos_token", False),
    )


def _chat_templates(metadata: Metadata) -> dict[str, str]:
    """Templates by name: `tokenizer.chat_template` is "default", others are `tokenizer.chat_template.<name>`."""
    keys = [key for key in metadata if key == _TEMPLATE or key.startswith(_TEMPLATE + ".")]
    return {key[len(_TEMPLATE) + 1 :] or "default": metadata.text(key) for key in keys}


def _where(metadata: Metadata, name: str) -> str:
    key = _PREFIX + name
    return f"byte {metadata.offsets[key]}, {key}" if key in metadata.offsets else key
