"""A run of planned calls on one device: bound once for each set of sizes, then only enqueued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perfxapi.backend import OpCall, PlannedCall, Stop
from perfxapi.errors import InvalidArgumentError
from perfxapi.memory import bind
from perfxapi_gpu_kernels.runtime import Runtime

if TYPE_CHECKING:
    from perfxapi_gpu_kernels.backend import GpuKernel

_MAX_BOUND = 64
"""Sets of sizes for which a segment keeps its bound kernels."""


class GpuSegment:
    """The calls of a plan on one device. Runs them without waiting, but for one word that says whether all was well."""

    def __init__(self, runtime: Runtime, calls: Sequence[PlannedCall]) -> None:
        self._runtime, self._calls = runtime, list(calls)
        self._bound: dict[tuple[int, ...], tuple[list[Any], bool]] = {}
        self._sizes: Mapping[str, int] | None = None
        self._ready: tuple[list[Any], bool] = ([], False)

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        """Enqueues the calls from `first` on; the mapping of sizes is not changed afterwards.

        Raises InvalidArgumentError where a kernel finds an operand wrong, DeviceLostError.
        """
        if sizes is not self._sizes or first:
            self._ready = self._bind_all(sizes, first)
            self._sizes = None if first else sizes
        bound, checks = self._ready
        enqueue = self._runtime.driver.enqueue
        for kernel in bound:
            enqueue(kernel)
        if checks and (fault := self._runtime.take_fault()):
            op = self._calls[fault - 1].call.op
            raise InvalidArgumentError(f"{op}: an operand holds a value that is out of range")
        return None

    def _bind_all(self, sizes: Mapping[str, int], first: int) -> tuple[list[Any], bool]:
        key = (first, *sizes.values())
        if key not in self._bound:
            if len(self._bound) >= _MAX_BOUND:
                self._bound.clear()
            bound, checks = [], False
            for index, planned in enumerate(self._calls[first:], first):
                kernel: GpuKernel = planned.kernel  # type: ignore[assignment]
                call = _concrete(planned.call, sizes)
                for launch in self._runtime.launches(kernel.binding, call, planned.workspace):
                    bound.append(self._runtime.bind(launch, index + 1))
                    checks |= launch.checks
            self._bound[key] = bound, checks
        return self._bound[key]


def _concrete(call: OpCall, sizes: Mapping[str, int]) -> OpCall:
    inputs, outputs = (tuple(bind(view, view.buffer, sizes) for view in views) for views in (call.inputs, call.outputs))
    return OpCall(call.op, inputs, outputs, call.attributes)
