"""The engine: what is generated does not depend on how it is scheduled, nor on a lost device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import VOCAB_SIZE, assert_same, full_logprobs, greedy, prompt, tokens_of
from gguf_writer import write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfxapi.backend import REGISTRY
from perfxapi.errors import DeviceLostError
from perfxlm import LLM, RequestOutput, SamplingParams, TokensPrompt
from perfxlm.engine.runner import ModelRunner, StepResult
from perfxlm.engine.scheduler import Schedule
from perfxlm.errors import EngineStoppedError

GOLDEN = Path(__file__).parent.parent / "data" / "tiny" / "gemma3" / "golden.npz"


def test_prompt_logprobs_are_those_of_transformers(llm: LLM) -> None:
    with np.load(GOLDEN) as golden:
        token_ids, logits = golden["tokens"][0].tolist(), golden["logits"][0].astype(np.float64)
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=token_ids), greedy(1, prompt_logprobs=-1))
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    got = full_logprobs(output.prompt_logprobs[1:])
    np.testing.assert_allclose(got, expected[:-1], atol=1e-4 * np.abs(logits).max())
    assert output.outputs[0].token_ids == [int(np.argmax(logits[-1]))]


def test_greedy_takes_the_likeliest_token_each_time(llm: LLM, device: str) -> None:
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=prompt(9)[0]), greedy(logprobs=-1))
    (completion,) = output.outputs
    assert completion.logprobs is not None
    assert completion.token_ids == full_logprobs(completion.logprobs).argmax(-1).tolist()
    plain = llm.generate(TokensPrompt(prompt_token_ids=prompt(9)[0]), greedy())
    assert tokens_of(plain) == [completion.token_ids]
    # each step's distribution is that of the whole sequence as a prompt
    whole = prompt(9)[0] + completion.token_ids
    (scored,) = llm.generate(TokensPrompt(prompt_token_ids=whole), greedy(1, prompt_logprobs=-1))
    assert scored.prompt_logprobs is not None
    assert_same(device, scored.prompt_logprobs[9:], completion.logprobs)


def test_logprobs_of_few_are_a_part_of_all(llm: LLM) -> None:
    prompts = TokensPrompt(prompt_token_ids=prompt(5)[0])
    params = [SamplingParams(seed=3, max_tokens=6, ignore_eos=True, logprobs=k) for k in (0, 3, 40, -1)]
    completions = [output.outputs[0] for output in llm.generate([prompts] * 4, params)]
    everything = completions[3].logprobs
    assert everything is not None
    for completion, size in zip(completions, (0, 3, 40, VOCAB_SIZE), strict=True):
        assert completion.token_ids == completions[3].token_ids
        assert completion.logprobs is not None
        for token_id, some, full in zip(completion.token_ids, completion.logprobs, everything, strict=True):
            assert next(iter(some)) == token_id
            assert size <= len(some) <= size + 1
            assert {rank.rank for rank in some.values()} >= set(range(1, size + 1))
            assert all(full[key] == value for key, value in some.items())
            order = sorted(full.values(), key=lambda value: -value.logprob)
            assert full[token_id].rank == 1 + sum(value.logprob > full[token_id].logprob for value in order)
        total = sum(row[token].logprob for row, token in zip(completion.logprobs, completion.token_ids, strict=True))
        assert completion.cumulative_logprob == pytest.approx(total)


def test_preempted_requests_give_the_same_tokens(tiny_model: Path, device: str) -> None:
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in prompt(40, 33, 25)]
    params = SamplingParams(seed=5, max_tokens=30, ignore_eos=True, repetition_penalty=1.2, logprobs=-1)
    roomy = LLM(tiny_model, device=device, max_model_len=80)
    # 7 layers, keys and values of 2 heads of 16 channels in float32: blocks for 112 tokens
    tight = LLM(tiny_model, device=device, max_model_len=80, kv_cache_memory_bytes=7 * 2 * 2 * 16 * 4 * 112)
    expected, got = roomy.generate(prompts, params), tight.generate(prompts, params)
    assert roomy.engine.scheduler.num_preemptions == 0
    assert tight.engine.scheduler.num_preemptions > 0
    assert sum(output.metrics.num_preemptions for output in got if output.metrics) > 0
    assert tokens_of(got) == tokens_of(expected)
    for one, other in zip(got, expected, strict=True):
        assert_same(device, one.outputs[0].logprobs, other.outputs[0].logprobs)
    assert tight.engine.scheduler.pool.usage == 0


def test_n_samples_are_those_of_separate_runs(llm: LLM) -> None:
    """Shared blocks change nothing, and neither do neighbors."""
    one_prompt = TokensPrompt(prompt_token_ids=prompt(37)[0])
    params = SamplingParams(n=4, seed=11, max_tokens=9, ignore_eos=True, temperature=8.0)
    (together,) = llm.generate(one_prompt, params)
    assert [completion.index for completion in together.outputs] == [0, 1, 2, 3]
    assert len({tuple(completion.token_ids) for completion in together.outputs}) > 1
    others = [TokensPrompt(prompt_token_ids=ids) for ids in prompt(3, 60, seed=9)]
    crowded = llm.generate([others[0], one_prompt, others[1]], [greedy(), params, greedy()])
    assert tokens_of([crowded[1]]) == tokens_of([together])
    assert llm.engine.scheduler.pool.usage == 0


def test_seed_repeats_and_no_seed_does_not(llm: LLM) -> None:
    one_prompt = TokensPrompt(prompt_token_ids=prompt(4)[0])
    params = SamplingParams(temperature=8.0, max_tokens=20, ignore_eos=True)
    free = [tokens_of(llm.generate(one_prompt, params)) for _ in range(2)]
    params.seed = 1
    seeded = [tokens_of(llm.generate(one_prompt, params)) for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert free[0] != free[1]


@pytest.fixture(scope="module", params=["float32", "int16", "int8"])
def served(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Arguments of an LLM with float weights, or with Q8_0 weights and activations of this format."""
    options: dict[str, Any] = {"device": "cpu", "max_model_len": 128, "skip_tokenizer_init": True}
    if request.param == "float32":
        return {"model": tiny_model, **options}
    path = tmp_path_factory.mktemp("quantized") / "tiny.gguf"
    write_gguf(tiny_model, path, quantize=True)
    return {"model": path, "activation_format": request.param, **options}


