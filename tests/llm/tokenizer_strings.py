"""Strings that find mistakes in tokenizers, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Sequence

_RANGES = (
    (0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x2000, 0x206F), (0x20A0, 0x20CF), (0x2190, 0x22FF),
    (0x2500, 0x259F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFB00, 0xFDFF),
    (0xFE00, 0xFE0F), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0020, 0xE007F), (0x1, 0x1F),
)  # fmt: skip
_SPACES = (
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t",
    "\t\t",
    "\r\n",
    " \n ",
    "\u00a0",
    "\u3000",
    " " * 40,
    "\n" * 40,
)
_WORDS = (
    "the", "The", "of", "and", "fisherman", "internationalization", "don't", "I'LL", "naïve", "Zürich",
    "übermäßig", "привет", "мир", "你好", "世界", "こんにちは", "안녕하세요", "שלום", "مرحبا", "नमस्ते", "สวัสดี",
    "🙂", "👩\u200d👩\u200d👧", "🇩🇪", "e\u0301", "ﬁ", "0", "7", "42", "1234567890", "3.14159", "1,000,000",
    "0xFF", "1e-9", "def", "return", "->", "=>", "!=", "::", "//", "/*", "*/", "{", "}", "();", "<",
    ">", "<div>", "</div>", "<b>", "<h1>", "<table>", "<0x41>", "[multimodal]", "&amp;",
    "https://example.org/a?b=c#d", "a@b.c", "C:\\x", "...", "…", "—", "“", "”", "''", "`", "~", "$",
    "€", "%", "§",
)  # fmt: skip


def tokenizer_strings(count: int, seed: int, control: Sequence[str] = ()) -> list[str]:
    """`count` strings: words, runs of whitespace, characters of many scripts, pieces of `control` tokens, and mixtures.

    U+2581 is left out: SentencePiece cannot tell it from a space, and tokenizers differ in what they make of it.
    """
    source = random.Random(seed)
    return [_string(source, control) for _ in range(count)]


def _string(source: random.Random, control: Sequence[str]) -> str:
    kind = source.randrange(6)
    parts = []
    for _ in range(source.choice((0, 1, 2, 3, 5, 8, 13, 21))):
        if kind == 0 or (kind == 5 and source.random() < 0.3):
            parts.append(source.choice(_WORDS) + source.choice((" ", " ", " ", "", source.choice(_SPACES))))
        elif kind == 1:
            low, high = source.choice(_RANGES)
            parts.append("".join(chr(source.randint(low, high)) for _ in range(source.randint(1, 4))))
        elif kind == 2:
            parts.append(source.choice(_SPACES) * source.randint(1, 3) + source.choice(("", "a", "1", ".", "é")))
        elif kind == 3:
            parts.append(source.choice("abcdeghilnorstu AEINST-_'\".,\n") * source.choice((1, 1, 1, 2, 5)))
        elif kind == 4 and control:
            text = source.choice(control)
            cut = source.randint(0, len(text))
            parts.append(source.choice((text, text[:cut], text[cut:], f" {text} ", "a")))
        else:
            parts.append(source.choice(_WORDS))
    return "".join(parts).replace("▁", "_")
