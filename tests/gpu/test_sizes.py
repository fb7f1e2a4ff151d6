"""A fourth GPU API costs one prelude and one thin backend: the three that are there stay thin."""

from __future__ import annotations

from pathlib import Path

import pytest

BACKENDS = Path(__file__).parents[2] / "backends"
MOST = 500


@pytest.mark.parametrize("name", ["opencl", "cuda", "hip"])
def test_a_backend_is_thin(name: str) -> None:
    files = list((BACKENDS / name).rglob("perfxapi_backend_*/*.py"))
    assert files
    assert sum(len(file.read_text().splitlines()) for file in files) < MOST
