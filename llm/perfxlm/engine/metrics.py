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
    """Totals since the engine was made. Seconds are wall-clock times, from the end of a step to the end of the next.

    A decode step is one without tokens of prompts; all others count as prefill. `native_decode_seconds` is the part of
    `decode_seconds` that was spent inside native code.
    """

    num_steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_finished: int = 0
    num_device_losses: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    native_decode_seconds: float = 0.0
    _last_end: float = 0.0
    _last_native: float = 0.0

    def start_clock(self) -> None:
        """Begins a period of work after idle time, which is not counted."""
        self._last_end, self._last_native = time.perf_counter(), px.native_seconds()

    def record(self, schedule: Schedule, num_generated: int) -> None:
        """Counts a step that just ended."""
        now, native = time.perf_counter(), px.native_seconds()
        self.num_steps += 1
        self.generation_tokens += num_generated
        self.prompt_tokens += schedule.num_prompt_tokens
        if schedule.num_prompt_tokens:
            self.prefill_seconds += now - self._last_end
        else:
            self.decode_seconds += now - self._last_end
            self.native_decode_seconds += native - self._last_native
        self._last_end, self._last_native = now, native

    def snapshot(self, scheduler: Scheduler) -> list[Metric]:
        """All figures, and the scheduler's state."""
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
