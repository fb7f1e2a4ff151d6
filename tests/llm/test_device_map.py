"""A model split over devices by hand: what runs where, and that nothing of the answers changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fallback_helpers import Baseline, make_llm, tokens_of
from random_models import NUM_LAYERS
from simulated import SimulatedBackend, registered

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi.errors import DeviceLostError, FallbackWarning, InvalidArgumentError
from perfxlm.cli import main
from perfxlm.device_map import layer_devices, parse_device_map


@pytest.mark.parametrize(
    "given",
    [{"a": "0-2", "b": "3-"}, {"b": [3, "4"], "a": range(3)}, {"a": "1,0, 2", "b": "4-4,3"}, {"b": [3, 4], "a": "0-2"}],
)
def test_layers_are_named_in_several_ways(given: dict[str, Any]) -> None:
    assert layer_devices(given, 5) == ("a", "a", "a", "b", "b")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"a": "0-4", "b": "4"}, "layer 4 is on both 'a' and 'b'"),
        ({"a": "0-2", "b": "4"}, "no device has layer 3"),
        ({"a": "0-5"}, "'a' has layer 5; the model's are 0 to 4"),
        ({"a": -1}, "'a' has layer -1"),
        ({"a": "0-8x"}, 'must be like "0-8"'),
        ({"a": ""}, 'must be like "0-8"'),
        ({"a": 1.5}, "got 1.5"),
        ({"a": True}, "got True"),
        ({"a": None}, "got None"),
        ({}, "no device has layer 0"),
    ],
)
def test_maps_that_do_not_fit(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        layer_devices(given, 5)


def test_a_map_on_the_command_line() -> None:
    assert parse_device_map(["opencl:0=0-8", "cpu=9-"]) == {"opencl:0": "0-8", "cpu": "9-"}
    for wrong in (["cpu"], ["cpu=1", "cpu=2"]):
        with pytest.raises(InvalidArgumentError, match="device_map must be like"):
            parse_device_map(wrong)


@pytest.mark.parametrize("given", ["cpu", ["cpu"], {0: "cpu"}, {"cpu": {}}, {"cpu": "x"}])
def test_arguments_that_are_no_maps(given: Any, model_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="device_map"):
        make_llm(model_path, "auto", device_map=given)


def test_either_a_device_or_a_map(model_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="leave out device='cpu'"):
        make_llm(model_path, "cpu", device_map={"cpu": "0-"})


SPLITS: list[dict[str, Any]] = [
    {"sim:0": "0-1", "cpu": "2-"},
    {"cpu": "0", "sim:0": "1-"},
    {"sim:0": "0", "sim:1": "1-"},
    {"sim:0": "0,2", "sim:1": 1},
    {"cpu": "0-"},
]


@pytest.mark.parametrize("device_map", SPLITS, ids=str)
def test_a_split_model_gives_the_same(
    device_map: dict[str, Any], baseline: Baseline, model_path: Path, sims: SimulatedBackend
) -> None:
    px.reset_explain()
    llm = make_llm(model_path, "auto", device_map=device_map, fallback="error")
    baseline.assert_met_by(llm)
    explained = px.explain()
    assert not explained.fallbacks
    assert {str(px.get_device(name)) for name in device_map} == {row.ran_on for row in explained.rows}
    devices = layer_devices(device_map, NUM_LAYERS)
    assert llm.engine.runner.devices == ", ".join(dict.fromkeys(str(px.get_device(name)) for name in devices))
    (first, *_), (*_, last) = devices, devices
    ran_on = {row.op: {r.ran_on for r in explained.rows if r.op == row.op} for row in explained.rows}
    assert ran_on["embedding"] == {str(px.get_device(first))}
    assert ran_on["vocab_topk"] == {str(px.get_device(last))}
    assert ran_on["paged_attention"] == {str(px.get_device(name)) for name in devices}


def test_kv_caches_are_with_their_layers_and_stay_there(model_path: Path, sims: SimulatedBackend) -> None:
    llm = make_llm(model_path, "auto", device_map={"sim:0": "0-1", "cpu": "2-"}, fallback="error")
    homes = [keys.view.buffer.home for keys, _ in llm.engine.runner._kv]
    assert homes == ["sim", "sim", "host"]
    tokens_of(llm, [[5, 6, 7]])
    sims.memory.forget()
    tokens_of(llm, [[5, 6, 7]])
    steps = 12
    hidden = 256 * 4
    # a step hands over the hidden states of its tokens, three in the first, and takes small operands
    assert sims.memory.bytes_read == (steps - 1 + 3) * hidden
    assert len(sims.memory.writes) == steps


def test_a_device_of_a_map_that_is_not_there(baseline: Baseline, model_path: Path, sims: SimulatedBackend) -> None:
    with pytest.warns(
        FallbackWarning, match="device 'sim:7': there is no sim device number 7.* The work runs on cpu:0"
    ):
        llm = make_llm(model_path, "auto", device_map={"sim:7": "0", "sim:1": "1-"})
    assert tokens_of(llm) == baseline.tokens
    assert llm.engine.runner.devices == "cpu:0, sim:1"


def test_the_command_line_takes_a_map(
    model_path: Path, capsys: pytest.CaptureFixture[str], sims: SimulatedBackend
) -> None:
    options = ["--device-map", "sim:0=0", "--device-map", "cpu=1-", "--prompt-tokens", "4", "--gen-tokens", "4"]
    shared = ["--repeats", "1", "--skip-tokenizer-init", "--greedy-only", "--json", "--max-model-len", "64"]
    assert main(["bench", str(model_path), *options, *shared]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "sim:0, cpu:0"


# ---- devices that are lost


WHOLE, PART, SECOND = {"sim:0": "0-"}, {"sim:0": "0-1", "cpu": "2-"}, {"sim:1": "0", "sim:0": "1-"}


@pytest.fixture(scope="module")
def num_events(model_path: Path) -> int:
    """Copies and launches on a simulated device, from loading the model to the last token of three requests."""
    with registered(2) as backend:
        backend.compiles = True
        tokens_of(make_llm(model_path, "sim:0"))
        return backend.memory.num_events


def assert_the_same_after_a_loss(
    device_map: dict[str, Any], number: int, baseline: Baseline, model_path: Path, sims: SimulatedBackend
) -> None:
    sims.memory.lost_at = number
    with pytest.warns(FallbackWarning, match=r"device 'sim:0': sim:0 was lost .* The work runs on cpu:0") as caught:
        llm = make_llm(model_path, "auto", device_map=device_map)
        assert tokens_of(llm) == baseline.tokens
    assert len(caught) == 1
    assert llm.engine.metrics.num_device_losses == 1
    assert REGISTRY.lost(sims.device)


@pytest.mark.parametrize("number", [1, 2, 3, 8, 30, 100, 200])
@pytest.mark.parametrize("device_map", [WHOLE, PART, SECOND], ids=str)
def test_a_loss_anywhere_ends_in_the_same_answer(
    device_map: dict[str, Any], number: int, baseline: Baseline, model_path: Path, sims: SimulatedBackend
) -> None:
    """While the KV cache is made, weights go there, in the first step, in others."""
    assert_the_same_after_a_loss(device_map, number, baseline, model_path, sims)


@pytest.mark.slow
@pytest.mark.parametrize("hundredth", range(100))
def test_a_loss_at_each_hundredth_of_a_run_ends_in_the_same_answer(
    hundredth: int, num_events: int, baseline: Baseline, model_path: Path, sims: SimulatedBackend
) -> None:
    number = 1 + hundredth * (num_events - 1) // 100
    assert_the_same_after_a_loss(WHOLE, number, baseline, model_path, sims)


def test_with_error_a_loss_is_raised(model_path: Path, sims: SimulatedBackend) -> None:
    llm = make_llm(model_path, "auto", device_map={"sim:0": "0", "cpu": "1-"}, fallback="error")
    sims.kernel("paged_attention").raises = DeviceLostError("the bus is gone")
    with pytest.raises(DeviceLostError, match="the bus is gone"):
        tokens_of(llm)
