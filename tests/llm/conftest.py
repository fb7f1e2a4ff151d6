"""Fixtures of the tests of fallback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fallback_helpers import (
    Baseline,
    Fault,
)
from random_models import write_random_model


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model("gemma3", tmp_path_factory.mktemp("random") / "gemma3.gguf")


@pytest.fixture(scope="module")
def baseline(model_path: Path) -> Baseline:
    return Baseline(model_path)


@pytest.fixture
def inject() -> Iterator[Callable[..., Fault]]:
    faults: list[Fault] = []

    def make(op: str, status: int, at: Sequence[int]) -> Fault:
        faults.append(Fault(op, status, at))
        return faults[-1]

    yield make
    for fault in faults:
        fault.remove()
