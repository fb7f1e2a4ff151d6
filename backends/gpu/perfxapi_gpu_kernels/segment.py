"""A run of planned calls on one device: bound once for each set of sizes, then only enqueued.

What runs twice at the same sizes, as a step of decoding does, is recorded where the API has that (a graph of CUDA):
from then on it is one launch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfxapi.backend import PlannedCall, Stop
from perfxapi.errors import KernelError
from perfxapi_gpu_kernels.runtime import Runtime

if TYPE_CHECKING:
    from perfxapi_gpu_kernels.backend import GpuKernel

_MAX_BOUND = 64
"""Sets of sizes for which a segment keeps its bound kernels."""
_LEAST_RECORDED = 4
"""Kernels of which a recording is quicker than they are one by one."""


@dataclass(slots=True)
class _Bound:
    """The kernels of the calls at some sizes, of which call each is, whether any of them checks its operands, and where
    they end early. `launches` are what is enqueued for them, once that is decided.
    """

    kernels: list[Any] = field(default_factory=list)
    launches: list[Any] | None = None
    runs: int = 0
    owners: list[int] = field(default_factory=list)
    checks: bool = False
    stop: Stop | None = None


class GpuSegment:
    """The calls of a plan on one device. Runs them without waiting, but for one word that says whether all was well."""

    def __init__(self, runtime: Runtime, calls: Sequence[PlannedCall]) -> None:
        self._runtime, self._calls = runtime, list(calls)
        self._ops = [planned.call.op for planned in calls]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._sizes: Mapping[str, int] | None = None
        self._ready = _Bound()
        self._times: list[int] | None = None

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        """Enqueues the calls from `first` on; the mapping of sizes is not changed afterwards.

        Stops before a call whose kernel cannot be made (its program does not compile). Raises InvalidArgumentError
        where a kernel finds an operand wrong, DeviceLostError.
        """
        if sizes is not self._sizes or first:
            self._ready = self._bind_all(sizes, first)
            self._sizes = None if first else sizes
        if self._times is not None:
            self._run_timed(self._times)
        else:
            enqueue = self._runtime.driver.enqueue
            for launch in self._ready.launches or self._launches(self._ready):
                enqueue(launch)
        if self._ready.checks:
            self._runtime.raise_fault(self._ops)
        return self._ready.stop

    @property
    def description(self) -> str:
        """How the calls are launched, in words."""
        is_recorded = self._ready.launches not in (None, self._ready.kernels)
        way = "as one recording" if is_recorded else "kernel by kernel, bound ahead"
        return f"{way}; {self._runtime.driver.recording()}"

    def _launches(self, bound: _Bound) -> list[Any]:
        """What to enqueue now: the kernels in the first run, which loads programs; a recording of them from then on."""
        bound.runs += 1
        if bound.runs == 1:
            return bound.kernels
        recorded = self._runtime.driver.record(bound.kernels) if len(bound.kernels) >= _LEAST_RECORDED else None
        bound.launches = bound.kernels if recorded is None else [recorded]
        return bound.launches

    def profile(self, enabled: bool) -> list[tuple[str, int]]:
        """Turns timing of each call on or off; returns (op, nanoseconds so far).

        With it on, each kernel is waited for, so that the sum is more than an ordinary run takes.
        """
        times = self._times or [0] * len(self._calls)
        if enabled != (self._times is not None):
            self._times = [0] * len(self._calls) if enabled else None
        return list(zip(self._ops, times, strict=True))

    def _run_timed(self, times: list[int]) -> None:
        driver = self._runtime.driver
        driver.finish()
        for owner, kernel in zip(self._ready.owners, self._ready.kernels, strict=True):
            start = time.perf_counter_ns()
            driver.enqueue(kernel)
            driver.finish()
            times[owner] += time.perf_counter_ns() - start

    def _bind_all(self, sizes: Mapping[str, int], first: int) -> _Bound:
        key = (first, *sizes.values())
        if key not in self._bound:
            if len(self._bound) >= _MAX_BOUND:
                self._bound.clear()
            found = _Bound()
            for index, planned in enumerate(self._calls[first:], first):
                try:
                    self._bind(found, index, planned, sizes)
                except KernelError as error:
                    found.stop = Stop(index, str(error))
                    break
            self._bound[key] = found
        return self._bound[key]

    def _bind(self, found: _Bound, index: int, planned: PlannedCall, sizes: Mapping[str, int]) -> None:
        """Adds the kernels of one call, all or none."""
        kernel: GpuKernel = planned.kernel  # type: ignore[assignment]
        launches = self._runtime.launches(kernel.binding, planned.call.at(sizes), planned.workspace)
        found.kernels += [self._runtime.bind(launch, index + 1) for launch in launches]
        found.owners += [index] * len(launches)
        found.checks |= any(launch.checks for launch in launches)
