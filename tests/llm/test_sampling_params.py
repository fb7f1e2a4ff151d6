"""SamplingParams: vLLM's defaults, and a typed error that names the parameter for everything that cannot be meant."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perfxapi.errors import InvalidArgumentError
from perfxlm.sampling_params import (
    BeamSearchParams,
    RequestOutputKind,
    SamplingParams,
    SamplingType,
    StructuredOutputsParams,
)

VLLM_DEFAULTS: dict[str, Any] = {
    "n": 1, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "temperature": 1.0,
    "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": None, "stop": [], "stop_token_ids": [], "ignore_eos": False,
    "max_tokens": 16, "min_tokens": 0, "bad_words": None, "logprobs": None, "prompt_logprobs": None,
    "detokenize": True, "skip_special_tokens": True, "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False, "output_kind": RequestOutputKind.CUMULATIVE, "structured_outputs": None,
    "logit_bias": None, "allowed_token_ids": None, "extra_args": None, "skip_reading_prefix_cache": None,
}  # fmt: skip

BAD = [
    ("n", 0), ("n", -1), ("n", 1.0), ("n", True), ("n", "1"), ("n", 10**6), ("presence_penalty", 2.1),
    ("presence_penalty", math.nan), ("presence_penalty", "0"), ("frequency_penalty", -2.1),
    ("frequency_penalty", math.inf), ("repetition_penalty", 0), ("repetition_penalty", -1.0),
    ("repetition_penalty", math.inf), ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
    ("temperature", None), ("temperature", True), ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan), ("top_k", -2),
    ("top_k", 1.5), ("min_p", -0.1), ("min_p", 1.1), ("seed", 1.5), ("seed", 2**63), ("max_tokens", 0),
    ("max_tokens", -1), ("max_tokens", 1.0), ("min_tokens", -1), ("logprobs", -2), ("logprobs", 1.0),
    ("logprobs", 10**9), ("prompt_logprobs", -2), ("stop", [""]), ("stop", ""), ("stop", [1]), ("stop", 5),
    ("stop", ["x"] * 100_000), ("stop", ["x" * 1_000_000]), ("stop", {"a": 1}), ("stop_token_ids", [-1]),
    ("stop_token_ids", ["a"]), ("stop_token_ids", [1.0]), ("stop_token_ids", range(100_000)), ("stop_token_ids", 3),
    ("bad_words", [""]), ("bad_words", ["x"] * 100_000), ("logit_bias", {1: math.nan}), ("logit_bias", {1: math.inf}),
    ("logit_bias", {-1: 1.0}), ("logit_bias", {"a": 1.0}), ("logit_bias", [1]), ("logit_bias", {1: "x"}),
    ("logit_bias", dict.fromkeys(range(100_000), 1.0)), ("logit_bias", {1.5: 1.0}), ("allowed_token_ids", []),
    ("allowed_token_ids", [-1]), ("allowed_token_ids", "abc"), ("ignore_eos", 1), ("detokenize", None),
    ("skip_special_tokens", "yes"), ("output_kind", 0), ("structured_outputs", {"json": "{}"}), ("extra_args", []),
    ("skip_reading_prefix_cache", 1), ("include_stop_str_in_output", 0),
]  # fmt: skip


def test_defaults_are_those_of_vllm() -> None:
    params = SamplingParams()
    assert {name: getattr(params, name) for name in VLLM_DEFAULTS} == VLLM_DEFAULTS
    assert list(VLLM_DEFAULTS) == list(SamplingParams.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_combinations_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="min_tokens"):
        SamplingParams(min_tokens=17)
    with pytest.raises(InvalidArgumentError, match="detokenize"):
        SamplingParams(stop=["a"], detokenize=False)
    with pytest.raises(InvalidArgumentError, match="n must be 1"):
        SamplingParams(n=2, temperature=0.0)


def test_values_are_brought_into_canonical_form() -> None:
    given: dict[str, Any] = {"logit_bias": {"5": 200, 7: -200.0}, "stop_token_ids": (3, 4)}
    params = SamplingParams(stop="END", top_k=-1, logprobs=True, **given)
    assert (params.stop, params.top_k, params.logprobs) == (["END"], 0, 1)
    assert params.logit_bias == {5: 100.0, 7: -100.0}
    assert params.stop_token_ids == [3, 4]
    assert SamplingParams(max_tokens=None, min_tokens=100).max_tokens is None


def test_temperature_decides_the_type() -> None:
    greedy = SamplingParams(temperature=1e-6, top_p=0.5, top_k=4, min_p=0.1)
    assert greedy.sampling_type is SamplingType.GREEDY
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.min_p) == (0.0, 1.0, 0, 0.0)
    assert SamplingParams(temperature=0.001).temperature == 0.01
    assert SamplingParams(seed=1).sampling_type is SamplingType.RANDOM_SEED
    assert SamplingParams().sampling_type is SamplingType.RANDOM


def test_clone_shares_nothing_but_extra_args() -> None:
    params = SamplingParams(stop=["a"], logit_bias={1: 2.0}, extra_args={"key": object()})
    twin = params.clone()
    assert twin == params
    assert twin.stop is not params.stop
    assert twin.logit_bias is not params.logit_bias
    assert twin.extra_args is params.extra_args


def test_generation_config_adds_other_ends() -> None:
    params = SamplingParams(stop_token_ids=[9])
    params.update_from_generation_config({"eos_token_id": [1, 106, 9]}, eos_token_id=1)
    assert params.stop_token_ids == [9, 106]
    ignoring = SamplingParams(ignore_eos=True)
    ignoring.update_from_generation_config({"eos_token_id": 106})
    assert ignoring.stop_token_ids == []


def test_repr_shows_what_differs() -> None:
    assert repr(SamplingParams(temperature=0.5, stop="a")) == "SamplingParams(temperature=0.5, stop=['a'])"


@pytest.mark.parametrize("given", [{}, {"json": "{}", "regex": "a"}, {"json_object": True, "choice": ["a"]}])
def test_structured_outputs_need_exactly_one_constraint(given: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match="exactly one"):
        StructuredOutputsParams(**given)  # type: ignore[arg-type]


def test_beam_search_params() -> None:
    params = BeamSearchParams(beam_width=4, max_tokens=8)
    assert (params.ignore_eos, params.temperature, params.length_penalty) == (False, 0.0, 1.0)
    with pytest.raises(InvalidArgumentError, match="beam_width"):
        BeamSearchParams(beam_width=0, max_tokens=8)
    with pytest.raises(InvalidArgumentError, match="length_penalty"):
        BeamSearchParams(beam_width=1, max_tokens=8, length_penalty=math.nan)
