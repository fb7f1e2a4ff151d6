"""What must hold of a request before it enters the engine, checked here once; and the making of its sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.completion import Completion, RequestGroup
from perfxlm.engine.request import PromptLogitsFn, Request
from perfxlm.engine.sampling_inputs import LogitBias, RequestSampler
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.inputs import ParsedPrompt
from perfxlm.sampling_params import ALL_LOGPROBS, SamplingParams
from perfxlm.tokenizer import Tokenizer
from perfxlm.validation import shown

MAX_REPORT_BYTES = 4 << 30
"""Most memory that one request's tokens and reported log-probabilities may take."""

_BYTES_PER_TOKEN = 4
_BYTES_PER_LOGPROB = 8
_BYTES_PER_REPORT = 400


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What requests are checked against.

    `eos_token_id` is the model's own end; `end_token_ids` holds others (end of turn).
    """

    vocab_size: int
    max_model_len: int
    max_blocks: int
    eos_token_id: int | None
    end_token_ids: Sequence[int]
    seed: int
    max_logprobs: int


class Admission:
    """Turns prompts and parameters into request groups.

    Raises InvalidArgumentError naming the parameter that cannot be met.
    """

    def __init__(self, facts: ModelFacts, tokenizer: Tokenizer | None) -> None:
        self.facts, self._tokenizer = facts, tokenizer
        self._num_admitted = 0

    def admit(
        self, request_id: str, prompt: ParsedPrompt, params: SamplingParams, prompt_logits: PromptLogitsFn | None = None
    ) -> RequestGroup:
        """A group of `params.n` sequences. `prompt_logits` receives the raw logits at every position of the prompt."""
        if not isinstance(params, SamplingParams):
            raise InvalidArgumentError(f"sampling_params must be a SamplingParams; got {shown(params)}")
        params = params.clone()
        self._check_supported(params)
        token_ids = self._token_ids(prompt)
        self._check_ids(params)
        max_tokens = self._max_tokens(token_ids, params)
        self._check_memory(len(token_ids), max_tokens, params)
        self._num_admitted += 1
        make = partial(
            Request,
            request_id,
            token_ids,
            params,
            max_tokens=max_tokens,
            max_blocks=self.facts.max_blocks,
            vocab_size=self.facts.vocab_size,
            stop_ids=self._stop_ids(params),
            decode_token=self._decode_token if params.detokenize and self._tokenizer is not None else None,
        )
        first = make(prompt_logits=prompt_logits)
        requests = [first, *(make(index=index, prefix_source=first) for index in range(1, params.n))]
        if RequestSampler.is_needed(params):
            self._add_samplers(requests, params)
        completions = [Completion(request, self._tokenizer) for request in requests]
        return RequestGroup(request_id, prompt.text, token_ids, completions)

    def _add_samplers(self, requests: Sequence[Request], params: SamplingParams) -> None:
        words = self._bad_words(params.bad_words or ())
        bias = LogitBias(params, self.facts.vocab_size, words, requests[0].stop_ids)
        for request in requests:
            seed = (self.facts.seed, self._num_admitted << 16 | request.index)
            request.sampler = RequestSampler(request, bias, seed)
            request.needs_logits = True

    def _check_supported(self, params: SamplingParams) -> None:
        if params.structured_outputs is not None:
            raise UnsupportedFeatureError("structured_outputs: constrained decoding is not built yet")
        if self._tokenizer is None and params.detokenize:
            raise InvalidArgumentError(
                "detokenize must be False where the engine has no tokenizer (skip_tokenizer_init)"
            )
        if self._tokenizer is None and params.bad_words:
            raise InvalidArgumentError("bad_words need a tokenizer (skip_tokenizer_init is set)")

    def _token_ids(self, prompt: ParsedPrompt) -> list[int]:
        token_ids = prompt.token_ids
        if token_ids is None:
            if self._tokenizer is None:
                raise InvalidArgumentError("prompts must be token ids where the engine has no tokenizer")
            token_ids = self._tokenizer.encode(prompt.text or "")
        if not token_ids:
            raise InvalidArgumentError("the prompt is empty: at least one token is needed")
        if len(token_ids) >= self.facts.max_model_len:
            raise InvalidArgumentError(
                f"the prompt has {len(token_ids)} tokens; with at least one to generate, max_model_len "
                f"{self.facts.max_model_len} allows {self.facts.max_model_len - 1}"
            )
        self._check_vocabulary("prompt_token_ids", token_ids)
        return token_ids

    def _check_ids(self, params: SamplingParams) -> None:
        for name in ("logit_bias", "allowed_token_ids", "stop_token_ids"):
            self._check_vocabulary(name, getattr(params, name) or ())
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(params, name) or 0
            if count > self.facts.vocab_size:
                raise InvalidArgumentError(f"{name} is larger than the vocabulary of {self.facts.vocab_size} tokens")
            if self.facts.max_logprobs != ALL_LOGPROBS and not 0 <= count <= self.facts.max_logprobs:
                raise InvalidArgumentError(f"{name}={count} is more than max_logprobs={self.facts.max_logprobs}")

    def _check_vocabulary(self, name: str, token_ids: Iterable[int]) -> None:
        for token_id in token_ids:
            if token_id >= self.facts.vocab_size:
                raise InvalidArgumentError(
                    f"{name}: id {token_id} is outside the vocabulary of {self.facts.vocab_size} tokens"
                )

    def _max_tokens(self, token_ids: Sequence[int], params: SamplingParams) -> int:
        room = self.facts.max_model_len - len(token_ids)
        return room if params.max_tokens is None else min(params.max_tokens, room)

    def _check_memory(self, num_prompt_tokens: int, max_tokens: int, params: SamplingParams) -> None:
        """Refuses what would fill the memory: tokens of n sequences, and what is reported at each position."""
        num_outputs = params.n * max_tokens
        needs = {"n": params.n * (num_prompt_tokens + max_tokens) * _BYTES_PER_TOKEN}
        for name, num_positions in (("logprobs", num_outputs), ("prompt_logprobs", num_prompt_tokens)):
            count = getattr(params, name)
            if count is not None:
                count = self.facts.vocab_size if count == ALL_LOGPROBS else count
                needs[name] = num_positions * (count * _BYTES_PER_LOGPROB + _BYTES_PER_REPORT)
        for name, nbytes in needs.items():
            if nbytes > MAX_REPORT_BYTES:
                raise InvalidArgumentError(
                    f"{name}={getattr(params, name)} with n={params.n} and {max_tokens} tokens takes "
                    f"{nbytes >> 20} MiB; at most {MAX_REPORT_BYTES >> 20} are allowed: lower {name}, max_tokens or n"
                )

    def _stop_ids(self, params: SamplingParams) -> dict[int, int | None]:
        stops: dict[int, int | None] = {}
        if not params.ignore_eos:
            stops.update((token_id, token_id) for token_id in self.facts.end_token_ids)
            if self.facts.eos_token_id is not None:
                stops[self.facts.eos_token_id] = None
        stops.update((token_id, token_id) for token_id in params.stop_token_ids or () if token_id not in stops)
        return stops

    def _bad_words(self, words: Sequence[str]) -> list[list[int]]:
        """Token sequences of the words at the start of a text and, where that differs, after a space."""
        sequences: list[list[int]] = []
        for word in words:
            bare, spaced = (self._encode(prefix + word.lstrip()) for prefix in ("", " "))
            sequences.append(bare)
            if spaced[:1] != bare[:1] and len(spaced) == len(bare):
                sequences.append(spaced)
        return [sequence for sequence in sequences if sequence]

    def _encode(self, text: str) -> list[int]:
        assert self._tokenizer is not None
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _decode_token(self, token_id: int) -> str:
        assert self._tokenizer is not None
        return self._tokenizer.decode([token_id], skip_special_tokens=False)
