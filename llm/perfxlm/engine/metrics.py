"""What the engine counts, and how long its steps take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import perfxapi as px
from perfxlm.engine.scheduler import Schedule, Scheduler


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: a counter only grows, a gauge is a state of this moment."""

    name: str
    kind: str
    value: float


@dataclass(slots=True)
class EngineMetrics:
    """Totals since the engine was made.

    A decode step is one without tokens of prompts; all others count as prefill. Clocks are read only where one kind of
    step gives way to the other: a period of decoding lasts from its first step to the next prompt, or to `end_period`,
    with all that happens between the steps. `native_decode_seconds` is the part of `decode_seconds` inside native code.
    """

    num_steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_finished: int = 0
    num_device_losses: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    native_decode_seconds: float = 0.0
    _is_prefill: bool | None = None
    _start: float = 0.0
    _native_start: float = 0.0

    def begin_step(self, schedule: Schedule) -> None:
        """Counts a step that is about to run."""
        self.num_steps += 1
        self.prompt_tokens += schedule.num_prompt_tokens
        is_prefill = schedule.num_prompt_tokens > 0
        if is_prefill is not self._is_prefill:
            self.end_period()
            self._is_prefill = is_prefill

    def end_period(self) -> None:
        """Adds the time since the current period began to its kind; what follows is idle until the next step."""
        now, native = time.perf_counter(), px.native_seconds()
        if self._is_prefill:
            self.prefill_seconds += now - self._start
        elif self._is_prefill is not None:
            self.decode_seconds += now - self._start
            self.native_decode_seconds += native - self._native_start
        self._is_prefill, self._start, self._native_start = None, now, native

    def snapshot(self, scheduler: Scheduler) -> list[Metric]:
        """All figures, and the scheduler's state."""
        self.end_period()
        counters = {
            "perfxlm:engine_steps": self.num_steps,
            "perfxlm:prompt_tokens": self.prompt_tokens,
            "perfxlm:generation_tokens": self.generation_tokens,
            "perfxlm:request_success": self.num_finished,
            "perfxlm:num_preemptions": scheduler.num_preemptions,
            "perfxlm:device_losses": self.num_device_losses,
            "perfxlm:prefill_seconds": self.prefill_seconds,
            "perfxlm:decode_seconds": self.decode_seconds,
            "perfxlm:native_decode_seconds": self.native_decode_seconds,
        }
        gauges = {
            "perfxlm:num_requests_running": len(scheduler.running),
            "perfxlm:num_requests_waiting": len(scheduler.waiting),
            "perfxlm:kv_cache_usage_perc": scheduler.pool.usage,
        }
        named = [Metric(name, "counter", float(value)) for name, value in counters.items()]
        return named + [Metric(name, "gauge", float(value)) for name, value in gauges.items()]
