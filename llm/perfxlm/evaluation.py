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

NUM_STORED = 256
"""Likeliest tokens of a position that a reference holds, where nothing else is said."""

Row = npt.NDArray[np.float32]
Result = TypeVar("Result")
Advance = Callable[[], object]
"""Called after each position that was measured."""
_Likeliest = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


def ignore() -> None:
    """An `Advance` that shows nothing."""


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


def make_reference(llm: LLM, prompts: Sequence[Sequence[int]], k: int = NUM_STORED) -> list[ReferencePrompt]:
    """What this model predicts at every position of the prompts: a reference for others to be compared with."""
    made = []
    for token_ids in prompts:
        rows = at_each_position(llm, token_ids, lambda _, logits: _likeliest(logits, log_sum_exp(logits), k))
        made.append(_reference_prompt(token_ids, rows))
    return made


def compare(llm: LLM, reference: Sequence[ReferencePrompt]) -> Agreement:
    """The model against a reference, teacher-forced, at all positions of all prompts.

    The divergence is taken over the stored tokens plus one bucket for all others.
    """
    (agreement,) = compare_each(llm, [reference])
    return agreement


def compare_each(
    llm: LLM, references: Sequence[Sequence[ReferencePrompt]], advance: Advance = ignore
) -> list[Agreement]:
    """`compare` with each reference. The model reads a prompt once, in however many of them it stands."""
    found: list[list[tuple[float, bool]]] = [[] for _ in references]
    for token_ids, prompts in _sharing(references).items():

        def against(
            position: int, logits: Row, prompts: list[tuple[int, ReferencePrompt]] = prompts
        ) -> list[tuple[float, bool]]:
            total, top = log_sum_exp(logits), int(np.argmax(logits))
            rows = [(each.top_ids[position], each.top_logprobs[position]) for _, each in prompts]
            return [
                (divergence(expected, logprobs_of(ids, logits, total)), top == int(ids[0])) for ids, expected in rows
            ]

        for results in at_each_position(llm, token_ids, against, advance):
            for (number, _), result in zip(prompts, results, strict=True):
                found[number].append(result)
    return [_agreement(*zip(*results, strict=True)) for results in found]


def num_positions(references: Sequence[Sequence[ReferencePrompt]]) -> int:
    """How many positions `compare_each` has a model read."""
    return sum(map(len, _sharing(references)))


def _sharing(
    references: Sequence[Sequence[ReferencePrompt]],
) -> dict[tuple[int, ...], list[tuple[int, ReferencePrompt]]]:
    """What is to be compared by the prompt that the model reads for it, each with its reference's number."""
    prompts: dict[tuple[int, ...], list[tuple[int, ReferencePrompt]]] = {}
    for number, reference in enumerate(references):
        for prompt in reference:
            prompts.setdefault(tuple(prompt.token_ids.tolist()), []).append((number, prompt))
    return prompts


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
    return read_windows(llm, split_windows(llm, token_ids, context), context, k=0)[0]


def read_windows(
    llm: LLM, windows: Sequence[Sequence[int]], context: int, k: int = NUM_STORED, advance: Advance = ignore
) -> tuple[Perplexity, list[ReferencePrompt]]:
    """The perplexity of windows of a text, and a reference of what the model predicts in them, read once."""
    losses: list[float] = []
    made: list[ReferencePrompt] = []
    for window in windows:

        def measure(position: int, logits: Row, window: Sequence[int] = window) -> tuple[float, _Likeliest]:
            total = log_sum_exp(logits)
            is_last = position + 1 == len(window)
            return 0.0 if is_last else total - float(logits[window[position + 1]]), _likeliest(logits, total, k)

        results = at_each_position(llm, window, measure, advance)
        losses += [loss for loss, _ in results[:-1]]
        if k:
            made.append(_reference_prompt(window, [likeliest for _, likeliest in results]))
    if not losses:
        raise InvalidArgumentError("perplexity needs a text of two tokens at least")
    mean = math.fsum(losses) / len(losses)
    return Perplexity(math.exp(mean), mean, len(losses), context), made


def split_windows(llm: LLM, token_ids: Sequence[int], context: int) -> list[list[int]]:
    """The tokens in windows of at most `context`, each after BOS.

    Raises InvalidArgumentError for a context that cannot be.
    """
    check_int("context", context, 2, llm.plan.limits.max_model_len - 1)
    bos = llm.get_tokenizer().bos_token_id
    start = [] if bos is None else [bos]
    step = context - len(start)
    return [[*start, *token_ids[at : at + step]] for at in range(0, len(token_ids), step)]


def at_each_position(
    llm: LLM, token_ids: Sequence[int], measure: Callable[[int, Row], Result], advance: Advance = ignore
) -> list[Result]:
    """`measure(position, logits [vocab_size])` of every position of a prompt, in order."""
    results: list[Result] = []

    def visit(first: int, logits: npt.NDArray[np.float32]) -> None:
        for offset, row in enumerate(logits):
            results.append(measure(first + offset, row))
            advance()

    llm.visit_logits(token_ids, visit)
    return results


def log_sum_exp(logits: Row) -> float:
    """What a row of logits exceeds its log-probabilities by, in float64."""
    largest = float(logits.max())
    apart = np.subtract(logits, largest, dtype=np.float64)
    return largest + math.log(np.exp(apart, out=apart).sum())


def logprobs_of(ids: npt.NDArray[np.int32], logits: Row, total: float) -> npt.NDArray[np.float64]:
    """Log-probabilities of some tokens, given the `log_sum_exp` of all."""
    return logits[ids].astype(np.float64) - total


def _likeliest(logits: Row, total: float, k: int) -> _Likeliest:
    """The k likeliest tokens and their log-probabilities, given `log_sum_exp`; of equal ones the first come first."""
    k = min(k, len(logits))
    if not k:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    least = -np.partition(-logits, k - 1)[k - 1]
    ids = np.flatnonzero(~(logits < least)).astype(np.int32)  # no comparison with NaN is true
    ids = ids[np.argsort(-logits[ids], kind="stable")[:k]]
    return ids, logprobs_of(ids, logits, total).astype(np.float32)


def _reference_prompt(token_ids: Sequence[int], likeliest: Sequence[_Likeliest]) -> ReferencePrompt:
    ids, logprobs = zip(*likeliest, strict=True)
    return ReferencePrompt(np.array(token_ids, np.int32), np.stack(ids), np.stack(logprobs))


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
