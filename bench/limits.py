"""Limits: the least time that a load can take on a machine, from what its kernels must read and compute.

A kernel needs at least the time to read its weights and its part of the KV cache from memory once, and at least the
time of its operations at the peak of its arithmetic; what else it moves may stay in caches. The limit of a step is the
sum over its kernels, which run one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.yardstick import Yardstick

_INT16_PRODUCTS = 2
"""Instructions that a product with 16-bit activations takes in the place of one: two halves of 8 bits."""


def peak_operations(arithmetic: str, yardstick: Yardstick) -> float:
    """Operations a second of all threads; 0 where the machine's best instruction is not known."""
    figures = yardstick["all"]
    if arithmetic == "int16":
        return float(figures["int8_operations"]) / _INT16_PRODUCTS
    return float(figures[f"{arithmetic}_operations"])


def kernel_seconds(kernel: dict[str, Any], yardstick: Yardstick) -> float:
    """The least time of a kernel, as `perfxlm bench --profile` describes it."""
    reading = kernel["stored_bytes"] / yardstick["all"]["read_bytes"]
    peak = peak_operations(kernel["arithmetic"], yardstick)
    return float(max(reading, kernel["operations"] / peak if peak else 0.0))


def step_seconds(kernels: Sequence[dict[str, Any]], yardstick: Yardstick) -> float:
    """The least time of all kernels."""
    return sum(kernel_seconds(kernel, yardstick) for kernel in kernels)


def tokens_per_second(case: dict[str, Any], kernels: Sequence[dict[str, Any]], yardstick: Yardstick) -> float | None:
    """The highest speed of a load of which `kernels` is the profile of a prompt or of a step; None where unknown."""
    if not kernels or not yardstick:
        return None
    tokens = case["context"] if case["kind"] == "prefill" else case["batch"]
    return float(tokens / step_seconds(kernels, yardstick))
