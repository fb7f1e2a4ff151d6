"""The roofline, kernel by kernel: its time beside the least that its bytes and operations allow."""

from __future__ import annotations

from typing import Any

from bench import yardstick
from bench.loads import DECODE, PREFILL, Load
from bench.parts.settings import Settings
from bench.parts.speed import SHORT


def measure(settings: Settings) -> dict[str, Any]:
    """Profiles of a step of decoding, with every logit and without, and of a prompt, between two measurements of the
    machine's limits.
    """
    model, few = settings.model, min(settings.gen_tokens, 64)
    longest = max(settings.contexts, default=SHORT)
    decoding = {"": Load(DECODE, SHORT, few), f", context {longest:,}": Load(DECODE, longest, few)}
    prompt = Load(PREFILL, min(settings.prompts, default=512))
    before = yardstick.measure(model.threads)
    profiles: dict[str, Any] = {}
    for suffix, load in decoding.items():
        settings.log(f"roofline: {load.title}")
        _, result = settings.ours.bench(model, load, "--profile")
        profiles[f"decode, all logits{suffix}"] = result["kernels"]["decode_full_logits"]
        profiles[f"decode, greedy{suffix}"] = result["kernels"]["decode"]
    settings.log(f"roofline: {prompt.title}")
    _, result = settings.ours.bench(model, prompt, "--profile")
    profiles[prompt.title] = result["kernels"]["prefill"]
    return {"profiles": profiles, "yardstick": yardstick.best(before, yardstick.measure(model.threads))}
