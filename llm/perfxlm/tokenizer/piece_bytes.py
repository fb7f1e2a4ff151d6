"""From a token's spelling in the vocabulary to its bytes in running text, for the decoders that only join bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any


@cache
def byte_alphabet() -> dict[str, int]:
    """Byte for each of the 256 characters that byte-level BPE spells bytes with.

    Printable bytes of Latin-1 spell themselves, the others are U+0100 and on, in order (GPT-2's vocabulary).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


@dataclass(frozen=True, slots=True)
class PieceDecoder:
    """How pieces become bytes.

    joins_bytes: text is these bytes joined; else the library's decoder has to be asked for whole texts.
    """

    to_bytes: Callable[[str], bytes]
    strips_leading_space: bool = False
    joins_bytes: bool = True

    @classmethod
    def of(cls, decoder: Any) -> PieceDecoder:
        """For a decoder of the `tokenizers` library, or None."""
        state = json.loads(decoder.__getstate__()) if decoder is not None else {}
        steps = state["decoders"] if state.get("type") == "Sequence" else [state]
        kinds = [step.get("type") for step in steps]
        if kinds == ["ByteLevel"]:
            return cls(from_byte_alphabet)
        if kinds == ["Metaspace"]:
            return cls(from_metaspace, strips_leading_space=steps[0].get("prepend_scheme") != "never")
        if kinds[:1] == ["Replace"] and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
            return cls(from_metaspace, strips_leading_space="Strip" in kinds)
        return cls(from_word_piece if kinds == ["WordPiece"] else str.encode, joins_bytes=False)


def from_byte_alphabet(piece: str) -> bytes:
    """Byte-level BPE: each character spells a byte. A piece with other characters is taken as text."""
    alphabet = byte_alphabet()
    try:
        return bytes([alphabet[character] for character in piece])
    except KeyError:
        return piece.encode()


def from_metaspace(piece: str) -> bytes:
    """SentencePiece: U+2581 spells a space, <0xHH> a byte."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return bytes([int(piece[3:5], 16)])
        except ValueError:
            pass
    return piece.replace("▁", " ").encode()


def from_word_piece(piece: str) -> bytes:
    """WordPiece: a piece begins a word unless it starts with ##."""
    return piece[2:].encode() if piece.startswith("##") else b" " + piece.encode()
