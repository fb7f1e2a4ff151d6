"""How products are divided: chosen by the number of tokens, searched once, and of no influence on results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opencl_devices import on_each_device, runtime_of

import perfxapi as px
from perfxapi import dtypes
from perfxapi.backend import REGISTRY
from perfxapi.ops.linear import random_weight
from perfxapi.tuning import TUNER
from perfxapi_gpu_kernels import Properties, division

GPU = Properties(dialect="cuda", identity="some GPU")
PROCESSOR = replace(GPU, dialect="opencl", identity="some processor", is_processor=True)


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, set_setting: Callable[[str, str], None]) -> Iterator[None]:
    """Choices of a test are of no other's."""
    set_setting("TUNING_FILE", str(tmp_path / "tuning.json"))
    TUNER.forget()
    division.forget_choices()
    yield
    TUNER.forget()
    division.forget_choices()


def choose(properties: Properties, tokens: int, chosen: object) -> None:
    TUNER.record(division.SECTION, f"{properties.identity}|{tokens} tokens", chosen)
    division.forget_choices()


@pytest.mark.parametrize("properties", [GPU, PROCESSOR])
def test_a_division_serves_its_class_of_tokens(properties: Properties):
    for tokens, expected in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (1000, 8)):
        assert division.division_of(properties, tokens) == division.candidates(properties, expected)[0]
    offered = [one for tokens in division.TOKEN_CLASSES for one in division.candidates(properties, tokens)]
    assert len({(one.lanes, one.slices) for one in offered}) == 1  # else results would depend on the choice


def test_what_was_measured_is_chosen_where_it_is_still_offered():
    second = division.candidates(PROCESSOR, 8)[1]
    choose(PROCESSOR, 8, list(second))
    assert division.division_of(PROCESSOR, 100) == second
    assert division.division_of(GPU, 100) == division.candidates(GPU, 8)[0]
    for damaged in ([16, 16, 999, 8, 1], "quick", {"tiles": 1}):
        choose(PROCESSOR, 8, damaged)
        assert division.division_of(PROCESSOR, 100) == division.candidates(PROCESSOR, 8)[0]


@on_each_device
def test_a_search_keeps_a_choice(device: str):
    properties = runtime_of(device).properties
    for tokens in (2, 4, 8):
        choose(properties, tokens, list(division.candidates(properties, tokens)[0]))
    backend = REGISTRY.of_device(px.get_device(device)).backend
    assert backend is not None
    found = [(what, search) for what, search in backend.searches() if what.endswith(device)]
    assert [what for what, _ in found] == [f"products with 1 tokens on {device}"]
    found[0][1]()
    assert not [what for what, _ in backend.searches() if what.endswith(device)]
    assert division.division_of(properties, 1) in division.candidates(properties, 1)


@on_each_device
def test_results_are_the_same_bits_however_products_are_divided(device: str):
    rng, properties = np.random.default_rng(6), runtime_of(device).properties
    raw = random_weight(rng, 100, 256, dtypes.q8_0).raw
    weight = px.constant(raw, dtypes.q8_0, (100, 256), device=device)
    x = px.asarray(rng.standard_normal((19, 256)).astype(np.float32), device=device)
    results = []
    for offered in division.candidates(properties, 8):
        choose(properties, 8, list(offered))
        with px.use_device(device, fallback="error"):
            results.append(np.asarray(px.nn.linear(x, weight, activation_format="int16")))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
