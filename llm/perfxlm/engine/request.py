"""A request: one sequence of tokens that grows until something ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from perfxlm.outputs import PromptLogprobs, SampleLogprobs
from perfxlm.sampling_params import ALL_LOGPROBS, SamplingParams

if TYPE_CHECKING:
    from perfxlm.engine.sampling_inputs import RequestSampler

PromptLogitsFn = Callable[[int, npt.NDArray[np.float32]], None]
"""Called with (position, logits[rows, vocabulary]): row i belongs to position + i.

The array is valid during the call only.
"""


class RequestState(Enum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED = "finished"


class FinishReason(Enum):
    """Why a request ended, by the words of OpenAI's API."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class Request:
    """One sequence: its tokens, how many of them are in the KV cache, the blocks they are in, and what is reported.

    `prefix_source` is a request with the same prompt whose blocks may be shared (the first of n). `prompt_logits`, if
    given, receives the logits at every position of the prompt. `stop_ids` maps each id that ends the sequence to its
    stop_reason (None for the model's own end). `sampler` is None for plain greedy sampling; `needs_logits` says
    whether sampling takes all logits. `decode_token` makes the text of a token in reported log-probabilities.
    """

    __slots__ = (
        "block_ids",
        "block_table",
        "decode_token",
        "finish_reason",
        "index",
        "logprobs",
        "max_tokens",
        "min_tokens",
        "needs_logits",
        "num_computed_tokens",
        "num_logprobs",
        "num_preemptions",
        "num_prompt_logprobs",
        "num_prompt_rows_done",
        "num_prompt_tokens",
        "num_shared_tokens",
        "num_tokens",
        "params",
        "prefix_source",
        "prompt_logits",
        "prompt_logprobs",
        "request_id",
        "sampler",
        "state",
        "stop_ids",
        "stop_reason",
        "token_ids",
        "wants_prompt_rows",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        *,
        max_tokens: int,
        max_blocks: int,
        vocab_size: int,
        index: int = 0,
        stop_ids: dict[int, int | None] | None = None,
        prefix_source: Request | None = None,
        prompt_logits: PromptLogitsFn | None = None,
        decode_token: Callable[[int], str] | None = None,
    ) -> None:
        self.request_id, self.index, self.params = request_id, index, params
        self.num_prompt_tokens = self.num_tokens = len(prompt_token_ids)
        self.token_ids: npt.NDArray[np.int32] = np.empty(self.num_prompt_tokens + max_tokens, np.int32)
        self.token_ids[: self.num_tokens] = prompt_token_ids
        self.max_tokens, self.min_tokens = max_tokens, params.min_tokens
        self.stop_ids = stop_ids or {}
        self.prefix_source, self.prompt_logits, self.decode_token = prefix_source, prompt_logits, decode_token
        self.sampler: RequestSampler | None = None
        self.needs_logits = prompt_logits is not None or params.logprobs is not None
        self.num_logprobs = _num_logprobs(params.logprobs, vocab_size)
        self.num_prompt_logprobs = _num_logprobs(params.prompt_logprobs, vocab_size) or 0
        self.logprobs: SampleLogprobs | None = None if params.logprobs is None else []
        self.prompt_logprobs: PromptLogprobs | None = None if params.prompt_logprobs is None or index else [None]
        self.wants_prompt_rows = prompt_logits is not None or self.prompt_logprobs is not None
        self.num_prompt_rows_done = 0
        self.state = RequestState.WAITING
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self.num_computed_tokens = self.num_shared_tokens = self.num_preemptions = 0
        self.block_ids: list[int] = []
        self.block_table: npt.NDArray[np.int32] = np.zeros(max_blocks, np.int32)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return self.num_tokens - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> npt.NDArray[np.int32]:
        """The tokens generated so far (a view)."""
        return self.token_ids[self.num_prompt_tokens : self.num_tokens]

    @property
    def is_finished(self) -> bool:
        """Whether the request has ended."""
        return self.state is RequestState.FINISHED

    def prompt_rows(self, num_new_tokens: int) -> range:
        """Positions among the next `num_new_tokens` whose logits predict a token of the prompt and are still wanted."""
        if not self.wants_prompt_rows:
            return range(0)
        stop = min(self.num_computed_tokens + num_new_tokens, self.num_prompt_tokens - 1)
        return range(max(self.num_computed_tokens, self.num_prompt_rows_done), stop)

    def add_blocks(self, blocks: list[int]) -> None:
        """Appends blocks to those that hold this request's keys and values."""
        first = len(self.block_ids)
        self.block_table[first : first + len(blocks)] = blocks
        self.block_ids += blocks

    def append_token(self, token_id: int) -> None:
        """Takes a sampled token; it may end the request."""
        self.token_ids[self.num_tokens] = token_id
        self.num_tokens += 1
        num_output_tokens = self.num_tokens - self.num_prompt_tokens
        if token_id in self.stop_ids and num_output_tokens > self.min_tokens:
            self.finish(FinishReason.STOP, self.stop_ids[token_id])
        elif num_output_tokens >= self.max_tokens:
            self.finish(FinishReason.LENGTH)

    def finish(self, reason: FinishReason, stop_reason: int | str | None = None) -> None:
        """Ends the request; its blocks are still to be released by the scheduler."""
        self.state, self.finish_reason, self.stop_reason = RequestState.FINISHED, reason, stop_reason

    def forget_computed(self) -> list[int]:
        """Back to nothing computed; returns the blocks that were held, for release."""
        blocks, self.block_ids = self.block_ids, []
        self.num_computed_tokens = self.num_shared_tokens = 0
        return blocks

    def __repr__(self) -> str:
        return (
            f"Request({self.request_id!r}, {self.index}, {self.state.value}, {self.num_computed_tokens} of "
            f"{self.num_tokens} tokens computed)"
        )


def _num_logprobs(asked: int | None, vocab_size: int) -> int | None:
    return vocab_size if asked == ALL_LOGPROBS else asked
