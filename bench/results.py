"""The file of results: parts, each with the date, machine and commit it was measured at, renewed part by part."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from bench import machine
from bench.parts.settings import Settings

Results = dict[str, Any]


def stamped(part: dict[str, Any], settings: Settings, seconds: float) -> dict[str, Any]:
    """A part with what it must be read with."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine.describe(),
        "threads": settings.model.threads,
        "model": settings.model.gguf.name,
        "rounds": settings.session.rounds,
        "repeats": settings.model.repeats,
        "seconds": round(seconds),
        **part,
    }


def read(path: Path) -> Results:
    """What was measured so far; nothing where there is no such file, or one of another form."""
    if not path.is_file():
        return {"parts": {}}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found.get("parts"), dict) else {"parts": {}}


def merged(results: Results, name: str, part: dict[str, Any]) -> Results:
    """The results with one part measured anew."""
    return {**results, "parts": {**results["parts"], name: part}}


def write(results: Results, path: Path) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)
