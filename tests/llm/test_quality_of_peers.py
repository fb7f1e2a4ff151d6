"""The quality of llama.cpp and ours on one text that neither was tuned on, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from perfxlm import LLM, evaluation
from perfxlm.evaluation import ReferencePrompt

NUM_TOKENS = 400
TEXT = Path(__file__).parent.parent / "data" / "varied_text.txt"

pytestmark = [pytest.mark.peer, pytest.mark.model, pytest.mark.timeout(1200)]

Floats = npt.NDArray[np.float32]


def llama_cpp_logits(path: Path, token_ids: Sequence[int]) -> Floats:
    """llama.cpp's logits at every position of a prompt."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(str(path), n_ctx=len(token_ids), n_batch=len(token_ids), logits_all=True, verbose=False)
    try:
        model.eval(list(token_ids))
        return np.array(model.scores[: len(token_ids)], np.float32)
    finally:
        model.close()


@pytest.fixture(scope="module")
def reference(gemma_path: Path) -> ReferencePrompt:
    """The text with float32 activations, on the reference backend."""
    exact = LLM(gemma_path, device="numpy", activation_format="float32", max_model_len=NUM_TOKENS + 1)
    token_ids = exact.get_tokenizer().encode(TEXT.read_text(encoding="utf-8"))[:NUM_TOKENS]
    (made,) = evaluation.make_reference(exact, [token_ids])
    return made


@pytest.fixture(scope="module")
def mean_kl_of_llama_cpp(gemma_path: Path, reference: ReferencePrompt) -> float:
    logits = llama_cpp_logits(gemma_path, reference.token_ids.tolist())
    rows = zip(reference.top_ids, reference.top_logprobs, logits, strict=True)
    kl = [
        evaluation.divergence(expected, evaluation.logprobs_of(ids, found, evaluation.log_sum_exp(found)))
        for ids, expected, found in rows
    ]
    return float(np.mean(kl))


@pytest.mark.parametrize("activation_format", ["auto", "int8"])
def test_no_worse_than_llama_cpp(
    activation_format: str, gemma_path: Path, reference: ReferencePrompt, mean_kl_of_llama_cpp: float
) -> None:
    """Measured: llama.cpp 3.9e-3; ours 1.8e-7 by default (16 bits), 1.7e-3 with activations of 8 bits."""
    llm = LLM(gemma_path, device="cpu", activation_format=activation_format, max_model_len=NUM_TOKENS + 1)
    assert 1e-4 < mean_kl_of_llama_cpp < 0.05
    assert evaluation.compare(llm, [reference]).mean_kl <= mean_kl_of_llama_cpp
