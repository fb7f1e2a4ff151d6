"""Logits of small random models equal those that Transformers computes (tests/golden/make_transformers_goldens.py)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from stepper import Chunk, Stepper

from perfxlm.weights.loader import open_model

Tokens = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

TINY = Path(__file__).parent.parent / "data" / "tiny"
NAMES = sorted(folder.name for folder in TINY.iterdir() if folder.is_dir())
TOLERANCE = 1e-4
"""Allowed difference over the largest logit: rounding of float32 sums in another order, through seven layers."""


def golden(name: str) -> tuple[Tokens, Floats]:
    """Token ids [sequences, length] and logits [sequences, length, vocab_size]."""
    with np.load(TINY / name / "golden.npz") as stored:
        return stored["tokens"], stored["logits"]


def stepper(name: str, device: str, num_requests: int = 2) -> Stepper:
    return Stepper(open_model(TINY / name).build(), device, num_requests=num_requests, max_len=64)


def assert_close(got: Floats, expected: Floats) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_prompt_in_one_piece(name: str, device: str) -> None:
    tokens, logits = golden(name)
    (got,) = stepper(name, device)([(0, tokens[0])])
    assert_close(got, logits[0])


def in_chunks(step: Stepper, tokens: Tokens) -> list[Floats]:
    """Logits of two requests: one prefills in uneven chunks while the other starts later and decodes token by token."""
    steps: list[list[Chunk]] = [
        [(0, tokens[0, :17])],
        [(1, tokens[1, :40]), (0, tokens[0, 17:18])],
        [(0, tokens[0, 18:50]), (1, tokens[1, 40:41])],
        [(0, tokens[0, 50:51]), (1, tokens[1, 41:64])],
        [(0, tokens[0, 51:])],
    ]
    got: list[list[Floats]] = [[], []]
    for chunks in steps:
        for (request, _), rows in zip(chunks, step(chunks), strict=True):
            got[request].append(rows)
    return [np.concatenate(pieces) for pieces in got]


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_chunks_of_two_requests_mixed_in_steps(name: str, device: str) -> None:
    tokens, logits = golden(name)
    for got, expected in zip(in_chunks(stepper(name, device), tokens), logits, strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_logits_do_not_depend_on_the_schedule(name: str) -> None:
    """Bit for bit, on the backend that users run."""
    tokens, _ = golden(name)
    whole = stepper(name, "cpu")([(0, tokens[0]), (1, tokens[1])])
    np.testing.assert_array_equal(in_chunks(stepper(name, "cpu"), tokens), whole)


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        ("llama3", {"multi_linear": 4, "gated_linear": 4, "rope": 8, "add_rms_norm": 8, "linear": 9}),
        ("qwen3", {"multi_linear": 4, "gated_linear": 4, "norm_rope": 8, "add_rms_norm": 8, "linear": 9}),
        ("gemma3", {"multi_linear": 7, "gated_linear": 7, "norm_rope": 14, "norm_add_rms_norm": 14, "linear": 15}),
    ],
)
def test_layers_fuse(name: str, fused: dict[str, int]) -> None:
    """What is left of each layer: Q, K, V in one product, gate and up in one, norms with what surrounds them."""
    nodes = Counter(node.spec.name for node in stepper(name, "cpu").executable.graph.nodes)
    layers = len(open_model(TINY / name).config.windows)
    once = {"embedding": 1, "rms_norm": 1, "take_rows": 1, "rope_table": 2 if name == "gemma3" else 1}
    assert nodes == {**once, **fused, "kv_write": layers, "paged_attention": layers}


@pytest.mark.parametrize("name", ["gemma3", "qwen3"])
def test_window_is_shorter_than_the_sequence(name: str) -> None:
    """Else the goldens would not see the window."""
    config = open_model(TINY / name).config
    assert 0 < max(config.windows) < golden(name)[0].shape[1] // 2
    assert 0 in config.windows
