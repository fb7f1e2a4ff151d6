"""What every part is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.contenders import PerfXLM
from bench.loads import Model
from bench.session import Session


class SkippedPartError(Exception):
    """A part cannot be measured with these options; what was measured of it before stays."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The engines with their models, the sizes of loads, and what quality is measured against."""

    session: Session
    ours: PerfXLM
    model: Model
    gen_tokens: int = 128
    contexts: tuple[int, ...] = (256, 1024)
    prompts: tuple[int, ...] = (512, 2048)
    batches: tuple[int, ...] = (1, 4, 16, 32)
    batch_gen_tokens: int = 32
    text: Path = Path()
    reference: Path | None = None
    llama_7b: Model | None = None

    def log(self, line: str) -> None:
        """Tells progress."""
        self.session.log(line)
