"""How to sample: the parameters of a request, by vLLM's names, defaults and meanings."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any

from perfxapi.errors import InvalidArgumentError
from perfxlm.validation import (
    check_bool,
    check_float,
    check_int,
    check_optional_int,
    check_strings,
    check_token_ids,
    shown,
)

GREEDY_TEMPERATURE = 1e-5
"""Below this temperature sampling is greedy."""

MIN_TEMPERATURE = 1e-2
"""Smallest temperature of random sampling; lower ones are raised to it, since they would spread the logits too far."""

ALL_LOGPROBS = -1
"""Value of `logprobs` and `prompt_logprobs` that asks for the whole vocabulary."""

MAX_N = 16_384
MAX_STOP_STRINGS = 256
MAX_BAD_WORDS = 1_024
MAX_STRING_CHARACTERS = 4_096
MAX_STOP_TOKEN_IDS = 4_096
MAX_LOGIT_BIAS = 65_536
MAX_VOCABULARY = 4_194_304
_BIAS_LIMIT = 100.0


class RequestOutputKind(Enum):
    """What each RequestOutput of a stream holds: all so far, what is new, or nothing until the end."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class SamplingType(IntEnum):
    """Greedy, or random with or without a seed of its own."""

    GREEDY = 0
    RANDOM = 1
    RANDOM_SEED = 2


