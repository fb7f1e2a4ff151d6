"""The sample kernel against float64 NumPy on vocabularies of real size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from kernel_calls import INVALID_ARGUMENT, OK, VARIANTS, run

VOCABULARY = 262_144
ROWS = 3
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@dataclass(frozen=True)
class Settings:
    """One request's sampling parameters; the defaults keep everything."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def zipf_logits(seed: int, scale: float) -> np.ndarray:
    """Rows whose probabilities fall like those of words, in random order."""
    rng = np.random.default_rng(seed)
    ranked = -scale * np.log(np.arange(1, VOCABULARY + 1)) + 0.3 * rng.standard_normal((ROWS, VOCABULARY))
    return np.stack([rng.permutation(row) for row in ranked]).astype(np.float32)


def kept_weights(logits: np.ndarray, settings: Settings) -> np.ndarray:
    """Unnormalized float64 probabilities of what min_p, top_k and top_p leave, by sorting everything."""
    scaled = logits.astype(np.float64) / settings.temperature
    weights: np.ndarray = np.exp(scaled - scaled.max())
    weights[scaled < scaled.max() + np.log(settings.min_p or 1e-300)] = 0
    if settings.top_k:
        weights[weights < np.sort(weights)[-settings.top_k]] = 0
    order = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    if settings.top_p < 1:
        weights[order[before >= settings.top_p * weights.sum()]] = 0
    return weights


def sample(
    logits: np.ndarray, settings: Settings, uniform: np.ndarray, variant: str, num_threads: int = 2
) -> tuple[int, np.ndarray]:
    """Status and ids of the kernel, with the same settings in each row."""
    rows = len(logits)
    columns = [np.full(rows, settings.temperature, np.float32), np.full(rows, settings.top_k, np.int32)]
    columns += [np.full(rows, value, np.float32) for value in (settings.top_p, settings.min_p)]
    ids = np.full(rows, -1, np.int32)
    status = run("sample", [logits, *columns, uniform], [ids], (), variant, num_threads)
    return status, ids


@each_variant
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(temperature=0.7, min_p=0.02),
        Settings(top_k=64),
        Settings(top_k=64, top_p=0.95),
        Settings(top_p=0.9),
        Settings(temperature=1.8, top_p=0.9999),
        Settings(top_k=5000, top_p=0.5, min_p=0.0001),
    ],
    ids=str,
)
def test_the_running_sum_of_what_is_kept_picks_the_id(variant: str, settings: Settings) -> None:
    logits = zipf_logits(1, 1.1)
    for uniform in (0.0, 0.31, 0.77, 0.9999):
        status, ids = sample(logits, settings, np.full(ROWS, uniform, np.float32), variant)
        assert status == OK
        for row, chosen in zip(logits, ids, strict=True):
            # with top_k the likeliest come first
            order = np.argsort(-row, kind="stable") if settings.top_k else np.arange(row.size)
            weights = kept_weights(row, settings)[order]
            place = int(np.flatnonzero(order == chosen)[0])
            running, total = np.cumsum(weights), weights.sum()
            slack = 2e-6 * total  # float32 exponents, and what they move across the edge of top_p
            assert weights[place] > 0
            assert running[place] - weights[place] - slack <= uniform * total <= running[place] + slack


@each_variant
@pytest.mark.parametrize("settings", [Settings(top_k=20), Settings(temperature=1.5, top_k=63, top_p=0.8, min_p=0.01)])
def test_the_k_largest_logits_alone_give_the_same_token(variant: str, settings: Settings) -> None:
    logits = zipf_logits(3, 0.8)
    logits[0, 50:90] = logits[0].max()  # ties
    order = np.argsort(-logits, axis=1, kind="stable")[:, :64]
    largest = np.take_along_axis(logits, order, axis=1)
    for uniform in np.linspace(0, 0.999, 40, dtype=np.float32):
        status, ids = sample(logits, settings, np.full(ROWS, uniform, np.float32), variant)
        assert status == OK
        _, places = sample(largest, settings, np.full(ROWS, uniform, np.float32), variant)
        assert np.array_equal(np.take_along_axis(order, places[:, None].astype(np.int64), axis=1)[:, 0], ids)


@each_variant
def test_every_row_alone_gives_what_it_gives_in_company(variant: str) -> None:
    logits = zipf_logits(2, 0.9)
    uniform = np.array([0.2, 0.5, 0.8], np.float32)
    for settings in (Settings(top_p=0.97), Settings(top_k=40), Settings(temperature=0.5)):
        together = sample(logits, settings, uniform, variant, num_threads=1)[1]
        for num_threads in (1, 2, 3):
            alone = [
                sample(logits[row : row + 1], settings, uniform[row : row + 1], variant, num_threads)[1][0]
                for row in range(ROWS)
            ]
            assert alone == together.tolist()


def test_frequencies_follow_the_probabilities() -> None:
    rng = np.random.default_rng(3)
    row = rng.standard_normal(40).astype(np.float32)
    settings = Settings(temperature=0.8, top_p=0.9)
    draws = 20_000
    ids = sample(np.tile(row, (draws, 1)), settings, rng.random(draws, np.float32), VARIANTS[0])[1]
    weights = kept_weights(row, settings)
    expected = weights / weights.sum()
    observed = np.bincount(ids, minlength=40) / draws
    assert np.abs(observed - expected).max() < 5 * np.sqrt(0.25 / draws)
    assert not observed[expected == 0].any()


@each_variant
def test_greedy_takes_the_lowest_id_of_the_largest(variant: str) -> None:
    logits = np.zeros((2, VOCABULARY), np.float32)
    logits[0, [200_000, 131_073]] = 7
    logits[1, 5] = np.nan
    ids = sample(logits, Settings(temperature=0), np.zeros(2, np.float32), variant)[1]
    assert ids.tolist() == [131_073, 0]


@each_variant
@pytest.mark.parametrize(
    "settings", [Settings(temperature=float("nan")), Settings(temperature=-1), Settings(top_k=-1), Settings(min_p=2)]
)
def test_parameters_out_of_range_are_refused(variant: str, settings: Settings) -> None:
    status, ids = sample(np.zeros((2, 50), np.float32), settings, np.zeros(2, np.float32), variant)
    assert status == INVALID_ARGUMENT
    assert ids.tolist() == [-1, -1]
