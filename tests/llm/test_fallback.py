"""What happens to a request when kernels are disabled by a setting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fallback_helpers import (
    KERNEL_ERROR,
    PROMPTS,
    Baseline,
    Fault,
    fallback_of,
    make_llm,
    tokens_of,
)

import perfxapi as px
from perfxapi.errors import (
    FallbackError,
    FallbackWarning,
)
from perfxlm import LLM, SamplingParams
from perfxlm.inputs import TokensPrompt

PLAIN_OPS = [
    "embedding", "kv_write", "linear", "paged_attention", "rms_norm", "rope_table", "take_rows", "vocab_topk",
]  # fmt: skip
FUSED_OPS = ["gated_linear", "multi_linear", "norm_add_rms_norm", "norm_rope"]
"""Each has plain ops of the same device to fall back to: without it nothing leaves the device."""


def test_baseline_says_something(baseline: Baseline) -> None:
    """Tokens that hardly vary could agree by chance."""
    assert len({token for tokens in baseline.tokens for token in tokens}) > 12


@pytest.mark.parametrize(("max_num_seqs", "num_requests"), [(1, 1), (3, 3), (8, 7), (32, 20), (70, 66)])
@pytest.mark.parametrize("reported", [{}, {"logprobs": 3}, {"prompt_logprobs": 2}], ids=["none", "output", "prompt"])
def test_no_mixture_of_requests_needs_a_fallback(
    reported: dict[str, int], max_num_seqs: int, num_requests: int, model_path: Path
) -> None:
    llm = make_llm(model_path, fallback="error", max_num_seqs=max_num_seqs)
    prompts = [TokensPrompt(prompt_token_ids=[5, 6, 7 + number]) for number in range(num_requests)]
    params = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=3, ignore_eos=True, detokenize=False, **reported)  # type: ignore[arg-type]
    llm.generate(prompts, params, use_tqdm=False)
    assert {row.ran_on for row in px.explain().rows} == {"cpu:0"}


@pytest.mark.parametrize("op", PLAIN_OPS)
def test_a_disabled_kernel_runs_on_numpy(
    op: str, baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    reason = f"cpu:{op} is disabled by PERFXAPI_DISABLE_KERNELS"
    with pytest.warns(FallbackWarning, match=f"device 'cpu:0': {op}: {reason}. The work runs on numpy:0"):
        baseline.assert_met_by(make_llm(model_path))
    row = fallback_of(op)
    assert (row.device, row.ran_on, row.reason) == ("cpu:0", "numpy:0", reason)
    assert row.count >= len(baseline.tokens[0])
    assert row.bytes_moved == 0  # both compute in the memory of the host
    assert reason in str(px.explain())


@pytest.mark.parametrize("op", PLAIN_OPS)
def test_with_error_a_disabled_kernel_raises(
    op: str, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    with pytest.raises(FallbackError, match=f"device 'cpu:0': {op}: .*PERFXAPI_DISABLE_KERNELS"):
        tokens_of(make_llm(model_path, fallback="error"))


@pytest.mark.parametrize("op", FUSED_OPS)
def test_without_a_fused_kernel_its_parts_run_on_the_same_device(
    op: str, baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    baseline.assert_met_by(make_llm(model_path, fallback="error"))
    assert op not in {row.op for row in px.explain().rows}


def test_every_op_of_a_decode_step_is_tried_above(baseline: Baseline, model_path: Path) -> None:
    tokens_of(make_llm(model_path))
    assert {row.op for row in px.explain().rows} == {*PLAIN_OPS, *FUSED_OPS}


def sampled(llm: LLM) -> list[tuple[list[int], list[list[int]]]]:
    """Tokens drawn with every kind of adjustment, and the ids that were reported beside each."""
    params = SamplingParams(
        seed=7, temperature=0.9, top_p=0.95, top_k=50, min_p=0.01, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=0.1, logit_bias={8: 1.5}, logprobs=3, max_tokens=8, ignore_eos=True, detokenize=False,
    )  # fmt: skip
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in PROMPTS]
    completions = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [(one.token_ids, [list(position) for position in one.logprobs or ()]) for one in completions]


@pytest.mark.parametrize("op", ["adjust_logits", "logsumexp", "sample", "take_rows", "topk"])
def test_a_disabled_kernel_of_sampling_runs_on_numpy(
    op: str, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    expected = sampled(make_llm(model_path, fallback="error"))
    px.reset_explain()
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    assert sampled(make_llm(model_path, fallback="allow")) == expected
    assert {row.op for row in px.explain().fallbacks} == {op}
    assert fallback_of(op).ran_on == "numpy:0"
    with pytest.raises(FallbackError, match=f"device 'cpu:0': {op}: "):
        sampled(make_llm(model_path, fallback="error"))


def test_all_kernels_disabled(baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]) -> None:
    set_setting("DISABLE_KERNELS", "cpu:*")
    baseline.assert_met_by(make_llm(model_path, fallback="allow"))
    assert {row.ran_on for row in px.explain().rows} == {"numpy:0"}


@pytest.mark.model
def test_the_real_model_goes_on(
    gemma_path: Path, inject: Callable[..., Fault], set_setting: Callable[[str, str], None]
) -> None:
    """Attention on NumPy throughout, and a product that fails in mid-run: the text is that of Transformers."""
    data = Path(__file__).parent.parent / "data" / "gemma3-270m-reference.json"
    stored = json.loads(data.read_text(encoding="utf-8"))[0]
    set_setting("DISABLE_KERNELS", "cpu:paged_attention")
    inject("gated_linear", KERNEL_ERROR, at=[100])
    params = SamplingParams(temperature=0.0, max_tokens=40)
    with pytest.warns(FallbackWarning, match="paged_attention.*DISABLE_KERNELS|gated_linear.*kernel error"):
        llm = LLM(gemma_path, device="cpu", max_model_len=64)
        (output,) = llm.generate(stored["prompt"], params, use_tqdm=False)
    assert output.outputs[0].text == stored["continuation"]
    rows = {row.op: row for row in px.explain().fallbacks}
    assert rows.keys() == {"paged_attention", "gated_linear"}
    assert rows["paged_attention"].count == 18 * 40
    assert rows["gated_linear"].count == 1
