"""Tokens per second, and how far from the limit: decoding, long contexts, prompts, batches, a model of 7B."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bench import yardstick
from bench.loads import ALL_LOGITS, DECODE, GREEDY, PREFILL, Load, Model, Speed
from bench.parts.settings import Settings, SkippedPartError
from bench.parts.start import memories
from bench.session import Record

SHORT = 16
"""Tokens of a short prompt: a block of the KV cache."""


def decode(settings: Settings) -> dict[str, Any]:
    """Decoding after a short prompt."""
    return speeds(settings, settings.model, [Load(DECODE, SHORT, settings.gen_tokens)])


def context(settings: Settings) -> dict[str, Any]:
    """Decoding when many tokens are there already."""
    return speeds(settings, settings.model, [Load(DECODE, size, settings.gen_tokens) for size in settings.contexts])


def prefill(settings: Settings) -> dict[str, Any]:
    """Prompts."""
    return speeds(settings, settings.model, [Load(PREFILL, size) for size in settings.prompts])


def batch(settings: Settings) -> dict[str, Any]:
    """Several sequences that decode together."""
    loads = [Load(DECODE, SHORT, settings.batch_gen_tokens, size) for size in settings.batches]
    return speeds(settings, settings.model, loads)


def llama_7b(settings: Settings) -> dict[str, Any]:
    """A model of the size of Llama 7B, with weights of 4 bits; its memory at 512 tokens."""
    if settings.llama_7b is None:
        raise SkippedPartError("no model was named (--llama-7b, --llama-7b-gguf)")
    loads = [Load(DECODE, SHORT, min(settings.gen_tokens, 32)), Load(PREFILL, min(*settings.prompts, 256))]
    memory = memories(settings, settings.llama_7b, 512)
    return {**speeds(settings, settings.llama_7b, loads), **memory}


def speeds(settings: Settings, model: Model, loads: Iterable[Load]) -> dict[str, Any]:
    """Every load, with the machine's limits before and after and the profile that gives ours."""
    before = yardstick.try_measure(model.threads)
    cases = [_case(settings, model, load) for load in loads]
    after = yardstick.try_measure(model.threads)
    return {"cases": cases, "yardstick": yardstick.best(before, after)}


def _case(settings: Settings, model: Model, load: Load) -> dict[str, Any]:
    records = settings.session.alternate(load.title, lambda contender: contender.speed(model, load))
    return {
        "kind": load.kind,
        "context": load.context,
        "gen_tokens": load.gen_tokens,
        "batch": load.batch,
        "title": load.title,
        "kernels": _kernels(settings, model, load),
        "series": [series for record in records for series in series_of(record, load)],
    }


def _kernels(settings: Settings, model: Model, load: Load) -> list[dict[str, Any]]:
    """What a prompt, or a step with all logits, must read and compute."""
    settings.log(f"{load.title}: profile")
    short = replace(load, gen_tokens=min(load.gen_tokens, 8))
    _, result = settings.ours.bench(replace(model, repeats=1), short, "--profile")
    kernels: list[dict[str, Any]] = result["kernels"]["prefill" if load.kind == PREFILL else "decode_full_logits"]
    return kernels


def series_of(record: Record[Speed], load: Load) -> list[dict[str, Any]]:
    """One series for each mode that an engine was measured in; one without runs where it was not."""
    if record.problem:
        mode = "" if load.kind == PREFILL else ALL_LOGITS
        return [{"name": record.name, "mode": mode, "problem": record.problem, "runs": []}]
    return [
        {
            "name": record.name,
            "mode": mode,
            "problem": "",
            "runs": [speed.modes[mode] for speed in record.results],
            "tokens_per_second": statistics.median(speed.modes[mode] for speed in record.results),
            "extra": record.results[-1].extra,
        }
        for mode in sorted(record.results[0].modes, key=(ALL_LOGITS, GREEDY, "").index)
    ]
