"""What a request gives back, by vLLM's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class Logprob:
    """A token's log-probability (natural logarithm, of the raw logits), its rank (1: likeliest) and its text."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


class TokenLogprobs(Mapping[int, Logprob]):
    """The log-probabilities at one position: token id to Logprob, the position's own token first, then by rank.

    Held as two arrays, since a vocabulary of 262,144 as a dict of objects would take 60 MB a position; the Logprob
    objects are made when they are asked for. It equals a dict of the same content.
    """

    __slots__ = ("_decode", "_index", "_rank", "logprobs", "token_ids")

    def __init__(
        self,
        token_ids: Int32Array,
        logprobs: Float32Array,
        rank: int,
        decode: Callable[[int], str] | None = None,
    ) -> None:
        """`token_ids[0]` is the position's own token, of that `rank`; the others, in order, may hold it again."""
        repeated = np.flatnonzero(token_ids[1:] == token_ids[0]) + 1
        self._rank = rank
        self.token_ids: Int32Array = np.delete(token_ids, repeated)
        self.logprobs: Float32Array = np.delete(logprobs, repeated)
        self._decode = decode
        self._index: dict[int, int] | None = None

    def __getitem__(self, token_id: int) -> Logprob:
        if self._index is None:
            self._index = {int(token): place for place, token in enumerate(self.token_ids)}
        place = self._index[token_id]
        text = self._decode(int(token_id)) if self._decode is not None else None
        return Logprob(float(self.logprobs[place]), self._rank_at(place), text)

    def _rank_at(self, place: int) -> int:
        """Others are 1, 2, ... in order, but for a gap where the own token stands."""
        if place == 0:
            return self._rank
        return place if place < self._rank else place + 1

    def __iter__(self) -> Iterator[int]:
        return map(int, self.token_ids)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(dict(self))


PromptLogprobs = list[TokenLogprobs | None]
SampleLogprobs = list[TokenLogprobs]


@dataclass(slots=True)
class CompletionOutput:
    """One of a request's n outputs.

    finish_reason: "stop" (stop_reason: the string or id; None for the model's own end), "length" or "abort"; None while
    it runs.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: SampleLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    lora_request: Any = None

    def finished(self) -> bool:
        """Whether this output is complete."""
        return self.finish_reason is not None


@dataclass(slots=True)
class RequestMetrics:
    """Times of a request, in seconds of `time.monotonic()` (arrival_time: of `time.time()`)."""

    arrival_time: float
    queued_ts: float
    first_token_ts: float = 0.0
    last_token_ts: float = 0.0
    num_generation_tokens: int = 0
    num_preemptions: int = 0

    def note_token(self, now: float) -> None:
        """A token was delivered at `now`."""
        if not self.num_generation_tokens:
            self.first_token_ts = now
        self.last_token_ts = now
        self.num_generation_tokens += 1

    @property
    def first_token_latency(self) -> float:
        """Seconds from arrival to the first token."""
        return self.first_token_ts - self.queued_ts


@dataclass(slots=True)
class RequestOutput:
    """A request's state as its caller sees it: all outputs, and the prompt they answer."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: PromptLogprobs | None = None
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = False
    metrics: RequestMetrics | None = None
    lora_request: Any = None
    num_cached_tokens: int = 0
