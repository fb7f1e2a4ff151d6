"""An OpenCL device that vanishes in mid-run: the request is completed elsewhere, with one warning and no hang."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opencl_devices import DEVICES, EACH_DEVICE, runtime_of

import perfxapi as px
from perfxapi import policy
from perfxapi.backend import REGISTRY
from perfxapi.errors import DeviceLostError, DeviceUnavailableError, FallbackWarning
from perfxlm import LLM, SamplingParams

PLACES = 100
PROMPT = [5, 6, 7, 20, 11, 90, 31, 8]
OPERATIONS = ("allocate", "zeros", "read", "write", "compile", "bind", "enqueue", "finish")
"""Everything that a driver does; each is a place where a device can be gone."""


class Vanishing:
    """Counts what a driver does, and from operation `at` on answers each with a loss."""

    def __init__(self, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at = 0, -1
        for name in OPERATIONS:
            monkeypatch.setattr(driver, name, self._wrapped(getattr(driver, name)))

    def _wrapped(self, method: Any) -> Any:
        def call(*args: Any) -> Any:
            self.count += 1
            if 0 <= self.at <= self.count:
                raise DeviceLostError("the cable was pulled")
            return method(*args)

        return call


@pytest.fixture(params=EACH_DEVICE)
def vanishing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Vanishing]]:
    device = str(request.param)
    yield device, Vanishing(runtime_of(device).driver, monkeypatch)


def generate(model: Path, device: str, **options: Any) -> tuple[list[int], LLM]:
    llm = LLM(model, device=device, max_model_len=64, skip_tokenizer_init=True, **options)
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, detokenize=False)
    (output,) = llm.generate([{"prompt_token_ids": PROMPT}], params, use_tqdm=False)
    return output.outputs[0].token_ids, llm


def test_a_request_is_completed_wherever_the_device_vanishes(
    vanishing: tuple[str, Vanishing], tiny_model: Path
) -> None:
    device, driver = vanishing
    expected, _ = generate(tiny_model, device)  # compiles, so that a loss later does not wait for a compiler
    before = driver.count
    assert generate(tiny_model, device)[0] == expected
    total = driver.count - before
    places = np.unique(np.linspace(1, total, PLACES // len(DEVICES)).astype(int))
    for place in places.tolist():
        driver.at = driver.count + place
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, llm = generate(tiny_model, device)
        driver.at = -1
        assert found == expected, f"place {place} of {total}"
        assert str(llm.engine.runner.device) != device
        told = [str(w.message) for w in caught if issubclass(w.category, FallbackWarning)]
        assert len(told) == 1, told
        assert "the cable was pulled" in told[0]
        restore(device)


def test_with_error_a_loss_raises(vanishing: tuple[str, Vanishing], tiny_model: Path) -> None:
    device, driver = vanishing
    before = driver.count
    generate(tiny_model, device)
    driver.at = driver.count + (driver.count - before) // 2
    with pytest.raises((DeviceLostError, DeviceUnavailableError), match="the cable was pulled"):
        generate(tiny_model, device, fallback="error")


def restore(device: str) -> None:
    """As in a new process: the device answers, and its loss has not been told of."""
    REGISTRY.restore(next(known for known in px.all_devices() if str(known) == device))
    policy._warned.clear()
