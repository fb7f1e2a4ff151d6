"""How good a model's numbers are: divergence from stored reference distributions, and perplexity on a text."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from perfxapi.errors import FileFormatError, InvalidArgumentError
from perfxlm.llm import LLM
from perfxlm.validation import check_int

SMALLEST_REST = 1e-12
"""Least probability given to the tokens that are not stored, so that its logarithm exists."""

Row = npt.NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a model is from a reference.

    Divergence is Kullback-Leibler's, reference to model, in nats; agreement is how often the likeliest tokens are the
    same.
    """

    mean_kl: float
    p99_kl: float
    top1_agreement: float
    num_positions: int


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp(mean negative log-likelihood) of a text's tokens, each predicted from the tokens before it in its window."""

    perplexity: float
    mean_nll: float
    num_tokens: int
    context: int


@dataclass(frozen=True, slots=True)
class ReferencePrompt:
    """Token ids [n], and at each position the k likeliest next tokens [n, k] and their log-probabilities [n, k]."""

    token_ids: npt.NDArray[np.int32]
    top_ids: npt.NDArray[np.int32]
    top_logprobs: npt.NDArray[np.float32]


def read_reference(path: str | Path) -> list[ReferencePrompt]:
    """Reads an .npz file of arrays `ids_0`, `top_ids_0`, `top_logprobs_0`, `ids_1`, ...

    Raises FileFormatError naming the array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            count = sum(name.startswith("ids_") for name in arrays.files)
            prompts = [_read_prompt(path, arrays, index) for index in range(count)]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise FileFormatError(path, "archive", f"not a readable .npz file: {error}") from None
    if not prompts:
        raise FileFormatError(path, "archive", "no array ids_0: this is no reference file")
    return prompts


def write_reference(path: str | Path, prompts: Sequence[ReferencePrompt]) -> None:
    """Writes a file that `read_reference` reads."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for index, prompt in enumerate(prompts):
        arrays[f"ids_{index}"] = prompt.token_ids
        arrays[f"top_ids_{index}"], arrays[f"top_logprobs_{index}"] = prompt.top_ids, prompt.top_logprobs
    np.savez_compressed(path, allow_pickle=False, **arrays)


def make_reference(llm: LLM, prompts: Sequence[Sequence[int]], k: int = 256) -> list[ReferencePrompt]:
    """What this model predicts at every position of the prompts: a reference for others to be compared with."""

    def likeliest(_: int, logits: Row) -> tuple[npt.NDArray[np.int32], Row]:
        ids = np.argsort(-logits, kind="stable")[:k].astype(np.int32)
        return ids, log_softmax(logits)[ids].astype(np.float32)

    made = []
    for token_ids in prompts:
        ids, logprobs = zip(*at_each_position(llm, token_ids, likeliest), strict=True)
        made.append(ReferencePrompt(np.array(token_ids, np.int32), np.stack(ids), np.stack(logprobs)))
    return made


def compare(llm: LLM, reference: Sequence[ReferencePrompt]) -> Agreement:
    """The model against a reference, teacher-forced, at all positions of all prompts.

    The divergence is taken over the stored tokens plus one bucket for all others.
    """
    (agreement,) = compare_each(llm, [reference])
    return agreement


def compare_each(llm: LLM, references: Sequence[Sequence[ReferencePrompt]]) -> list[Agreement]:
    """`compare` with each reference. The model reads a prompt once, in however many of them it stands."""
    sharing: dict[tuple[int, ...], list[tuple[int, ReferencePrompt]]] = {}
    for number, reference in enumerate(references):
        for prompt in reference:
            sharing.setdefault(tuple(prompt.token_ids.tolist()), []).append((number, prompt))
    found: list[list[tuple[float, bool]]] = [[] for _ in references]
    for token_ids, prompts in sharing.items():

        def against(
            position: int, logits: Row, prompts: list[tuple[int, ReferencePrompt]] = prompts
        ) -> list[tuple[float, bool]]:
            logprobs, likeliest = log_softmax(logits), int(np.argmax(logits))
            rows = [(each.top_ids[position], each.top_logprobs[position]) for _, each in prompts]
            return [(divergence(expected, logprobs[ids]), likeliest == int(ids[0])) for ids, expected in rows]

        for results in at_each_position(llm, token_ids, against):
            for (number, _), result in zip(prompts, results, strict=True):
                found[number].append(result)
    return [_agreement(*zip(*results, strict=True)) for results in found]


