"""Every test starts with an empty ledger, unread settings and no warning given yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from simulated import SimulatedBackend

from perfxapi import policy
from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi.ledger import LEDGER
from perfxapi.settings import settings


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    LEDGER.clear()
    policy._warned.clear()
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def set_setting(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Sets an environment variable of ours and has the settings read again."""

    def set_(name: str, value: str) -> None:
        monkeypatch.setenv(f"PERFXAPI_{name}", value)
        settings.cache_clear()

    return set_


@pytest.fixture
def sim() -> Iterator[SimulatedBackend]:
    """A simulated device with a memory of its own, `sim:0`, with a kernel for every op."""
    backend = SimulatedBackend()
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("sim", lambda: backend, ("sim",), priority=-50), "tests")
    yield backend
    REGISTRY.unregister("sim")
