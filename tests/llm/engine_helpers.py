"""What the tests of the engine share: prompts of random tokens, and ways to look at outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from perfxlm import RequestOutput, SamplingParams
from perfxlm.outputs import TokenLogprobs

VOCAB_SIZE = 128

Floats = npt.NDArray[np.float64]
Positions = Sequence[TokenLogprobs | None] | None


def prompt(*lengths: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, VOCAB_SIZE, length).tolist() for length in lengths]


def full_logprobs(positions: Positions) -> Floats:
    """What was reported at each position, for the whole vocabulary, in order of id."""
    assert positions is not None
    rows = []
    for each in positions:
        assert each is not None
        row = np.full(VOCAB_SIZE, np.nan)
        row[each.token_ids] = each.logprobs
        rows.append(row)
    return np.array(rows)


def assert_same(device: str, got: Positions, expected: Positions) -> None:
    """Bit for bit, but on the reference backend, where BLAS sums in an order that depends on the number of rows."""
    tolerance = 0.0 if device == "cpu" else 1e-4
    np.testing.assert_allclose(full_logprobs(got), full_logprobs(expected), rtol=0, atol=tolerance)


def tokens_of(outputs: list[RequestOutput]) -> list[list[int]]:
    return [completion.token_ids for output in outputs for completion in output.outputs]


def greedy(max_tokens: int = 12, **options: object) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, **options)  # type: ignore[arg-type]