def _agreement(divergences: Sequence[float], agreed: Sequence[bool]) -> Agreement:
    values = np.array(divergences)
    return Agreement(float(values.mean()), float(np.quantile(values, 0.99)), sum(agreed) / len(agreed), len(agreed))


def divergence(top_logprobs: npt.NDArray[np.float32], found: npt.NDArray[np.float64]) -> float:
    """Divergence of what was found from a reference, over its k likeliest tokens and one bucket for the rest.

    Both are log-probabilities [k] of these tokens.
    """
    expected = top_logprobs.astype(np.float64)
    expected_rest = max(1 - np.exp(expected).sum(), SMALLEST_REST)
    found_rest = max(1 - np.exp(found).sum(), SMALLEST_REST)
    return float((np.exp(expected) * (expected - found)).sum() + expected_rest * math.log(expected_rest / found_rest))


def perplexity(llm: LLM, token_ids: Sequence[int], context: int = 512) -> Perplexity:
    """Perplexity in windows of `context` tokens that do not overlap; each begins with BOS, if the model has one."""
    losses: list[float] = []
    for window in split_windows(llm, token_ids, context):

        def loss(position: int, logits: Row, window: list[int] = window) -> float:
            return -float(log_softmax(logits)[window[position + 1]]) if position + 1 < len(window) else 0.0

        losses += at_each_position(llm, window, loss)[:-1]
    if not losses:
        raise InvalidArgumentError("perplexity needs a text of two tokens at least")
    mean = math.fsum(losses) / len(losses)
    return Perplexity(math.exp(mean), mean, len(losses), context)


def split_windows(llm: LLM, token_ids: Sequence[int], context: int) -> list[list[int]]:
    """The tokens in windows of at most `context`, each after BOS.

    Raises InvalidArgumentError for a context that cannot be.
    """
    check_int("context", context, 2, llm.plan.limits.max_model_len - 1)
    bos = llm.get_tokenizer().bos_token_id
    start = [] if bos is None else [bos]
    step = context - len(start)
    return [[*start, *token_ids[at : at + step]] for at in range(0, len(token_ids), step)]


def at_each_position(llm: LLM, token_ids: Sequence[int], measure: Callable[[int, Row], Result]) -> list[Result]:
    """`measure(position, logits [vocab_size])` of every position of a prompt, in order."""
    results: list[Result] = []

    def visit(first: int, logits: npt.NDArray[np.float32]) -> None:
        results.extend(measure(first + offset, row) for offset, row in enumerate(logits))

    llm.visit_logits(token_ids, visit)
    return results


def log_softmax(logits: Row) -> npt.NDArray[np.float64]:
    """Log-probabilities of a row of logits, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    result: npt.NDArray[np.float64] = wide - math.log(np.exp(wide).sum())
    return result


def _read_prompt(path: str | Path, arrays: Any, index: int) -> ReferencePrompt:
    names = [f"{part}_{index}" for part in ("ids", "top_ids", "top_logprobs")]
    for name in names:
        if name not in arrays.files:
            raise FileFormatError(path, name, "the array is missing")
    ids, top_ids, top_logprobs = (arrays[name] for name in names)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
        raise FileFormatError(path, names[0], f"integers [n] are expected; got {ids.dtype} of shape {ids.shape}")
    for name, array, kinds in ((names[1], top_ids, "iu"), (names[2], top_logprobs, "f")):
        if array.ndim != 2 or array.dtype.kind not in kinds or array.shape != top_ids.shape or len(array) != len(ids):
            raise FileFormatError(path, name, f"[{len(ids)}, k] is expected; got {array.dtype} of shape {array.shape}")
    return ReferencePrompt(ids.astype(np.int32), top_ids.astype(np.int32), top_logprobs.astype(np.float32))
