"""Writes the logits of small models on `cpu`, as the settings of the environment have them computed.

    python tests/llm/dump_logits.py OUT.npz MODEL ...

Three requests of each model: two in uneven chunks that share steps, one alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stepper import Chunk, Stepper

from perfxlm.layers.base import ModelOptions
from perfxlm.weights.loader import open_model

LENGTH = 45


def logits(path: Path, activation_format: str) -> np.ndarray:
    model = open_model(path).build(ModelOptions(activation_format=activation_format))
    step = Stepper(model, "cpu", num_requests=3, max_len=LENGTH)
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, model.vocab_size, (3, LENGTH)).astype(np.int32)
    steps: list[list[Chunk]] = [
        [(0, tokens[0, :17])],
        [(1, tokens[1, :30]), (0, tokens[0, 17:18])],
        [(0, tokens[0, 18:]), (1, tokens[1, 30:])],
        [(2, tokens[2])],
    ]
    rows: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for chunks in steps:
        for (request, _), got in zip(chunks, step(chunks), strict=True):
            rows[request].append(got)
    return np.stack([np.concatenate(rows[request]) for request in sorted(rows)])


def main(arguments: Sequence[str]) -> None:
    out, *paths = map(Path, arguments)
    found = {}
    for path in paths:
        for activation_format in ("int8", "int16") if path.suffix == ".gguf" else ("float32",):
            found[f"{path.stem} {activation_format}"] = logits(path, activation_format)
    np.savez(out, allow_pickle=False, **found)


if __name__ == "__main__":
    main(sys.argv[1:])
