"""What tests of devices share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from mock_cupy import install


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_kernel_folder: object) -> ModuleType:
    """NumPy and the emulator in CuPy's place, with caches of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return install(monkeypatch)
