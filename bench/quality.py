"""Quality as distance from float32 arithmetic on the same weights: KL divergence and agreement of the likeliest token.

A reference file holds for each text `ids_i [n]`, `top_ids_i [n, 256]` and `top_logprobs_i [n, 256]`: the likeliest next
tokens at every position, likeliest first. The divergence is taken over those 256 and one bucket for all other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_TINY = 1e-12

Rows = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Over all positions of a reference."""

    mean_kl: float
    p99_kl: float
    top1_agreement: float


def with_rest(logprobs: Rows) -> npt.NDArray[np.float64]:
    """Probabilities of the stored tokens and, in a last column, of all others together."""
    stored = np.exp(logprobs.astype(np.float64))
    rest = np.maximum(1.0 - stored.sum(-1, keepdims=True), 0.0)
    return np.concatenate([stored, rest], -1)


def divergence(reference_logprobs: Rows, logprobs: Rows) -> npt.NDArray[np.float64]:
    """KL(reference || other) at every position, in nats."""
    true, other = with_rest(reference_logprobs), with_rest(logprobs)
    terms = true * (np.log(np.maximum(true, _TINY)) - np.log(np.maximum(other, _TINY)))
    return np.asarray(terms.sum(-1))


def compare(reference: Mapping[str, Any], scores: Mapping[str, Any]) -> Quality:
    """Quality of `scores`: `logprobs_i` of the reference's stored tokens and `top_i`, the likeliest token."""
    numbers = sorted(name.removeprefix("ids_") for name in reference if name.startswith("ids_"))
    kl = np.concatenate([divergence(reference[f"top_logprobs_{n}"], scores[f"logprobs_{n}"]) for n in numbers])
    same = np.concatenate([reference[f"top_ids_{n}"][:, 0] == scores[f"top_{n}"] for n in numbers])
    return Quality(float(kl.mean()), float(np.quantile(kl, 0.99)), float(same.mean()))
