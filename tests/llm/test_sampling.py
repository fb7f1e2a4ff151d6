"""Which token is sampled, and what ends an output, against float64 arithmetic on the reported distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from engine_helpers import VOCAB_SIZE, Floats, full_logprobs, greedy, prompt, tokens_of

from perfxlm import LLM, SamplingParams, TokensPrompt
from perfxlm.engine.runner import GREEDY


def adjusted(logprobs: Floats, token_ids: list[int], num_prompt: int, params: SamplingParams) -> Floats:
    """Penalties as vLLM defines them, one token at a time. Log-probabilities serve as logits: a shift is not seen."""
    logits = logprobs.copy()
    for token in range(VOCAB_SIZE):
        count = token_ids[num_prompt:].count(token)
        logits[token] -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
        logits[token] += (params.logit_bias or {}).get(token, 0.0)
        if params.allowed_token_ids is not None and token not in params.allowed_token_ids:
            logits[token] = -np.inf
    return logits


def drawn(logits: Floats, params: SamplingParams, uniform: float) -> int:
    """The token that a number in [0, 1) stands for: min_p, top_k, top_p in turn, then the running sum.

    It runs from the likeliest token on with top_k, by id without.
    """
    scaled = logits / params.temperature
    weights = np.exp(scaled - scaled.max())
    weights[weights < params.min_p] = 0
    if params.top_k:
        weights[weights < np.sort(weights)[-params.top_k]] = 0
    order = np.argsort(-weights, kind="stable")
    total = np.cumsum(weights[order])
    weights[order[int(np.argmax(total >= params.top_p * total[-1])) + 1 :]] = 0
    ids = order if params.top_k else np.arange(len(weights))
    running = np.cumsum(weights[ids])
    return int(ids[np.argmax(running > uniform * running[-1])])


SAMPLING: list[dict[str, Any]] = [
    {"temperature": 6.0},
    {"temperature": 4.0},
    {"temperature": 20.0, "top_k": 5},
    {"temperature": 15.0, "top_p": 0.6},
    {"temperature": 15.0, "min_p": 0.2},
    {"temperature": 12.0, "top_p": 0.9, "top_k": 30, "min_p": 0.01},
    {"temperature": 3.0, "frequency_penalty": 1.5, "presence_penalty": -0.5},
    {"temperature": 3.0, "logit_bias": {7: 12.0, 9: -100.0}},
    {"temperature": 30.0, "allowed_token_ids": [5, 6, 7, 90]},
]


@pytest.mark.parametrize("options", SAMPLING, ids=str)
def test_tokens_are_those_that_the_stream_of_the_seed_stands_for(llm: LLM, options: dict[str, Any]) -> None:
    num_prompt, seed = 6, 77
    params = SamplingParams(seed=seed, max_tokens=15, ignore_eos=True, logprobs=-1, **options)
    token_ids = prompt(num_prompt)[0]
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=token_ids), params)
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64)))
    assert len(set(output.outputs[0].token_ids)) > 2
    for token, row in zip(output.outputs[0].token_ids, full_logprobs(output.outputs[0].logprobs), strict=True):
        logits = adjusted(row, token_ids, num_prompt, params)
        assert token == drawn(logits, params, stream.random(dtype=np.float32))
        token_ids = [*token_ids, token]


@pytest.mark.parametrize(
    "options",
    [{"top_k": 5}, {"top_k": 1}, {"top_k": 40, "top_p": 0.8}, {"top_k": 15, "min_p": 0.1}, {"top_k": 63}],
    ids=str,
)
def test_top_k_gives_the_same_tokens_without_all_logits(llm: LLM, options: dict[str, Any]) -> None:
    """A bias of nothing makes the engine compute all logits."""
    prompts = [TokensPrompt(prompt_token_ids=prompt(length)[0]) for length in (4, 7, 9)]

    def run(bias: dict[int, float] | None) -> list[list[int]]:
        params = [
            SamplingParams(seed=seed, max_tokens=12, temperature=9.0, ignore_eos=True, logit_bias=bias, **options)
            for seed in range(2)
        ]
        params.append(SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True))
        return tokens_of(llm.generate(prompts, params))

    assert run(None) == run({3: 0.0})
    used = {size.head.num_candidates for size in llm.engine.runner.executables()}
    assert (16 if options["top_k"] < 16 else 64) in used


def test_repetition_penalty_divides_positive_logits_of_seen_tokens(llm: LLM) -> None:
    token_ids = prompt(8)[0]
    raw: list[npt.NDArray[np.float32]] = []
    llm.visit_logits(token_ids, lambda position, logits: raw.append(logits.copy()))
    logits = np.concatenate(raw)[-1]
    for token in set(token_ids):
        logits[token] = logits[token] / 5 if logits[token] > 0 else logits[token] * 5
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=token_ids), greedy(1, repetition_penalty=5.0))
    assert output.outputs[0].token_ids == [int(np.argmax(logits))]
    (plain,) = llm.generate(TokensPrompt(prompt_token_ids=token_ids), greedy(1))
    assert plain.outputs[0].token_ids != output.outputs[0].token_ids


def test_stop_token_ends_the_output_and_is_named(llm: LLM) -> None:
    token_ids = TokensPrompt(prompt_token_ids=prompt(9)[0])
    expected = tokens_of(llm.generate(token_ids, greedy()))[0]
    stop = expected[4]
    (output,) = llm.generate(token_ids, greedy(stop_token_ids=[stop]))
    completion = output.outputs[0]
    assert completion.token_ids == expected[: expected.index(stop) + 1]
    assert (completion.finish_reason, completion.stop_reason) == ("stop", stop)


def test_min_tokens_forbids_stop_tokens(llm: LLM) -> None:
    token_ids = TokensPrompt(prompt_token_ids=prompt(9)[0])
    stop = tokens_of(llm.generate(token_ids, greedy()))[0][0]
    (output,) = llm.generate(token_ids, greedy(stop_token_ids=[stop], min_tokens=5))
    assert stop not in output.outputs[0].token_ids[:5]
    assert len(output.outputs[0].token_ids) >= 5


def test_end_of_sequence(llm: LLM) -> None:
    token_ids = TokensPrompt(prompt_token_ids=prompt(9)[0])
    params = SamplingParams(temperature=0.0, max_tokens=5, logit_bias={2: 100.0})
    (output,) = llm.generate(token_ids, params)
    completion = output.outputs[0]
    assert (completion.token_ids, completion.text) == ([2], "")
    assert (completion.finish_reason, completion.stop_reason) == ("stop", None)
    params.logit_bias = {3: 100.0}
    (output,) = llm.generate(token_ids, params)
    assert (output.outputs[0].token_ids, output.outputs[0].stop_reason) == ([3], 3)
    params.ignore_eos = True
    (output,) = llm.generate(token_ids, params)
    assert (output.outputs[0].token_ids, output.outputs[0].finish_reason) == ([3] * 5, "length")


def test_output_ends_at_max_model_len(llm: LLM) -> None:
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=prompt(120)[0]), greedy(max_tokens=100))
    assert len(output.outputs[0].token_ids) == 8
    assert output.outputs[0].finish_reason == "length"


def test_bad_words_are_never_produced(llm: LLM) -> None:
    token_ids = TokensPrompt(prompt_token_ids=prompt(9)[0])
    tokenizer = llm.get_tokenizer()
    allowed = tokenizer.encode("ab c", add_special_tokens=False)
    options: dict[str, Any] = {"allowed_token_ids": allowed, "seed": 0, "max_tokens": 60, "temperature": 1000.0}
    (free,) = llm.generate(token_ids, SamplingParams(**options))
    assert "ab" in free.outputs[0].text
    (bound,) = llm.generate(token_ids, SamplingParams(**options, bad_words=["ab", "c"]))
    text = bound.outputs[0].text
    assert len(text) == 60
    assert "ab" not in text
    assert "c" not in text
    assert "a" in text


def test_conditions_give_way_where_they_would_leave_no_token(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    only = tokenizer.encode("a", add_special_tokens=False)
    params = SamplingParams(seed=0, max_tokens=6, allowed_token_ids=only, bad_words=["aa"])
    (output,) = llm.generate([5, 6], params)
    assert output.outputs[0].text == "aaaaaa"
    params = SamplingParams(seed=0, max_tokens=6, min_tokens=3, allowed_token_ids=[2])
    (output,) = llm.generate([5, 6], params)
    assert output.outputs[0].token_ids[-1] == 2


def test_greedy_decoding_after_reported_prompt_takes_the_short_way(llm: LLM) -> None:
    """Log-probabilities of the prompt do not make every later step compute all logits."""
    fresh = LLM(llm.model_path, device=str(llm.engine.runner.device), max_model_len=128)
    fresh.generate(prompt(9), greedy(prompt_logprobs=1))
    assert {size.head for size in fresh.engine.runner.executables() if size.num_tokens == 1} == {GREEDY}
