"""Which requests advance in the next step, and by how many tokens: continuous batching with chunked prefill.

Requests are served in order of arrival. A running request that finds no free KV block takes those of the latest
arrival, whose tokens are computed again later (Kwon et al. 2023, recomputation; chunked prefill after Agrawal et al.
2023).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.block_pool import BlockPool
from perfxlm.engine.request import FinishReason, Request, RequestState


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Bounds of one step.

    max_num_seqs: requests that run at once. max_num_batched_tokens: tokens a step computes. max_model_len: longest
    sequence. max_logit_rows: positions a step computes logits for (a row over a vocabulary of 262,144 takes a
    megabyte).
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    max_logit_rows: int


@dataclass(slots=True)
class Schedule:
    """What one step computes: request i advances by `num_new_tokens[i]` tokens.

    In total `num_tokens`, of which `num_prompt_tokens` are of prompts, and `num_rows` rows of logits.
    """

    requests: list[Request] = field(default_factory=list)
    num_new_tokens: list[int] = field(default_factory=list)
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    num_rows: int = 0

    def add(self, request: Request, num_new_tokens: int, num_rows: int) -> None:
        """Includes a request."""
        num_prompt_tokens_left = request.num_prompt_tokens - request.num_computed_tokens
        if num_prompt_tokens_left > 0:
            self.num_prompt_tokens += min(num_new_tokens, num_prompt_tokens_left)
        self.requests.append(request)
        self.num_new_tokens.append(num_new_tokens)
        self.num_tokens += num_new_tokens
        self.num_rows += num_rows


class Scheduler:
    """Holds all unfinished requests and the blocks they use."""

    def __init__(self, pool: BlockPool, limits: SchedulerLimits) -> None:
        """Raises InvalidArgumentError where a single longest sequence could not run."""
        if pool.num_blocks * pool.block_size < limits.max_model_len:
            raise InvalidArgumentError(
                f"the KV cache holds {pool.num_blocks * pool.block_size} tokens, fewer than max_model_len "
                f"{limits.max_model_len}: raise kv_cache_memory_bytes or lower max_model_len"
            )
        self.pool, self.limits = pool, limits
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.num_preemptions = 0

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.running or self.waiting)

    def add(self, request: Request) -> None:
        """Puts a request at the end of the queue."""
        self.waiting.append(request)

    def schedule(self) -> Schedule:
        """The next step. Empty only if nothing is unfinished."""
        schedule = Schedule()
        preemptions_before = self.num_preemptions
        self._schedule_running(schedule)
        if self.num_preemptions == preemptions_before:
            self._schedule_waiting(schedule)
        return schedule

    def complete(self, schedule: Schedule) -> None:
        """Records that a step was computed: its tokens are now in the KV cache."""
        for request, num_new_tokens in zip(schedule.requests, schedule.num_new_tokens, strict=True):
            request.num_computed_tokens += num_new_tokens

    def remove_finished(self, requests: Iterable[Request]) -> None:
        """Releases what finished requests hold."""
        finished = [request for request in requests if request.is_finished]
        for request in finished:
            self.pool.release(request.forget_computed())
        if finished:
            self.running = [request for request in self.running if not request.is_finished]

    def abort(self, requests: Iterable[Request]) -> None:
        """Ends requests from outside, whatever their state; those that have ended already stay as they are."""
        ending = [request for request in requests if not request.is_finished]
        for request in ending:
            request.finish(FinishReason.ABORT)
        self.remove_finished(ending)
        self.waiting = deque(request for request in self.waiting if not request.is_finished)

    def recompute(self, request: Request) -> None:
        """Gives up what a running request has in the KV cache and puts it at the head of the queue.

        Its tokens stay: they are computed again as one prompt, and it goes on where it was.
        """
        self.running.remove(request)
        self.pool.release(request.forget_computed())
        request.state = RequestState.PREEMPTED
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.appendleft(request)

    def _schedule_running(self, schedule: Schedule) -> None:
        for request in list(self.running):
            if request.state is not RequestState.RUNNING:
                break  # this one, and all after it, were preempted for a request before them
            num_new_tokens, num_rows = self._step_size(request, schedule)
            if num_new_tokens and self._make_room(request, num_new_tokens):
                schedule.add(request, num_new_tokens, num_rows)

    def _make_room(self, request: Request, num_new_tokens: int) -> bool:
        """Whether the request got its blocks, if need be from later requests; else it was preempted itself."""
        while not self._grow(request, num_new_tokens):
            victim = self.running[-1]
            self.recompute(victim)
            if victim is request:
                return False
        return True

    def _schedule_waiting(self, schedule: Schedule) -> None:
        while self.waiting and len(self.running) < self.limits.max_num_seqs:
            request = self.waiting[0]
            if not self._share_prefix(request):
                return
            num_new_tokens, num_rows = self._step_size(request, schedule)
            if not num_new_tokens or not self._grow(request, num_new_tokens):
                self.pool.release(request.forget_computed())
                return
            self.waiting.popleft()
            request.state = RequestState.RUNNING
            self.running.append(request)
            schedule.add(request, num_new_tokens, num_rows)

    def _step_size(self, request: Request, schedule: Schedule) -> tuple[int, int]:
        """Tokens and rows of logits of this request that fit into the step; 0 tokens if none do."""
        num_missing = request.num_tokens - request.num_computed_tokens
        if num_missing == 1 and not request.wants_prompt_rows:
            is_room = schedule.num_tokens < self.limits.max_num_batched_tokens
            is_room = is_room and schedule.num_rows < self.limits.max_logit_rows
            return int(is_room), int(is_room)
        num_new_tokens = min(num_missing, self.limits.max_num_batched_tokens - schedule.num_tokens)
        num_rows_left = self.limits.max_logit_rows - schedule.num_rows
        prompt_rows = request.prompt_rows(num_new_tokens)
        if len(prompt_rows) > num_rows_left:
            prompt_rows = prompt_rows[:num_rows_left]
            num_new_tokens = prompt_rows.stop - request.num_computed_tokens
        is_sampled = num_new_tokens == num_missing
        if is_sampled and len(prompt_rows) == num_rows_left:
            return num_new_tokens - 1, len(prompt_rows)
        return num_new_tokens, len(prompt_rows) + is_sampled

    def _grow(self, request: Request, num_new_tokens: int) -> bool:
        """Whether the request holds, or now got, blocks for that many more tokens."""
        num_held = len(request.block_ids)
        num_tokens = request.num_computed_tokens + num_new_tokens
        if num_tokens <= num_held * self.pool.block_size:
            return True
        num_needed = self.pool.num_blocks_for(num_tokens) - num_held
        if num_needed > self.pool.num_free:
            return False
        request.add_blocks(self.pool.allocate(num_needed))
        return True

    def _share_prefix(self, request: Request) -> bool:
        """Shares the full blocks of the same prompt. False if they are being computed and worth waiting for.

        The last token of the prompt is always computed anew, since its logits are wanted.
        """
        source = request.prefix_source
        if source is None or source.state is not RequestState.RUNNING or request.block_ids:
            return True
        num_blocks = (request.num_prompt_tokens - 1) // self.pool.block_size
        if source.num_computed_tokens < source.num_prompt_tokens:
            return num_blocks == 0
        self.pool.share(source.block_ids[:num_blocks])
        request.add_blocks(source.block_ids[:num_blocks])
        request.num_computed_tokens = request.num_shared_tokens = num_blocks * self.pool.block_size
        return True