@dataclass
class StructuredOutputsParams:
    """A constraint on the form of the output; exactly one of the first six, else InvalidArgumentError is raised."""

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    disable_fallback: bool = False
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None

    def __post_init__(self) -> None:
        constraints = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
        given = [name for name in constraints if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(constraints)
            raise InvalidArgumentError(f"structured_outputs needs exactly one of {names}; got {given}")


@dataclass
class BeamSearchParams:
    """Parameters of a beam search. Raises InvalidArgumentError."""

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    include_stop_str_in_output: bool = False

    def __post_init__(self) -> None:
        self.beam_width = check_int("beam_width", self.beam_width, 1, MAX_N)
        self.max_tokens = check_int("max_tokens", self.max_tokens, 1)
        self.ignore_eos = check_bool("ignore_eos", self.ignore_eos)
        self.temperature = check_float("temperature", self.temperature, 0.0)
        self.length_penalty = check_float("length_penalty", self.length_penalty, -math.inf)
        self.include_stop_str_in_output = check_bool("include_stop_str_in_output", self.include_stop_str_in_output)


@dataclass
class SamplingParams:
    """How one request is sampled, when it stops, and what is reported. Every field is checked; InvalidArgumentError
    names it.

    n: how many outputs. presence_penalty, frequency_penalty: subtracted from the logits of tokens already in the
    output, once, and for each occurrence, in [-2, 2]. repetition_penalty: divides (multiplies, below 0) logits of
    tokens in prompt or output, above 0. temperature: divides the logits; 0 is greedy. top_p, top_k (0 or -1: all),
    min_p: which tokens stay. seed: of this request. stop, stop_token_ids: strings and ids that end the output;
    ignore_eos: the model's own end does not. max_tokens (None: up to the context), min_tokens: length of the output.
    bad_words: never produced. logprobs, prompt_logprobs: how many tokens' log-probabilities are reported at each
    position beside the token's own (-1: all). detokenize: whether text is made at all. logit_bias: id to addend,
    clamped to [-100, 100]. allowed_token_ids: the only ids that may be produced. extra_args is passed to plugins.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    bad_words: list[str] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    extra_args: dict[str, Any] | None = None
    skip_reading_prefix_cache: bool | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_lengths()
        self._check_strings()
        self._check_ids()
        self._check_switches()
        self._check_combinations()
        if self.temperature < GREEDY_TEMPERATURE:
            self.temperature, self.top_p, self.top_k, self.min_p = 0.0, 1.0, 0, 0.0
        else:
            self.temperature = max(self.temperature, MIN_TEMPERATURE)

    def _check_numbers(self) -> None:
        self.n = check_int("n", self.n, 1, MAX_N)
        self.presence_penalty = check_float("presence_penalty", self.presence_penalty, -2.0, 2.0)
        self.frequency_penalty = check_float("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        self.repetition_penalty = check_float("repetition_penalty", self.repetition_penalty, 0.0, 1e6, open_low=True)
        self.temperature = check_float("temperature", self.temperature, 0.0, 1e6)
        self.top_p = check_float("top_p", self.top_p, 0.0, 1.0, open_low=True)
        self.top_k = max(check_int("top_k", self.top_k, -1, 2**31 - 1), 0)
        self.min_p = check_float("min_p", self.min_p, 0.0, 1.0)
        self.seed = check_optional_int("seed", self.seed, -(2**63))

    def _check_lengths(self) -> None:
        self.max_tokens = check_optional_int("max_tokens", self.max_tokens, 1, 2**31 - 1)
        self.min_tokens = check_int("min_tokens", self.min_tokens, 0, 2**31 - 1)
        # vLLM reads True as 1
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            value = int(value) if isinstance(value, bool) and value else value
            setattr(self, name, check_optional_int(name, value, ALL_LOGPROBS, MAX_VOCABULARY))

    def _check_strings(self) -> None:
        self.stop = check_strings("stop", self.stop, MAX_STOP_STRINGS, MAX_STRING_CHARACTERS)
        bad_words = check_strings("bad_words", self.bad_words, MAX_BAD_WORDS, MAX_STRING_CHARACTERS)
        self.bad_words = bad_words or None

    def _check_ids(self) -> None:
        self.stop_token_ids = check_token_ids("stop_token_ids", self.stop_token_ids, MAX_STOP_TOKEN_IDS)
        if self.logit_bias is not None:
            self.logit_bias = _check_logit_bias(self.logit_bias)
        if self.allowed_token_ids is not None:
            self.allowed_token_ids = check_token_ids("allowed_token_ids", self.allowed_token_ids, MAX_VOCABULARY)
            if not self.allowed_token_ids:
                raise InvalidArgumentError("allowed_token_ids must not be empty: no token could be produced")

    def _check_switches(self) -> None:
        names = ("ignore_eos", "detokenize", "skip_special_tokens", "spaces_between_special_tokens")
        for name in (*names, "include_stop_str_in_output"):
            check_bool(name, getattr(self, name))
        if not isinstance(self.output_kind, RequestOutputKind):
            raise InvalidArgumentError(f"output_kind must be a RequestOutputKind; got {shown(self.output_kind)}")
        if self.structured_outputs is not None and not isinstance(self.structured_outputs, StructuredOutputsParams):
            raise InvalidArgumentError(
                f"structured_outputs must be a StructuredOutputsParams; got {shown(self.structured_outputs)}"
            )
        if self.extra_args is not None and not isinstance(self.extra_args, dict):
            raise InvalidArgumentError(f"extra_args must be a dict; got {shown(self.extra_args)}")
        if self.skip_reading_prefix_cache is not None:
            check_bool("skip_reading_prefix_cache", self.skip_reading_prefix_cache)

    def _check_combinations(self) -> None:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidArgumentError(f"min_tokens ({self.min_tokens}) is larger than max_tokens ({self.max_tokens})")
        if self.stop and not self.detokenize:
            raise InvalidArgumentError("stop strings are found in text: they need detokenize=True")
        if self.temperature < GREEDY_TEMPERATURE and self.n > 1:
            raise InvalidArgumentError(f"n must be 1 with temperature 0, where all outputs are the same; got {self.n}")

    @property
    def sampling_type(self) -> SamplingType:
        """Greedy, random, or random with a seed of its own."""
        if self.temperature < GREEDY_TEMPERATURE:
            return SamplingType.GREEDY
        return SamplingType.RANDOM if self.seed is None else SamplingType.RANDOM_SEED

    @cached_property
    def has_penalties(self) -> bool:
        """Whether logits depend on the tokens so far."""
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1

    def clone(self) -> SamplingParams:
        """A copy that shares nothing that can be changed; `extra_args` is shared."""
        extra_args, self.extra_args = self.extra_args, None
        try:
            twin = copy.deepcopy(self)
        finally:
            self.extra_args = extra_args
        twin.extra_args = extra_args
        return twin

    def update_from_generation_config(
        self, generation_config: Mapping[str, Any], eos_token_id: int | None = None
    ) -> None:
        """Adds the other end-of-sequence ids that a model's generation_config.json names, as stop_token_ids.

        `eos_token_id` is the tokenizer's own, which stops the request anyway; with `ignore_eos` nothing is added.
        """
        named = generation_config.get("eos_token_id")
        if named is None or self.ignore_eos:
            return
        ids = check_token_ids("eos_token_id", [named] if isinstance(named, int) else named, MAX_STOP_TOKEN_IDS)
        known = list(self.stop_token_ids or [])
        self.stop_token_ids = known + [token for token in dict.fromkeys(ids) if token not in {*known, eos_token_id}]

    def __repr__(self) -> str:
        changed = (f for f in fields(self) if getattr(self, f.name) not in (f.default, []))
        return f"SamplingParams({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in changed)})"


def _check_logit_bias(value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"logit_bias must map token ids to numbers; got {shown(value)}")
    if len(value) > MAX_LOGIT_BIAS:
        raise InvalidArgumentError(f"logit_bias has more than {MAX_LOGIT_BIAS} entries")
    checked = {}
    for key, bias in value.items():
        # keys of JSON objects are strings
        token = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 11 else key
        number = check_float(f"logit_bias[{shown(key)}]", bias, -math.inf)
        checked[check_int("logit_bias: token id", token, 0, 2**31 - 1)] = min(max(number, -_BIAS_LIMIT), _BIAS_LIMIT)
    return checked
