"""The first token of a whole process, and the memory of one whose context is full."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from bench.loads import DECODE, Load, Model
from bench.parts.settings import Settings

CONTEXT = 2048
_GENERATED = 16


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds from the start of a process to its end after one token, and peak memory at 2,048 tokens."""
    model = settings.model
    records = settings.session.alternate("first token", lambda contender: contender.first_token(model))
    firsts = []
    for record in records:
        seconds = [finished.seconds for finished in record.results]
        first: dict[str, Any] = {"name": record.name, "problem": record.problem, "runs": seconds}
        if seconds:
            first["first_token_seconds"] = statistics.median(seconds)
        firsts.append(first)
    return {"engines": firsts, "prompt": model.prompt, **memories(settings, model, CONTEXT)}


def memories(settings: Settings, model: Model, length: int) -> dict[str, Any]:
    """Peak memory of a process in which one sequence reaches a length."""
    load = Load(DECODE, length - 1 - _GENERATED, _GENERATED, with_all_logits=False)
    once = replace(model, repeats=1)
    records = replace(settings.session, rounds=1).alternate(
        f"memory at {length} tokens", lambda contender: contender.speed(once, load)
    )
    rows = [
        {"name": record.name, "problem": record.problem}
        | ({"peak_memory_bytes": record.results[0].peak_memory_bytes} if record.results else {})
        for record in records
    ]
    return {"memory": {"length": length, "engines": rows}}
