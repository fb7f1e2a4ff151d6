"""The engine: requests in, one step at a time, outputs out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from perfxapi.errors import DeviceLostError, DeviceUnavailableError, InvalidArgumentError
from perfxlm.engine.completion import Completion, RequestGroup
from perfxlm.engine.metrics import EngineMetrics
from perfxlm.engine.request import Request
from perfxlm.engine.runner import ModelRunner, StepResult
from perfxlm.engine.scheduler import Scheduler
from perfxlm.errors import EngineStoppedError
from perfxlm.outputs import RequestOutput

MAX_LOSSES_IN_A_ROW = 3
"""After so many lost devices without a step between them the engine gives up."""

_LOGGER = logging.getLogger(__name__)


class EngineCore:
    """Serves many requests at once. Not thread-safe: one thread adds, steps and aborts."""

    def __init__(self, scheduler: Scheduler, make_runner: Callable[[], ModelRunner]) -> None:
        """`make_runner` gives a runner with a fresh KV cache on usable devices, also after one was lost."""
        self.scheduler = scheduler
        self.metrics = EngineMetrics()
        self._make_runner = make_runner
        self._losses_in_a_row = 0
        self.runner = self._usable_runner()
        self._groups: dict[str, RequestGroup] = {}
        self._completions: dict[Request, tuple[RequestGroup, Completion]] = {}

    @property
    def has_unfinished(self) -> bool:
        """Whether there is work for `step`."""
        return self.scheduler.has_unfinished

    def add(self, group: RequestGroup) -> None:
        """Queues a request's sequences. Raises InvalidArgumentError if its id is in use."""
        if group.request_id in self._groups:
            raise InvalidArgumentError(f"request_id {group.request_id!r} is in use")
        self._groups[group.request_id] = group
        for completion in group.completions:
            self._completions[completion.request] = group, completion
            self.scheduler.add(completion.request)

    def step(self) -> list[RequestOutput]:
        """Advances every scheduled request by one step; returns what their callers want to see of it."""
        schedule = self.scheduler.schedule()
        if not schedule.requests:
            return []
        self.metrics.begin_step(schedule)
        try:
            result = self.runner.run(schedule)
        except DeviceLostError as error:
            return self._move_on(error)
        self._losses_in_a_row = 0
        self.scheduler.complete(schedule)
        return self._deliver(result)

    def abort(self, request_id: str) -> RequestOutput | None:
        """Ends a request early; what it had made so far is returned. None if there is no such request."""
        group = self._groups.get(request_id)
        if group is None:
            return None
        self.scheduler.abort(completion.request for completion in group.completions)
        output = group.output()
        self._forget(group)
        return output

    def recompute(self, request: Request) -> None:
        """Drops what a running request has in the KV cache; it is computed again from its tokens."""
        self.scheduler.recompute(request)

    def _deliver(self, result: StepResult) -> list[RequestOutput]:
        now = time.monotonic()
        self.metrics.generation_tokens += len(result.requests)
        changed: dict[RequestGroup, list[Completion]] = {}
        for request, token_id in zip(result.requests, result.token_ids, strict=True):
            group, completion = self._completions[request]
            completion.take_token(token_id)
            group.metrics.note_token(now)
            if group.is_streamed or request.is_finished:
                changed.setdefault(group, []).append(completion)
        if not changed:
            return []
        self.scheduler.remove_finished(result.requests)
        outputs = [group.output(completions) for group, completions in changed.items() if group.has_output]
        for group in changed:
            if group.is_finished:
                self.metrics.num_finished += 1
                self._forget(group)
        return outputs

    def _forget(self, group: RequestGroup) -> None:
        del self._groups[group.request_id]
        for completion in group.completions:
            del self._completions[completion.request]
        if not self._groups:
            self.metrics.end_period()

    def _move_on(self, error: DeviceLostError) -> list[RequestOutput]:
        """The device is gone, and the KV cache with it: everything that ran is computed again in a fresh one."""
        self._count_loss(error)
        _LOGGER.warning("device lost (%s): %d requests are computed again", error, len(self.scheduler.running))
        del self.runner  # before the next one is made: both may not fit into memory
        try:
            self.runner = self._usable_runner()
        except DeviceUnavailableError as unavailable:  # the policy forbids another
            raise error from unavailable
        for request in self.scheduler.running[::-1]:
            self.recompute(request)
        return []

    def _usable_runner(self) -> ModelRunner:
        """A runner on devices that did not go while it was made."""
        while True:
            try:
                return self._make_runner()
            except DeviceLostError as error:
                self._count_loss(error)

    def _count_loss(self, error: DeviceLostError) -> None:
        """Raises EngineStoppedError after too many without a step between them."""
        self._losses_in_a_row += 1
        self.metrics.num_device_losses += 1
        if self._losses_in_a_row > MAX_LOSSES_IN_A_ROW:
            raise EngineStoppedError(f"the device was lost {self._losses_in_a_row} times in a row") from error