@pytest.fixture(scope="module")
def alone(served: dict[str, Any]) -> RequestOutput:
    return LLM(**served).generate(MINE, REPORTING)[0]


MINE = TokensPrompt(prompt_token_ids=prompt(50)[0])
REPORTING = SamplingParams(
    seed=2, max_tokens=6, temperature=8.0, ignore_eos=True, logprobs=-1, prompt_logprobs=-1, detokenize=False
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=7),
    chunk=st.integers(1, 40),
    place=st.integers(0, 7),
)
def test_a_request_does_not_feel_its_neighbors(
    served: dict[str, Any], alone: RequestOutput, lengths: list[int], chunk: int, place: int
) -> None:
    """Bit for bit: log-probabilities alone, among others, and with the prompt in chunks of any size."""
    crowd = [TokensPrompt(prompt_token_ids=ids) for ids in prompt(*lengths, seed=7)]
    crowd.insert(min(place, len(crowd)), MINE)
    crowded = LLM(**served, max_num_batched_tokens=chunk, max_num_seqs=8)
    outputs = crowded.generate(crowd, [REPORTING if each is MINE else greedy(detokenize=False) for each in crowd])
    among = next(output for output, each in zip(outputs, crowd, strict=True) if each is MINE)
    assert among.outputs[0].token_ids == alone.outputs[0].token_ids
    assert alone.prompt_logprobs is not None
    assert among.prompt_logprobs is not None
    assert_same("cpu", among.prompt_logprobs[1:], alone.prompt_logprobs[1:])
    assert_same("cpu", among.outputs[0].logprobs, alone.outputs[0].logprobs)


class LosingRunner(ModelRunner):
    """A runner whose device is lost at some steps of the process; for good, where it `leaves`."""

    lost_at: frozenset[int] = frozenset()
    leaves = False
    num_steps = 0

    def run(self, schedule: Schedule) -> StepResult:
        LosingRunner.num_steps += 1
        if LosingRunner.num_steps in self.lost_at:
            self._inputs.begin(schedule)
            if self._inputs.sampled:
                self._sampling.fill(self._inputs.sampled)
            if self.leaves:
                REGISTRY.mark_lost(self.device, "the test took it away")
            raise DeviceLostError("the test took the device away")
        return super().run(schedule)


def test_lost_device_changes_nothing(llm: LLM, tiny_model: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in prompt(30, 7)]
    params = SamplingParams(
        seed=4, max_tokens=10, ignore_eos=True, temperature=8.0, frequency_penalty=0.5, prompt_logprobs=-1
    )
    expected = llm.generate(prompts, params)
    monkeypatch.setattr("perfxlm.llm.ModelRunner", LosingRunner)
    monkeypatch.setattr(LosingRunner, "lost_at", frozenset({1, 4, 5, 9}))
    monkeypatch.setattr(LosingRunner, "num_steps", 0)
    losing = LLM(tiny_model, device=device, max_model_len=128, max_num_batched_tokens=16)
    got = losing.generate(prompts, params)
    assert tokens_of(got) == tokens_of(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.prompt_logprobs is not None
        assert other.prompt_logprobs is not None
        assert_same(device, one.prompt_logprobs[1:], other.prompt_logprobs[1:])
    assert losing.engine.metrics.num_device_losses == 4


def test_work_moves_to_another_device(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in prompt(30, 7)]
    params = SamplingParams(seed=4, max_tokens=10, ignore_eos=True, temperature=8.0)
    expected = LLM(tiny_model, device="cpu", max_model_len=128).generate(prompts, params)
    monkeypatch.setattr("perfxlm.llm.ModelRunner", LosingRunner)
    monkeypatch.setattr(LosingRunner, "lost_at", frozenset({4}))
    monkeypatch.setattr(LosingRunner, "leaves", True)
    monkeypatch.setattr(LosingRunner, "num_steps", 0)
    losing = LLM(tiny_model, device="cpu", fallback="allow", max_model_len=128)
    assert tokens_of(losing.generate(prompts, params)) == tokens_of(expected)
    assert str(losing.engine.runner.device) != "cpu:0"


def test_engine_gives_up_on_a_device_that_is_lost_each_time(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfxlm.llm.ModelRunner", LosingRunner)
    monkeypatch.setattr(LosingRunner, "lost_at", frozenset(range(100)))
    losing = LLM(tiny_model, device="cpu", max_model_len=64)
    with pytest.raises(EngineStoppedError, match="lost 4 times in a row"):
        losing.generate(TokensPrompt(prompt_token_ids=[5]), greedy())
    assert not losing.engine.has_unfinished
