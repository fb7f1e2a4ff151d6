"""From SamplingParams to the operands of the sampling ops, which `sampler.py` writes into the graph of a step.

Everything random is drawn here, on the host, from a stream of each request's own: what a seed gives depends neither on
the batch nor on the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.request import Request
from perfxlm.sampling_params import SamplingParams

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

_UINT64 = 2**64
_GREEDY = SamplingParams(temperature=0.0)


class TokenCounts:
    """The distinct tokens of a prompt and its output, and how often each is in the output: what penalties depend on."""

    def __init__(self, prompt_token_ids: Int32Array) -> None:
        distinct = np.unique(prompt_token_ids)
        self._size = len(distinct)
        self._ids: Int32Array = np.zeros(2 * self._size + 16, np.int32)
        self._ids[: self._size] = distinct
        self._counts: Int32Array = np.zeros(len(self._ids), np.int32)
        self._places = {int(token): place for place, token in enumerate(distinct)}

    @property
    def ids(self) -> Int32Array:
        """Distinct token ids."""
        return self._ids[: self._size]

    @property
    def counts(self) -> Int32Array:
        """For each of `ids`, its occurrences in the output."""
        return self._counts[: self._size]

    def add(self, token_id: int) -> None:
        """Counts one more output token."""
        place = self._places.get(token_id)
        if place is None:
            place = self._places[token_id] = self._size
            if place == len(self._ids):
                self._ids, self._counts = np.resize(self._ids, 2 * place), np.resize(self._counts, 2 * place)
            self._ids[place], self._counts[place] = token_id, 0
            self._size += 1
        self._counts[place] += 1


class LogitBias:
    """What is added to a request's logits at each step: its logit_bias, and minus infinity for what is forbidden.

    Where a bad word of several tokens or min_tokens would leave no token at all, they give way.
    """

    def __init__(
        self, params: SamplingParams, vocab_size: int, bad_words: Sequence[Sequence[int]], stop_ids: Iterable[int]
    ) -> None:
        """Raises InvalidArgumentError where no token is allowed."""
        self._banned = frozenset(words[0] for words in bad_words if len(words) == 1)
        self._allowed = None if params.allowed_token_ids is None else frozenset(params.allowed_token_ids)
        banned = np.array(sorted(self._banned), np.int32)
        if self._allowed is not None:
            others = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), list(self._allowed))
            banned = np.union1d(banned, others).astype(np.int32)
        self._num_open = vocab_size - len(banned)
        if not self._num_open:
            raise InvalidArgumentError("allowed_token_ids and bad_words leave no token that could be produced")
        bias = params.logit_bias or {}
        self._ids = np.concatenate([banned, np.array(list(bias), np.int32)])
        self._values = np.concatenate([np.full(len(banned), -np.inf), list(bias.values())]).astype(np.float32)
        self._phrases = [list(words) for words in bad_words if len(words) > 1]
        self._early_stops = frozenset(stop_ids) if params.min_tokens else frozenset()
        self._min_tokens = params.min_tokens

    @property
    def is_needed(self) -> bool:
        """Whether anything is ever added."""
        return bool(len(self._ids) or self._phrases or self._early_stops)

    def at(self, output_token_ids: Int32Array) -> tuple[Int32Array, Float32Array]:
        """Ids and addends after that output; an id may come more than once."""
        banned = {
            phrase[-1] for phrase in self._phrases if output_token_ids[-len(phrase) + 1 :].tolist() == phrase[:-1]
        }
        if len(output_token_ids) < self._min_tokens:
            banned |= self._early_stops
        banned = {token for token in banned if self._is_open(token)}
        if not banned or len(banned) == self._num_open:
            return self._ids, self._values
        ids = np.concatenate([self._ids, np.array(list(banned), np.int32)])
        return ids, np.concatenate([self._values, np.full(len(banned), -np.inf, np.float32)])

    def _is_open(self, token: int) -> bool:
        return token not in self._banned and (self._allowed is None or token in self._allowed)


class RequestSampler:
    """What sampling a request needs from step to step: its random stream, the tokens seen, its biases."""

    __slots__ = ("_drawn", "_drawn_for", "_generator", "bias", "counts", "num_candidates")

    def __init__(self, request: Request, bias: LogitBias, seed: tuple[int, int]) -> None:
        """`seed` is that of the engine and the number of this request in it, for requests without a seed."""
        params = request.params
        key = seed if params.seed is None else (params.seed, request.index)
        self._generator = np.random.Generator(np.random.Philox(key=np.array([k % _UINT64 for k in key], np.uint64)))
        self._drawn, self._drawn_for = 0.0, -1
        prompt = request.token_ids[: request.num_prompt_tokens]
        self.counts = TokenCounts(prompt) if params.has_penalties else None
        self.bias = bias
        # one more than top_k: it keeps what equals the last
        is_limited = not (bias.is_needed or params.has_penalties) and (params.top_k > 0 or not params.temperature)
        self.num_candidates = (params.top_k + 1 if params.temperature else 1) if is_limited else 0
        """How many of the largest logits hold every token that may be sampled; 0: all may."""

    @staticmethod
    def is_needed(params: SamplingParams) -> bool:
        """Whether such a request may get another token than the one of the highest logit."""
        conditions = (params.logit_bias, params.allowed_token_ids, params.bad_words, params.min_tokens)
        return params.temperature > 0 or params.has_penalties or any(conditions)

    def uniform(self, position: int) -> float:
        """The number in [0, 1) of this request's stream that decides the token at `position` (0, 1, ... in order).

        A step that is run again, after its device was lost, gets the same number again.
        """
        if position != self._drawn_for:
            self._drawn, self._drawn_for = float(self._generator.random(dtype=np.float32)), position
        return self._drawn

    def observe(self, token_id: int) -> None:
        """Takes note of a sampled token."""
        if self.counts is not None:
            self.counts.add(token_id)


class SamplingInputs:
    """The operands of `adjust_logits` and `sample` for the requests that a step samples; arrays are reused."""

    def __init__(self, max_samples: int) -> None:
        self._floats = {
            name: np.zeros(max_samples, np.float32)
            for name in ("temperature", "top_p", "min_p", "uniform", "repetition", "frequency", "presence")
        }
        self._top_k = np.zeros(max_samples, np.int32)
        self._starts = np.zeros(max_samples + 1, np.int32)

    def fill(self, requests: Sequence[Request]) -> dict[str, npt.NDArray[np.generic]]:
        """Operands by name, one row for each request; none at all counts as one row of greedy sampling."""
        num_rows = max(len(requests), 1)
        counted: list[TokenCounts] = []
        biases: list[tuple[int, Int32Array, Float32Array]] = []
        self._starts[: num_rows + 1] = 0
        if not requests:
            self._set_row(0, _GREEDY, 0.0)
        for row, request in enumerate(requests):
            sampler = request.sampler
            if sampler is None:
                self._set_row(row, _GREEDY, 0.0)
                continue
            self._set_row(row, request.params, sampler.uniform(request.num_output_tokens))
            if sampler.counts is not None:
                counted.append(sampler.counts)
                self._starts[row + 1] = len(sampler.counts.ids)
            if sampler.bias.is_needed:
                biases.append((row, *sampler.bias.at(request.output_token_ids)))
        np.cumsum(self._starts[: num_rows + 1], out=self._starts[: num_rows + 1])
        operands: dict[str, npt.NDArray[np.generic]] = {name: rows[:num_rows] for name, rows in self._floats.items()}
        operands.update(top_k=self._top_k[:num_rows], starts=self._starts[: num_rows + 1])
        operands.update(_joined_counts(counted))
        operands.update(_joined_biases(biases))
        return operands

    def _set_row(self, row: int, params: SamplingParams, uniform: float) -> None:
        floats = self._floats
        floats["temperature"][row], floats["uniform"][row] = params.temperature, uniform
        floats["top_p"][row], floats["min_p"][row], self._top_k[row] = params.top_p, params.min_p, params.top_k
        floats["repetition"][row], floats["presence"][row] = params.repetition_penalty, params.presence_penalty
        floats["frequency"][row] = params.frequency_penalty


# A graph's inputs are never empty: one id that no row refers to, one addend of 0.
_NOTHING_COUNTED = {"counted_ids": np.zeros(1, np.int32), "output_counts": np.zeros(1, np.int32)}
_NOTHING_ADDED = {
    "bias_rows": np.zeros(1, np.int32),
    "bias_ids": np.zeros(1, np.int32),
    "bias_values": np.zeros(1, np.float32),
}


def _joined_counts(counted: Sequence[TokenCounts]) -> Mapping[str, npt.NDArray[np.generic]]:
    if not any(len(each.ids) for each in counted):
        return _NOTHING_COUNTED
    if len(counted) == 1:
        return {"counted_ids": counted[0].ids, "output_counts": counted[0].counts}
    return {
        "counted_ids": np.concatenate([each.ids for each in counted]),
        "output_counts": np.concatenate([each.counts for each in counted]),
    }


def _joined_biases(biases: Sequence[tuple[int, Int32Array, Float32Array]]) -> Mapping[str, npt.NDArray[np.generic]]:
    if not any(len(ids) for _, ids, _ in biases):
        return _NOTHING_ADDED
    return {
        "bias_rows": np.concatenate([np.full(len(ids), row, np.int32) for row, ids, _ in biases]),
        "bias_ids": np.concatenate([ids for _, ids, _ in biases]),
        "bias_values": np.concatenate([values for _, _, values in biases]),
    }
