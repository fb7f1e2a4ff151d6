"""Requests that cannot be served are refused before anything runs, by an error that names the parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_helpers import greedy

from perfxapi.errors import InvalidArgumentError
from perfxlm import LLM, SamplingParams, TokensPrompt
from perfxlm.errors import UnsupportedFeatureError


@pytest.mark.parametrize(
    ("given", "params", "match"),
    [
        ([], SamplingParams(), "empty"),
        (TokensPrompt(prompt_token_ids=[]), SamplingParams(), "empty"),
        (TokensPrompt(prompt_token_ids=[128]), SamplingParams(), "id 128 is outside the vocabulary of 128"),
        (TokensPrompt(prompt_token_ids=[-1]), SamplingParams(), "prompt_token_ids"),
        (TokensPrompt(prompt_token_ids=[5] * 128), SamplingParams(), "128 tokens.*max_model_len 128"),
        (TokensPrompt(prompt_token_ids=[5]), SamplingParams(logit_bias={128: 1.0}), "logit_bias: id 128"),
        (TokensPrompt(prompt_token_ids=[5]), SamplingParams(allowed_token_ids=[1, 999]), "allowed_token_ids: id 999"),
        (TokensPrompt(prompt_token_ids=[5]), SamplingParams(stop_token_ids=[128]), "stop_token_ids: id 128"),
        (TokensPrompt(prompt_token_ids=[5]), SamplingParams(logprobs=129), "logprobs"),
        (TokensPrompt(prompt_token_ids=[5]), SamplingParams(prompt_logprobs=129), "prompt_logprobs"),
        ({"prompt_token_ids": [5], "multi_modal_data": {}}, SamplingParams(), "multi_modal_data"),
        ({"text": "a"}, SamplingParams(), "text"),
        ({}, SamplingParams(), "needs prompt"),
        (5, SamplingParams(), "prompts"),
        ([5.5], SamplingParams(), "prompt must be"),
        (b"abc", SamplingParams(), "prompts"),
        ("a", [SamplingParams()] * 2, "one for each"),
        ("a", {"temperature": 1}, "sampling_params"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_requests_are_refused_before_anything_runs(cpu_llm: LLM, given: object, params: object, match: str) -> None:
    given = [given] if given == [] else given
    with pytest.raises(InvalidArgumentError, match=match):
        cpu_llm.generate(given, params)  # type: ignore[arg-type]
    assert not cpu_llm.engine.has_unfinished


def test_one_bad_prompt_stops_all(cpu_llm: LLM) -> None:
    steps = cpu_llm.engine.metrics.num_steps
    with pytest.raises(InvalidArgumentError):
        cpu_llm.generate([[5, 6], [128]], greedy())
    assert (cpu_llm.engine.metrics.num_steps, cpu_llm.engine.has_unfinished) == (steps, False)


def test_reports_beyond_memory_are_refused(tiny_model: Path) -> None:
    big = LLM(tiny_model, device="cpu", max_model_len=256)
    with pytest.raises(InvalidArgumentError, match="logprobs=-1 with n=16384 and 255 tokens takes 5"):
        big.generate([5], SamplingParams(n=16384, max_tokens=None, logprobs=-1))


def test_tokens_beyond_memory_are_refused(cpu_llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfxlm.engine.admission.MAX_REPORT_BYTES", 1 << 20)
    with pytest.raises(InvalidArgumentError, match="n=16384 with n=16384 and 100 tokens takes 6 MiB"):
        cpu_llm.generate([5], SamplingParams(n=16384, max_tokens=100))


def test_conditions_that_leave_no_token_are_refused(cpu_llm: LLM) -> None:
    letter = cpu_llm.get_tokenizer().encode("a", add_special_tokens=False)
    with pytest.raises(InvalidArgumentError, match="allowed_token_ids and bad_words leave no token"):
        cpu_llm.generate([5], SamplingParams(allowed_token_ids=letter, bad_words=["a"]))


def test_what_is_not_built_says_so(cpu_llm: LLM) -> None:
    from perfxlm.sampling_params import StructuredOutputsParams

    with pytest.raises(UnsupportedFeatureError, match="structured_outputs"):
        cpu_llm.generate([5], SamplingParams(structured_outputs=StructuredOutputsParams(regex="a+")))
    with pytest.raises(UnsupportedFeatureError, match="lora_request"):
        cpu_llm.generate([5], lora_request=object())
    with pytest.raises(UnsupportedFeatureError, match="priority"):
        cpu_llm.generate([5], priority=[1])
    for method in (cpu_llm.encode, cpu_llm.embed, cpu_llm.classify, cpu_llm.score):
        with pytest.raises(UnsupportedFeatureError, match="pooling"):
            method("a")
    for method in (cpu_llm.sleep, cpu_llm.wake_up):
        with pytest.raises(UnsupportedFeatureError, match="not built yet"):
            method()
    with pytest.raises(UnsupportedFeatureError, match="beam"):
        cpu_llm.beam_search([[5]], None)
