"""Quality: how far each engine's distributions are from float32 arithmetic on the same weights."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.contenders import PERFXLM
from bench.parts.settings import Settings
from bench.process import run
from bench.session import Session

WINDOW = 256
"""Tokens of a text that are read as one, so that they fit any engine's batch."""


def measure(settings: Settings) -> dict[str, Any]:
    """On the text, and on the reference that was given."""
    session = replace(settings.session, rounds=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        references = {settings.text.name: make_reference(settings.model.name, settings.text, Path(folder) / "text.npz")}
        if settings.reference is not None:
            references[settings.reference.name] = settings.reference
        for title, reference in references.items():
            rows += _rows(session, settings, title, reference, Path(folder))
    return {"rows": rows}


def _rows(session: Session, settings: Settings, title: str, reference: Path, folder: Path) -> list[dict[str, Any]]:
    records = session.alternate(
        f"quality on {title}", lambda contender: contender.quality(settings.model, reference, folder)
    )
    return [
        {"name": record.name, "text": title, "problem": record.problem}
        | (asdict(record.results[0]) if record.results else {})
        for record in records
    ]


def make_reference(model: str, text: Path, output: Path) -> Path:
    """A float32 reference for a text, made by the reference backend in a child process. Raises ContenderError."""
    exact = ["--device", "numpy", "--activation-format", "float32", "--kv-cache-dtype", "float32"]
    window = ["--context", str(WINDOW), "--max-model-len", str(2 * WINDOW)]
    run([PERFXLM, "eval", model, "--text", str(text), "--write-reference", str(output), *exact, *window, "--json"])
    return output
