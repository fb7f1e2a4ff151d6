"""Divergence and perplexity against plain float64 arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from perfxapi.errors import FileFormatError, InvalidArgumentError
from perfxlm import LLM, evaluation

GOLDEN = Path(__file__).parent.parent / "data" / "tiny" / "gemma3" / "golden.npz"
K = 16


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> LLM:
    return LLM(tiny_model, device="cpu", max_model_len=128)


@pytest.fixture(scope="module")
def logprobs() -> npt.NDArray[np.float64]:
    """Of Transformers: [2, 64, 128]."""
    with np.load(GOLDEN) as golden:
        logits = golden["logits"].astype(np.float64)
    normalized: npt.NDArray[np.float64] = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return normalized


@pytest.fixture(scope="module")
def reference(logprobs: npt.NDArray[np.float64]) -> list[evaluation.ReferencePrompt]:
    with np.load(GOLDEN) as golden:
        tokens = golden["tokens"].astype(np.int32)
    top_ids = np.argsort(-logprobs, axis=-1)[..., :K].astype(np.int32)
    top = np.take_along_axis(logprobs, top_ids, -1).astype(np.float32)
    return [evaluation.ReferencePrompt(*arrays) for arrays in zip(tokens, top_ids, top, strict=True)]


def test_same_model_has_no_divergence(llm: LLM, reference: list[evaluation.ReferencePrompt]) -> None:
    agreement = evaluation.compare(llm, reference)
    assert abs(agreement.mean_kl) < 1e-6
    assert agreement.p99_kl < 1e-6
    assert agreement.top1_agreement == 1.0
    assert agreement.num_positions == 128


def test_divergence_of_a_shifted_reference(
    llm: LLM, reference: list[evaluation.ReferencePrompt], logprobs: npt.NDArray[np.float64]
) -> None:
    """Against a reference whose rows belong to the position before: computed here from all probabilities."""
    shifted = [
        evaluation.ReferencePrompt(each.token_ids, np.roll(each.top_ids, 1, 0), np.roll(each.top_logprobs, 1, 0))
        for each in reference
    ]
    expected = []
    for prompt, table in zip(shifted, logprobs, strict=True):
        for ids, row, own in zip(prompt.top_ids, prompt.top_logprobs.astype(np.float64), table, strict=True):
            p, q = np.exp(row), np.exp(own[ids])
            p, q = np.append(p, max(1 - p.sum(), 1e-12)), np.append(q, max(1 - q.sum(), 1e-12))
            expected.append((p * np.log(p / q)).sum())
    agreement = evaluation.compare(llm, shifted)
    assert agreement.mean_kl == pytest.approx(np.mean(expected), rel=1e-3)
    assert agreement.p99_kl == pytest.approx(np.quantile(expected, 0.99), rel=1e-3)
    assert agreement.top1_agreement < 0.5


def test_prompts_of_several_references_are_read_once(
    llm: LLM, reference: list[evaluation.ReferencePrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = reference[:2]
    shifted = evaluation.ReferencePrompt(one.token_ids, np.roll(one.top_ids, 1, 0), np.roll(one.top_logprobs, 1, 0))
    references = [one, two], [shifted], [two]
    apart = [evaluation.compare(llm, each) for each in references]
    seen: list[list[int]] = []
    visit = llm.visit_logits
    monkeypatch.setattr(llm, "visit_logits", lambda ids, *rest: (seen.append(list(ids)), visit(ids, *rest)))
    assert evaluation.compare_each(llm, references) == apart
    assert seen == [one.token_ids.tolist(), two.token_ids.tolist()]
    assert apart[1].mean_kl > 0.1 > apart[2].mean_kl


def test_reference_of_a_model_is_read_back(llm: LLM, tmp_path: Path) -> None:
    prompts = [[5, 6, 7, 8], list(range(10, 40))]
    made = evaluation.make_reference(llm, prompts, k=8)
    evaluation.write_reference(tmp_path / "made.npz", made)
    read = evaluation.read_reference(tmp_path / "made.npz")
    assert [each.token_ids.tolist() for each in read] == prompts
    np.testing.assert_array_equal(read[1].top_logprobs, made[1].top_logprobs)
    agreement = evaluation.compare(llm, read)
    assert abs(agreement.mean_kl) < 1e-6
    assert agreement.num_positions == 34


@pytest.mark.parametrize("k", [1, 7, 50, 999])
def test_stored_tokens_are_the_first_of_a_stable_order(llm: LLM, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """With ties across the last place, and no number at all where a model broke."""
    logits = np.random.default_rng(3).integers(0, 9, (3, 50)).astype(np.float32)
    logits[1, 4:20], logits[2] = np.nan, np.nan
    monkeypatch.setattr(llm, "visit_logits", lambda _, visit: visit(0, logits))
    (made,) = evaluation.make_reference(llm, [[1, 2, 3]], k)
    np.testing.assert_array_equal(made.top_ids, np.argsort(-logits, axis=-1, kind="stable")[:, :k])
    wide = logits.astype(np.float64)
    expected = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    np.testing.assert_allclose(made.top_logprobs, np.take_along_axis(expected, made.top_ids, -1), rtol=1e-6)


def test_a_text_is_read_once_for_perplexity_and_reference(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = evaluation.split_windows(llm, np.random.default_rng(1).integers(4, 128, 50).tolist(), 20)
    expected = evaluation.make_reference(llm, windows, k=8)
    seen: list[Sequence[int]] = []
    visit, num_done = llm.visit_logits, []
    monkeypatch.setattr(llm, "visit_logits", lambda ids, *rest: (seen.append(ids), visit(ids, *rest)))
    result, made = evaluation.read_windows(llm, windows, 20, 8, lambda: num_done.append(1))
    assert seen == windows
    assert len(num_done) == sum(map(len, windows))
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one.top_ids, other.top_ids)
        np.testing.assert_array_equal(one.top_logprobs, other.top_logprobs)
    assert result == evaluation.perplexity(llm, [i for window in windows for i in window[1:]], 20)


def test_perplexity_is_that_of_windows_with_bos(llm: LLM) -> None:
    token_ids = np.random.default_rng(1).integers(4, 128, 50).tolist()
    losses = []
    for start in range(0, 50, 19):
        window = [1, *token_ids[start : start + 19]]
        rows: list[npt.NDArray[np.float32]] = []
        llm.visit_logits(window, lambda position, logits, rows=rows: rows.append(logits.copy()))  # type: ignore[misc]
        for row, token in zip(np.concatenate(rows).astype(np.float64), window[1:], strict=False):
            losses.append(math.log(np.exp(row).sum()) - row[token])
    result = evaluation.perplexity(llm, token_ids, context=20)
    assert (result.num_tokens, len(losses)) == (50, 50)
    assert result.perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)


def test_unusable_text_and_context(llm: LLM) -> None:
    with pytest.raises(InvalidArgumentError, match="text"):
        evaluation.perplexity(llm, [])
    for context in (1, 128):
        with pytest.raises(InvalidArgumentError, match="context"):
            evaluation.perplexity(llm, [5, 6, 7], context)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "no array ids_0"),
        ({"ids_0": np.zeros(3, np.int32)}, "top_ids_0: the array is missing"),
        ({"ids_0": np.zeros((3, 1)), "top_ids_0": np.zeros((3, 2), int), "top_logprobs_0": np.zeros((3, 2))}, "ids_0"),
        (
            {"ids_0": np.zeros(3, int), "top_ids_0": np.zeros((2, 2), int), "top_logprobs_0": np.zeros((2, 2))},
            "top_ids_0",
        ),
        (
            {"ids_0": np.zeros(3, int), "top_ids_0": np.zeros((3, 2), int), "top_logprobs_0": np.zeros((3, 1))},
            "top_log",
        ),
        ({"ids_0": np.array([None])}, "not a readable"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_malformed_reference_is_refused_by_array(tmp_path: Path, arrays: dict[str, object], match: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match=match):
        evaluation.read_reference(path)


def test_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(FileFormatError, match="not a readable"):
        evaluation.read_reference(path)
