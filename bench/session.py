"""One run of the whole comparison: engines in alternation, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contenders import PERFXLM, Contender, Load, Speed, median_ratio
from bench.process import ContenderError, Finished, run
from bench.quality import Quality

Log = Callable[[str], None]

WINDOW = 256
"""Tokens of a text that are read as one, so that they fit any engine's batch."""


@dataclass(slots=True)
class Record:
    """Everything measured of one engine. `problem` says why there is nothing (more)."""

    name: str
    problem: str = ""
    speeds: list[Speed] = field(default_factory=list)
    first_tokens: list[Finished] = field(default_factory=list)
    qualities: dict[str, Quality] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """Engines (ours first), what they do, how often, and the references by title."""

    contenders: Sequence[Contender]
    load: Load
    rounds: int
    log: Log

    def measure(self, references: dict[str, Path]) -> list[Record]:
        """All records, in the order of the contenders."""
        records = [Record(contender.name, contender.problem()) for contender in self.contenders]
        for record in records:
            if record.problem:
                self.log(f"{record.name}: not measured: {record.problem}")
        for number in range(self.rounds):
            self._round(number, records, "speed", lambda c, r: r.speeds.append(c.speed(self.load)))
        for number in range(self.rounds):
            self._round(number, records, "first token", self._first_token)
        with tempfile.TemporaryDirectory() as folder:
            for title, reference in references.items():
                for contender, record in zip(self.contenders, records, strict=True):
                    self._attempt(record, f"quality on {title}", self._quality, contender, title, reference, folder)
        return records

    def _round(self, number: int, records: list[Record], what: str, step: Callable[..., None]) -> None:
        pairs = list(zip(self.contenders, records, strict=True))
        for contender, record in pairs if number % 2 == 0 else reversed(pairs):
            self._attempt(record, f"{what}, round {number + 1} of {self.rounds}", step, contender)

    def _attempt(self, record: Record, what: str, step: Callable[..., None], contender: Any, *arguments: Any) -> None:
        if record.problem:
            return
        self.log(f"{record.name}: {what}")
        try:
            step(contender, record, *arguments)
        except ContenderError as error:
            record.problem = str(error)
            self.log(f"{record.name}: {error}")

    def _first_token(self, contender: Contender, record: Record) -> None:
        if (finished := contender.first_token(self.load)) is not None:
            record.first_tokens.append(finished)

    def _quality(self, contender: Contender, record: Record, title: str, reference: Path, folder: str) -> None:
        if (quality := contender.quality(self.load, reference, Path(folder))) is not None:
            record.qualities[title] = quality


def make_reference(model: str, text: Path, output: Path) -> Path:
    """A float32 reference for a text, made by the reference backend in a child process. Raises ContenderError."""
    exact = ["--device", "numpy", "--activation-format", "float32", "--kv-cache-dtype", "float32"]
    window = ["--context", str(WINDOW), "--max-model-len", str(2 * WINDOW)]
    run([PERFXLM, "eval", model, "--text", str(text), "--write-reference", str(output), *exact, *window, "--json"])
    return output


def summary(record: Record, ours: Record) -> dict[str, Any]:
    """One engine's medians, and ours divided by them pair by pair, as plain values."""
    result: dict[str, Any] = {"name": record.name, "problem": record.problem}
    if record.speeds:
        result["prefill_tokens_per_second"] = statistics.median(s.prefill for s in record.speeds)
        result["decode_tokens_per_second"] = statistics.median(s.decode for s in record.speeds)
        result["peak_memory_bytes"] = statistics.median(s.peak_memory_bytes for s in record.speeds)
        result["extra"] = record.speeds[-1].extra
        result["runs"] = [asdict(speed) for speed in record.speeds]
    if len(record.speeds) == len(ours.speeds) > 0:
        result["prefill_ratio"] = median_ratio([s.prefill for s in ours.speeds], [s.prefill for s in record.speeds])
        result["decode_ratio"] = median_ratio([s.decode for s in ours.speeds], [s.decode for s in record.speeds])
    if record.first_tokens:
        result["first_token_seconds"] = statistics.median(f.seconds for f in record.first_tokens)
    result["quality"] = {title: asdict(quality) for title, quality in record.qualities.items()}
    return result
