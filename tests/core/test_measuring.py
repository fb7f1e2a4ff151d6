"""What measurements stand on: a bound on processor time that can be missed, and rest before a device is measured."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import costs
import pytest
from costs import at_most

from perfxapi.graph import resting


def test_a_bound_can_be_missed() -> None:
    assert gc.isenabled()
    with at_most(60):
        assert not gc.isenabled()
    with pytest.raises(AssertionError, match=r"of processor time; 1e-06 x \d"), at_most(1e-6):
        sum(range(100_000))
    assert gc.isenabled()


def test_on_a_slower_machine_more_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_yardstick", lambda: 3e6 * costs._YARDSTICK_SECONDS)
    with at_most(1e-5):
        sum(range(100_000))


class Clocks(SimpleNamespace):
    """A machine on which threads of the process spin until a time."""

    def __init__(self, busy_until: float) -> None:
        super().__init__(now=0.0, used=0.0, busy_until=busy_until)

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.used += max(0.0, min(seconds, self.busy_until - self.now))
        self.now += seconds


@pytest.mark.parametrize(("busy_until", "waits"), [(0.0, 0.005), (0.1, 0.105), (60.0, 0.5)])
def test_rest_is_waited_for_half_a_second_at_most(
    busy_until: float, waits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(busy_until)
    monkeypatch.setattr(resting, "time", clocks)
    resting.wait_for_rest()
    assert clocks.now == pytest.approx(waits, abs=0.0051)
