"""The numbers of the real Gemma 3 270M: against float32 arithmetic on its weights, and one backend against another.

`gemma3-270m-reference.npz` holds, for 8 prompts and their greedy continuations of 40 tokens, the 256 likeliest next
tokens at every position, computed by Transformers in float32 on the dequantized weights;
`gemma3-270m-reference.json` has the prompts and continuations as text.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from stepper import Stepper

import perfxapi as px
from perfxlm import LLM, SamplingParams, TokensPrompt, evaluation
from perfxlm.evaluation import Agreement, ReferencePrompt
from perfxlm.layers.base import ModelOptions
from perfxlm.weights.loader import open_model

DATA = Path(__file__).parent.parent / "data"

# llama.cpp's own figures on this file: what any backend must reach. Ours are required to be far better.
LLAMA_CPP_KL, LLAMA_CPP_TOP1 = 0.0060, 0.959

NUM_POSITIONS, CHUNK = 2000, 125

pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def reference() -> list[ReferencePrompt]:
    return evaluation.read_reference(DATA / "gemma3-270m-reference.npz")


@pytest.fixture(scope="module")
def llm(gemma_path: Path) -> LLM:
    return LLM(gemma_path, device="cpu", max_model_len=2048)


def compare(llm: LLM, reference: list[ReferencePrompt]) -> Agreement:
    agreement = evaluation.compare(llm, reference)
    assert agreement.num_positions == 489
    return agreement


def test_divergence_from_float32(llm: LLM, reference: list[ReferencePrompt]) -> None:
    agreement = compare(llm, reference)
    assert agreement.mean_kl < 1e-6 < LLAMA_CPP_KL
    assert agreement.p99_kl < 1e-5
    assert agreement.top1_agreement > 0.99 > LLAMA_CPP_TOP1


def test_divergence_with_int8_activations(gemma_path: Path, reference: list[ReferencePrompt]) -> None:
    agreement = compare(LLM(gemma_path, device="cpu", activation_format="int8", max_model_len=128), reference)
    assert 1e-5 < agreement.mean_kl <= LLAMA_CPP_KL
    assert agreement.top1_agreement >= LLAMA_CPP_TOP1


def test_reference_backend_in_float32(gemma_path: Path, reference: list[ReferencePrompt]) -> None:
    agreement = compare(LLM(gemma_path, device="numpy", activation_format="float32", max_model_len=128), reference)
    assert agreement.mean_kl < 1e-6
    assert agreement.top1_agreement > 0.99


def test_greedy_text_is_that_of_float32(llm: LLM) -> None:
    """From strings to strings, all prompts at once."""
    stored = json.loads((DATA / "gemma3-270m-reference.json").read_text(encoding="utf-8"))
    params = SamplingParams(temperature=0.0, max_tokens=40)
    outputs = llm.generate([one["prompt"] for one in stored], params, use_tqdm=False)
    for output, one in zip(outputs, stored, strict=True):
        assert len(output.prompt_token_ids) == one["prompt_tokens"]
        assert output.outputs[0].text == one["continuation"]


def divergence(expected: Floats, found: Floats) -> float:
    """KL(expected || found) of the softmax of two rows of logits, in nats."""
    difference = expected - found
    weights = np.exp(expected - expected.max())
    total = weights.sum(dtype=np.float64)
    mean = (weights * difference).sum(dtype=np.float64) / total
    return float(mean + np.log((weights * np.exp(-difference)).sum(dtype=np.float64) / total))


def test_divergence_of_known_distributions() -> None:
    p, q = (np.log([first, 0.25, 0.75 - first]).astype(np.float32) for first in (0.5, 0.25))
    assert divergence(p + 7, q - 3) == pytest.approx(0.25 * np.log(2), abs=1e-6)
    assert divergence(p, p) == 0


def test_backends_agree_in_the_same_format(gemma_path: Path, llm: LLM) -> None:
    """cpu against numpy, over all logits, in one context of 2,000 tokens: prose, code and tables in eight languages."""
    text = (DATA / "varied_text.txt").read_text(encoding="utf-8")
    token_ids = np.array(llm.get_tokenizer().encode(text)[:NUM_POSITIONS], np.int32)
    options = ModelOptions(kv_dtype=px.float16)
    numpy, cpu = (
        Stepper(open_model(gemma_path).build(options), device, num_requests=1, max_len=NUM_POSITIONS, max_tokens=CHUNK)
        for device in ("numpy", "cpu")
    )
    kl: list[float] = []
    num_agreed = 0
    for start in range(0, NUM_POSITIONS, CHUNK):
        chunk = token_ids[start : start + CHUNK]
        (expected,), (found,) = numpy([(0, chunk)]), cpu([(0, chunk)])
        kl += map(divergence, expected, found)
        num_agreed += int((expected.argmax(-1) == found.argmax(-1)).sum())
    assert not px.explain().fallbacks
    assert len(kl) == NUM_POSITIONS
    assert np.mean(kl) <= 1e-5
    assert max(kl) <= 1e-4
    assert num_agreed >= 0.995 * NUM_POSITIONS


def test_perplexity_is_that_of_the_log_probabilities(llm: LLM) -> None:
    text = "The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst of times."
    token_ids = llm.get_tokenizer().encode(text)
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    (output,) = llm.generate(TokensPrompt(prompt_token_ids=token_ids), params, use_tqdm=False)
    assert output.prompt_logprobs is not None
    losses = [-row[token].logprob for row, token in zip(output.prompt_logprobs[1:], token_ids[1:], strict=True) if row]
    result = evaluation.perplexity(llm, token_ids[1:], 64)
    assert result.mean_nll == pytest.approx(np.mean(losses), rel=1e-4)
    assert 5 < result.perplexity < 60
