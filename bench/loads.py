"""What engines are asked to do, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALL_LOGITS = "all logits"
GREEDY = "greedy"
"""Modes of decoding: every logit is computed, or only the likeliest token is asked for."""

PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as each kind of engine opens it, and how it is run.

    `name` is ours: a file, a folder or a package; `options`: what `perfxlm bench` is told of it; `openvino`: its folder
    in OpenVINO's own format, if there is one.
    """

    name: str
    gguf: Path
    threads: int
    repeats: int
    openvino: Path | None = None
    options: tuple[str, ...] = ()
    prompt: str = "The capital of France is"


@dataclass(frozen=True, slots=True)
class Load:
    """Prefill of a prompt of `context` tokens; or `gen_tokens` decoded after `context` ones by each of `batch`.

    Ours decodes greedily, and `with_all_logits` too; others compute all logits in any case.
    """

    kind: str
    context: int
    gen_tokens: int = 1
    batch: int = 1
    with_all_logits: bool = True

    @property
    def longest(self) -> int:
        """Tokens that a sequence has at its end."""
        return self.context + self.gen_tokens + 1

    @property
    def title(self) -> str:
        """In a few words."""
        if self.kind == PREFILL:
            return f"prefill of {self.context:,} tokens"
        sequences = f"{self.batch} sequences, each " if self.batch > 1 else ""
        return f"{sequences}{self.gen_tokens} tokens decoded after {self.context:,}"


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one process, by mode, of all sequences together; and its memory."""

    modes: dict[str, float]
    peak_memory_bytes: int
    extra: dict[str, Any] = field(default_factory=dict)
