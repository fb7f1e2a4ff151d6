"""The parts of the report. Each measures something and returns it as plain values; `PARTS` names them in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.parts import agreement, kernels, more, speed, start
from bench.parts.settings import Settings

Part = Callable[[Settings], dict[str, Any]]

PARTS: dict[str, Part] = {
    "decode": speed.decode,
    "context": speed.context,
    "prefill": speed.prefill,
    "batch": speed.batch,
    "start": start.measure,
    "quality": agreement.measure,
    "roofline": kernels.measure,
    "llama-7b": speed.llama_7b,
    "matrix": more.table_of("matrix"),
    "overhead": more.table_of("overhead"),
    "instructions": more.table_of("instructions"),
}
