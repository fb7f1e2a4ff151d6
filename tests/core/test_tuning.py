"""Choosing among kernels by measuring: what is measured, remembered, and tolerated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import perfxapi as px
from perfxapi import dispatch
from perfxapi.backend import REGISTRY, Backend, BackendManifest, OpCall
from perfxapi.device import Device
from perfxapi.memory import HOST
from perfxapi.reference_backend import ReferenceKernel
from perfxapi.tuning import TUNER


class Timed(ReferenceKernel):
    """The reference, `delay` seconds late; counts its launches."""

    def __init__(self, label: str, delay: float) -> None:
        super().__init__(px.ops.op_spec("matmul"))
        self.label, self.delay, self.num_launches = label, delay, 0

    def launch(self, call: OpCall) -> None:
        self.num_launches += 1
        if self.delay < 0:
            raise RuntimeError("broken")
        time.sleep(self.delay)
        super().launch(call)


class TwoKernels(Backend):
    name = "two"

    def __init__(self) -> None:
        self.first, self.second = Timed("first", 0.02), Timed("second", 0)

    def devices(self) -> tuple[Device, ...]:
        return (Device("two", 0, "two kernels", HOST),)

    def kernels(self, op: str) -> tuple[Timed, ...]:
        return (self.first, self.second) if op == "matmul" else ()


@pytest.fixture
def two(tmp_path: Path, set_setting: Callable[[str, str], None]) -> Iterator[TwoKernels]:
    set_setting("TUNE", "1")
    set_setting("TUNING_FILE", str(tmp_path / "folder" / "tuning.json"))
    TUNER.forget()
    backend = TwoKernels()
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("two", lambda: backend, ("two",), priority=-50), "tests")
    yield backend
    REGISTRY.unregister("two")
    TUNER.forget()


def multiply(size: int) -> None:
    x = px.asarray(np.eye(size, dtype=np.float32), device="two")
    assert np.array_equal(np.asarray(px.matmul(x, x)), np.eye(size))


def restart() -> None:
    """Forgets what a process knows; the file stays."""
    TUNER.forget()
    dispatch._choices.clear()


def test_the_quickest_kernel_serves_its_size_class(two: TwoKernels) -> None:
    multiply(128)
    assert {(row.ran_on, row.count) for row in px.explain().rows} == {("two:0 (second)", 1)}
    measured = two.first.num_launches
    assert measured > 1
    multiply(127)
    multiply(128)
    assert two.first.num_launches == measured
    multiply(129)
    assert two.first.num_launches > measured


def test_the_file_is_read_by_the_next_process(two: TwoKernels) -> None:
    multiply(128)
    measured = two.first.num_launches
    (choice,) = json.loads(TUNER.path().read_text())["choices"].values()
    assert choice["kernel"] == "second"
    assert choice["seconds"]["second"] < 0.02 <= choice["seconds"]["first"]
    restart()
    multiply(128)
    assert two.first.num_launches == measured
    assert [path.name for path in TUNER.path().parent.iterdir()] == ["tuning.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99, "choices": {}}', '{"version": 1, "choices": [1]}'])
def test_a_damaged_file_is_replaced(two: TwoKernels, text: str) -> None:
    TUNER.path().parent.mkdir()
    TUNER.path().write_text(text)
    multiply(128)
    assert TUNER.known() == 1


def test_a_file_that_cannot_be_written_costs_the_memory_alone(
    two: TwoKernels, tmp_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    (tmp_path / "plain").write_text("")
    set_setting("TUNING_FILE", str(tmp_path / "plain" / "tuning.json"))
    multiply(128)
    assert two.second.num_launches > 1


def test_small_calls_and_the_setting_leave_the_first_kernel(
    two: TwoKernels, set_setting: Callable[[str, str], None]
) -> None:
    multiply(4)
    assert (two.first.num_launches, two.second.num_launches) == (1, 0)
    set_setting("TUNE", "0")
    multiply(128)
    assert two.second.num_launches == 0


def test_a_kernel_that_fails_is_not_chosen(two: TwoKernels) -> None:
    two.second.delay = -1
    multiply(128)
    assert {row.ran_on for row in px.explain().rows} == {"two:0 (first)"}
