"""What a benchmark runs and what it counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfxapi.errors import InvalidArgumentError
from perfxlm import LLM
from perfxlm.benchmark import BenchmarkLoad, greedy_params, run_benchmark
from perfxlm.step_profile import KernelProfile, Span, Step, node_cost, prefill_steps


def operations_of_products(kernels: list[KernelProfile]) -> int:
    return sum(kernel.operations for kernel in kernels if kernel.op.endswith("linear"))


def test_requests_with_all_logits_give_the_same_tokens_by_another_head(cpu_llm: LLM) -> None:
    tokens = []
    for with_full_logits in (False, True):
        (output,) = cpu_llm.generate([[5, 6, 7]], greedy_params(6, with_full_logits=with_full_logits), use_tqdm=False)
        tokens.append(output.outputs[0].token_ids)
    assert tokens[0] == tokens[1]
    heads = {size.head.is_greedy for size in cpu_llm.engine.runner.executables()}
    assert heads == {True, False}


def test_a_prompt_is_computed_in_chunks() -> None:
    steps = prefill_steps(20, 8)
    assert steps == [Step([Span(0, 8)], 0), Step([Span(8, 16)], 0), Step([Span(16, 20)], 1)]
    assert [step.num_tokens for step in steps] == [8, 8, 4]
    assert prefill_steps(8, 8) == [Step([Span(0, 8)], 1)]


def test_attention_counts_the_pairs_that_the_mask_leaves(cpu_llm: LLM) -> None:
    from perfxlm.engine.sampler import GREEDY

    nodes = cpu_llm.engine.runner.graph(GREEDY).nodes
    config = cpu_llm.model_config
    spans = [Span(30, 41), Span(5, 6)]
    windows = set()
    for node in (node for node in nodes if node.spec.name == "paged_attention"):
        window = node.attributes["window"]
        windows.add(window)
        pairs = keys = 0
        for start, stop in spans:
            queries, places = np.arange(start, stop)[:, None], np.arange(stop)[None]
            visible = (places <= queries) & ((places > queries - window) if window else True)
            pairs += int(visible.sum())
            keys += int(visible.any(0).sum())
        cost = node_cost(node, Step(spans, 2))
        assert cost.operations == 4 * pairs * config.num_heads * config.head_dim
        activations = 2 * 4 * 12 * config.num_heads * config.head_dim
        assert cost.stored_bytes == keys * config.num_kv_heads * config.head_dim * 2 * 4
        assert cost.nbytes == activations + cost.stored_bytes
    assert windows == {0, 24}


def test_the_profile_counts_every_product_of_the_load(cpu_llm: LLM) -> None:
    load = BenchmarkLoad(prompt_tokens=40, gen_tokens=4, repeats=1, context=10, batch=3)
    result = run_benchmark(cpu_llm, load, with_profile=True)
    config = cpu_llm.model_config
    heads = config.num_heads + 2 * config.num_kv_heads
    layer = config.hidden_size * (heads + config.num_heads) * config.head_dim
    layer += 3 * config.hidden_size * config.intermediate_size
    body = config.num_layers * layer
    assert operations_of_products(result.kernels["prefill"]) == 2 * 40 * body
    assert operations_of_products(result.kernels["decode"]) == 2 * 3 * body
    head = config.vocab_size * config.hidden_size
    assert operations_of_products(result.kernels["decode_full_logits"]) == 2 * 3 * (body + head)
    (topk,) = (kernel for kernel in result.kernels["decode"] if kernel.op == "vocab_topk")
    assert (topk.count, topk.operations) == (1, 2 * 3 * head)
    products = [kernel for kernel in result.kernels["decode_full_logits"] if kernel.op.endswith("linear")]
    assert sum(kernel.stored_bytes for kernel in products) == 4 * (body + head)
    assert all(kernel.nbytes >= kernel.stored_bytes for kernel in products)
    assert all(kernel.seconds > 0 for kernels in result.kernels.values() for kernel in kernels)
    assert (result.batch, result.context, result.prompt_tokens) == (3, 10, 40)


def test_decoding_with_all_logits_can_be_left_out(tiny_model: Path) -> None:
    llm = LLM(tiny_model, device="cpu", max_model_len=64)
    load = BenchmarkLoad(prompt_tokens=8, gen_tokens=2, repeats=1, with_full_logits=False)
    result = run_benchmark(llm, load, with_profile=True)
    assert result.decode_full_logits_tokens_per_second is None
    assert list(result.kernels) == ["prefill", "decode"]
    assert all(size.head.is_greedy for size in llm.engine.runner.executables())


def test_prompts_are_cut_from_the_text_and_repeat_it(cpu_llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two three"
    tokens = cpu_llm.get_tokenizer().encode(text, add_special_tokens=False)
    seen: list[list[int]] = []
    generate = cpu_llm.generate

    def remember(prompts: Any, *arguments: Any, **options: Any) -> Any:
        seen.extend(prompt["prompt_token_ids"] for prompt in prompts)
        return generate(prompts, *arguments, **options)

    monkeypatch.setattr(cpu_llm, "generate", remember)
    run_benchmark(cpu_llm, BenchmarkLoad(3 * len(tokens), gen_tokens=2, repeats=2, batch=2, text=text))
    assert len(seen) == 3 * (2 + 2 + 1), "a warm-up and two runs: greedy, all logits, and the prompt alone"
    assert len({tuple(prompt) for prompt in seen}) > 1
    for prompt in seen:
        assert any((tokens[place:] + 3 * tokens)[: len(prompt)] == prompt for place in range(len(tokens)))


def test_the_context_is_that_of_the_prompt_unless_given() -> None:
    assert BenchmarkLoad(prompt_tokens=7).filled == 7
    assert BenchmarkLoad(prompt_tokens=7, context=3).filled == 3


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"context": 0}, "context must be"),
        ({"batch": 0}, "batch must be"),
        ({"prompt_tokens": 8, "text": ""}, "text has no tokens"),
        ({"prompt_tokens": 8, "context": 120}, "context \\+ gen_tokens \\+ 1 is 129"),
        ({"prompt_tokens": 8, "batch": 33}, "batch is 33, more than max_num_seqs 32"),
    ],
)
def test_a_load_that_does_not_fit_is_refused(cpu_llm: LLM, load: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        run_benchmark(cpu_llm, BenchmarkLoad(gen_tokens=8, **load))


def test_a_batch_that_the_cache_cannot_hold_is_refused(tiny_model: Path) -> None:
    llm = LLM(tiny_model, device="cpu", max_model_len=64, kv_cache_memory_bytes=7 * 2 * 2 * 16 * 4 * 128)
    with pytest.raises(InvalidArgumentError, match="4 sequences of 49 tokens are more than the 128"):
        run_benchmark(llm, BenchmarkLoad(prompt_tokens=40, gen_tokens=8, batch=4))


def test_a_device_without_plans_has_no_profile(tiny_model: Path) -> None:
    llm = LLM(tiny_model, device="numpy", max_model_len=64)
    with pytest.raises(InvalidArgumentError, match="does not compile plans"):
        run_benchmark(llm, BenchmarkLoad(prompt_tokens=4, gen_tokens=2, repeats=1), with_profile=True)


def test_a_model_without_tokenizer_is_measured(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from perfxlm.cli import main

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "tokenizer.json").unlink()
    sizes = ("--prompt-tokens", "4", "--gen-tokens", "2", "--repeats", "1", "--device", "cpu")
    assert main(["bench", str(folder), *sizes]) == 1
    assert main(["bench", str(folder), *sizes, "--skip-tokenizer-init"]) == 0
    assert "prefill" in capsys.readouterr().out
