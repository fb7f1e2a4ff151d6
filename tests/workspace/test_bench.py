"""The arithmetic of `bench`: divergence and child processes."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from bench.process import ContenderError, run
from bench.quality import compare


def reference_of(logits: np.ndarray, kept: int) -> dict[str, np.ndarray]:
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ids = np.argsort(-logprobs, -1)[:, :kept]
    return {"ids_0": np.zeros(len(logits)), "top_ids_0": ids, "top_logprobs_0": np.take_along_axis(logprobs, ids, -1)}


def scores_of(logits: np.ndarray, reference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = np.take_along_axis(logprobs, reference["top_ids_0"], -1)
    return {"logprobs_0": kept, "top_0": logits.argmax(-1)}


def test_quality_of_the_reference_itself_is_perfect() -> None:
    logits = np.random.default_rng(0).standard_normal((5, 40)) * 3
    reference = reference_of(logits, 8)
    quality = compare(reference, scores_of(logits, reference))
    assert quality.mean_kl == pytest.approx(0, abs=1e-12)
    assert quality.top1_agreement == 1


def test_divergence_is_that_of_the_bucketed_distributions() -> None:
    true, other = np.log([[0.5, 0.3, 0.1, 0.1]]), np.log([[0.2, 0.4, 0.3, 0.1]])
    reference = reference_of(true, 2)
    quality = compare(reference, scores_of(other, reference))
    expected = 0.5 * math.log(0.5 / 0.2) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.4)
    assert quality.mean_kl == pytest.approx(expected, rel=1e-12)
    assert quality.top1_agreement == 0


def test_divergence_agrees_with_that_of_perfxlm_eval() -> None:
    from perfxlm.evaluation import divergence, log_sum_exp, logprobs_of

    rng = np.random.default_rng(1)
    true, other = rng.standard_normal((2, 7, 300)) * 4
    reference = reference_of(true, 32)
    quality = compare(reference, scores_of(other, reference))
    theirs = [
        divergence(logprobs.astype(np.float32), logprobs_of(ids, logits, log_sum_exp(logits)))
        for ids, logprobs, logits in zip(reference["top_ids_0"], reference["top_logprobs_0"], other, strict=True)
    ]
    assert quality.mean_kl == pytest.approx(np.mean(theirs), rel=1e-5)


def test_a_child_reports_its_output_time_and_memory() -> None:
    finished = run(
        [sys.executable, "-c", "x = bytearray(80_000_000); print('words'); print('{\"a\": [1,'); print(' 2]}')"]
    )
    assert finished.json() == {"a": [1, 2]}
    assert finished.seconds > 0
    assert finished.peak_memory_bytes > 80_000_000


def test_a_child_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(ContenderError, match="ended with 3: no luck"):
        run([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ContenderError, match="No such file"):
        run(["./no-such-program"])
