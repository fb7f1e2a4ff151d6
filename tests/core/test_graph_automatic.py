"""The device "auto" for plans: what is measured, and where nodes are placed for it. Devices are simulated."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from simulated import SimulatedBackend, registered

import perfxapi as px
from perfxapi.device import Device
from perfxapi.errors import DeviceLostError
from perfxapi.graph import automatic
from perfxapi.graph.calls import BoundCalls
from perfxapi.graph.costs import Budget, copy_cost, node_seconds
from perfxapi.graph.ir import Node
from perfxapi.graph.placement import CopyCost
from perfxapi.tuning import COPIES, NODES, PLANS, TUNER

N, WIDTH = px.Dim("n"), 16
SPECS = {"x": px.TensorSpec((N, WIDTH), px.float64)}
CHEAP, DEAR = CopyCost(1e-6, 1e12, 1e12), CopyCost(1.0, 1e3, 1e3)


@pytest.fixture
def tuned(tmp_path: Path, set_setting: Callable[[str, str], None]) -> Iterator[SimulatedBackend]:
    """Two devices that "auto" may choose, and an empty file of what was measured."""
    set_setting("TUNE", "1")
    set_setting("TUNE_SECONDS", "10")
    set_setting("TUNING_FILE", str(tmp_path / "tuning.json"))
    TUNER.forget()
    with registered(2, priority=0) as backend:
        backend.compiles = True
        yield backend
    TUNER.forget()


Costs = Mapping[str, Mapping[str, float]]
Assume = Callable[..., None]


@pytest.fixture
def assume(monkeypatch: pytest.MonkeyPatch, tuned: SimulatedBackend) -> Assume:
    """Sets what nodes take by op and device (else a millisecond), what copies take, and what a trial of plans finds."""

    def set_(costs: Costs, copies: CopyCost = CHEAP, trial: tuple[float, float] = (1.0, 0.5)) -> None:
        def seconds(node: Node, call: Any, devices: Iterable[Device], budget: Budget) -> dict[Device, float]:
            known = costs.get(node.spec.name, {})
            found = {device: known.get(str(device), 1e-3) for device in devices if device.kind != "opencl"}
            return {device: seconds for device, seconds in found.items() if seconds is not None}

        monkeypatch.setattr(automatic, "node_seconds", seconds)
        monkeypatch.setattr(automatic, "copy_cost", lambda device, budget: copies if device.kind == "sim" else None)
        monkeypatch.setattr(automatic, "seconds_side_by_side", lambda *given: trial)
        monkeypatch.setattr(automatic, "_LEAST_OPERATIONS", 0)

    return set_


def chain(x: px.Array) -> px.Array:
    return px.sqrt(px.tanh(px.exp(px.sin(x))))


def want(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = np.sqrt(np.tanh(np.exp(np.sin(x))))
    return result


def auto_plan(function: Any = chain, device: str = "auto") -> px.graph.Executable:
    graph = px.graph.trace(lambda x: function(x), SPECS, device=device)
    return px.graph.compile(graph, device=device, bounds={"n": 4})


def devices_of(plan: px.graph.Executable) -> list[str]:
    return [place.device for place in plan.explain()]


def result(plan: px.graph.Executable) -> npt.NDArray[np.float64]:
    return np.asarray(plan(x=np.linspace(0, 1, 3 * WIDTH).reshape(3, WIDTH))["output"])


def expected() -> npt.NDArray[np.float64]:
    return want(np.linspace(0, 1, 3 * WIDTH).reshape(3, WIDTH))


SLOW_ON_CPU = {"tanh": {"cpu:0": 1.0}, "exp": {"cpu:0": 1.0, "sim:1": 1e-4, "sim:0": 2e-4}}


def test_nodes_go_where_they_are_quick(assume: Assume) -> None:
    assume({**SLOW_ON_CPU, "sqrt": {"sim:0": 1.0, "sim:1": 1.0}, "sin": {"sim:0": 1.0, "sim:1": 1.0}})
    plan = auto_plan()
    assert devices_of(plan) == ["cpu:0", "sim:1", "sim:1", "cpu:0"]
    np.testing.assert_allclose(result(plan), expected(), rtol=1e-12)
    assert px.explain().fallbacks == []


def test_copies_that_cost_more_than_they_save_are_not_made(assume: Assume) -> None:
    assume({"tanh": {"cpu:0": 0.5}}, DEAR)
    assert devices_of(auto_plan()) == ["cpu:0"] * 4


def test_one_device_that_is_quicker_than_the_others_gets_all(assume: Assume) -> None:
    assume({op: {"sim:1": 1e-5} for op in ("sin", "exp", "tanh", "sqrt")})
    plan = auto_plan()
    assert devices_of(plan) == ["sim:1"] * 4
    assert str(plan.device) == "sim:1"
    np.testing.assert_allclose(result(plan), expected(), rtol=1e-12)


def test_less_than_a_twentieth_is_not_worth_it(assume: Assume) -> None:
    others = {op: {"sim:0": 2e-3, "sim:1": 2e-3} for op in ("sin", "exp", "sqrt")}
    assume({**others, "tanh": {"sim:0": 0.9e-3}})  # 3.9 milliseconds instead of 4
    assert devices_of(auto_plan()) == ["cpu:0"] * 4
    assume({**others, "tanh": {"sim:0": 0.5e-3}})
    assert devices_of(auto_plan()) == ["cpu:0", "cpu:0", "sim:0", "cpu:0"]


def test_a_placement_that_is_slower_when_it_is_tried_is_not_taken(assume: Assume) -> None:
    assume(SLOW_ON_CPU, trial=(1.0, 0.96))
    assert len(set(devices_of(auto_plan()))) == 1


def test_until_the_preferred_device_is_known_it_runs_all(assume: Assume) -> None:
    assume({"tanh": {"cpu:0": None}, "exp": {"cpu:0": 1.0}})  # type: ignore[dict-item]
    assert devices_of(auto_plan()) == ["cpu:0"] * 4


def test_a_named_device_is_not_left(assume: Assume, set_setting: Callable[[str, str], None]) -> None:
    assume(SLOW_ON_CPU)
    assert devices_of(auto_plan(device="cpu")) == ["cpu:0"] * 4
    set_setting("TUNE", "0")
    assert devices_of(auto_plan()) == ["cpu:0"] * 4


def test_nodes_of_state_and_of_a_named_device_stay(assume: Assume) -> None:
    cache = px.state((4, WIDTH), px.float64, device="cpu")

    def function(x: px.Array) -> px.Array:
        with px.use_device("sim:0"):
            x = px.sin(x)
        return px.tanh(px.add(px.exp(x), cache[:1, :]))

    assume({"sin": {"sim:0": 1.0}, "add": {"cpu:0": 1.0}, "tanh": {"cpu:0": 1.0}, "exp": {"cpu:0": 1.0}})
    plan = auto_plan(function)
    places = {node.spec.name: place for node, place in zip(plan.graph.nodes, devices_of(plan), strict=True)}
    assert places["sin"] == "sim:0"
    assert places["add"] == "cpu:0"
    assert places["tanh"] != "cpu:0" != places["exp"]
    x = np.linspace(0, 1, 3 * WIDTH).reshape(3, WIDTH)
    np.testing.assert_allclose(result(plan), np.tanh(np.exp(np.sin(x))), rtol=1e-12)


def test_small_graphs_are_not_measured(tuned: SimulatedBackend) -> None:
    assert devices_of(auto_plan()) == ["cpu:0"] * 4
    assert TUNER.known(NODES) == TUNER.known(COPIES) == 0


# ---- measuring


def node_of(function: Any, n: int = 4) -> tuple[Node, Any]:
    graph = px.graph.trace(lambda x: function(x), SPECS)
    return graph.nodes[0], BoundCalls({"n": n}).at(graph.nodes[0])


def test_a_node_is_measured_once(tuned: SimulatedBackend) -> None:
    tuned.kernel("tanh").delay = 2e-3
    node, call = node_of(px.tanh)
    px.reset_explain()
    found = node_seconds(node, call, [tuned.device], Budget(60))
    assert 2e-3 <= found[tuned.device] < 0.1
    launches = tuned.kernel("tanh").num_launches
    assert launches > 9
    TUNER.forget()  # of this process: the file knows
    assert node_seconds(node, call, [tuned.device], Budget(0)) == found
    assert tuned.kernel("tanh").num_launches == launches
    assert str(px.explain()) == str(px.explain()).splitlines()[0] + "\n" + str(px.explain()).splitlines()[1]
    assert TUNER.known(NODES) == 1


def test_weights_that_are_measured_with_are_like_the_nodes(tuned: SimulatedBackend) -> None:
    """Views of one value, a large weight whose rows are repeated, and small constants as they are."""
    weight = px.constant(np.random.default_rng(0).standard_normal((40_000, WIDTH)).astype(np.float32))

    def function(x: px.Array) -> px.Array:
        return px.nn.linear(x[:, 4:12], px.constant(np.ones((3, 8), np.float32)))

    for made in (function, lambda x: px.nn.linear(x, weight), lambda x: px.nn.take_rows(x, px.asarray(np.int32([2])))):
        graph = px.graph.trace(lambda x: made(x), {"x": px.TensorSpec((N, WIDTH), px.float32)})  # noqa: B023
        node = graph.nodes[-1]
        found = node_seconds(node, BoundCalls({"n": 4}).at(node), [tuned.device], Budget(60))
        assert found[tuned.device] > 0


def test_without_time_nothing_is_measured(tuned: SimulatedBackend) -> None:
    node, call = node_of(px.tanh)
    assert node_seconds(node, call, [tuned.device], Budget(0)) == {}
    assert copy_cost(tuned.device, Budget(0)) is None
    assert tuned.kernel("tanh").num_launches == 0


def test_a_node_that_cannot_be_measured_is_not_known(tuned: SimulatedBackend) -> None:
    node, call = node_of(px.tanh)
    tuned.kernel("tanh").raises = DeviceLostError("gone")
    assert node_seconds(node, call, [tuned.device], Budget(60)) == {}
    assert TUNER.known(NODES) == 0


def test_copies_are_measured_once(tuned: SimulatedBackend) -> None:
    found = copy_cost(tuned.device, Budget(60))
    assert found is not None
    assert 0 < found.latency < 1e-2
    assert found.write_rate > 1e6 < found.read_rate
    tuned.memory.forget()
    TUNER.forget()
    assert copy_cost(tuned.device, Budget(0)) == found
    assert tuned.memory.writes == []


def test_all_is_measured_and_tried_for_auto(tuned: SimulatedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays decide: two nodes are slow on both simulated devices, which leaves the cpu; nothing is left behind."""
    monkeypatch.setattr(automatic, "_LEAST_OPERATIONS", 0)
    monkeypatch.setattr(automatic, "candidates", lambda: [px.get_device("cpu"), *tuned.all_devices])
    for table in tuned.tables:
        table["sin"][0].delay = table["sqrt"][0].delay = 3e-3
    notes: dict[str, float] = {}
    with px.graph.measuring(60, notes.__setitem__):
        plan = auto_plan()
    assert list(notes.values()) == sorted(notes.values())
    assert 0 <= min(notes.values()) < max(notes.values()) < 60
    assert devices_of(plan)[0] == devices_of(plan)[3] == "cpu:0"
    assert {"copies of sim:0", "copies of sim:1", "tanh on cpu:0", "sqrt on sim:1"} <= notes.keys()
    np.testing.assert_allclose(result(plan), expected(), rtol=1e-12)


def test_plans_that_are_tried_leave_no_copies_of_constants(tuned: SimulatedBackend) -> None:
    from perfxapi.graph.rehearsal import seconds_side_by_side

    ones = px.constant(np.ones(WIDTH))
    cache = px.state((4, WIDTH), px.float64, device="cpu")
    graph = px.graph.trace(lambda x: px.tanh(px.add(px.add(x, ones), cache[:1, :])), SPECS)
    nodes = [
        Node(n.spec, n.inputs, n.outputs, n.attributes, d)
        for n, d in zip(graph.nodes, [tuned.device, None, None], strict=False)
    ]
    mixed = px.graph.Graph(graph.inputs, nodes, graph.outputs)
    calls = BoundCalls({"n": 4})
    tuned.kernel("add").delay = 5e-3
    single_seconds, mixed_seconds = seconds_side_by_side(graph, mixed, px.get_device("cpu"), calls)
    assert mixed_seconds > 5e-3 > single_seconds
    assert ones.view.buffer.valid_spaces == {"host"}
    assert not np.asarray(cache).any()
    assert TUNER.known(PLANS) == 1
    launches = tuned.kernel("add").num_launches
    assert seconds_side_by_side(graph, mixed, px.get_device("cpu"), calls) == (single_seconds, mixed_seconds)
    assert tuned.kernel("add").num_launches == launches


def test_the_command_measures_copies_and_shows_what_is_known(
    tuned: SimulatedBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfxapi.cli import main, tune_command

    monkeypatch.setattr(tune_command, "candidates", lambda: [px.get_device("cpu"), *tuned.all_devices])
    assert main(["tune", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["copies"].keys() == {"sim:0", "sim:1"}
    assert found["known"] == {"choices": 0, "nodes": 0, "copies": 2, "plans": 0}
    assert captured.err.count("measuring copies of sim:0") == 3
    assert main(["tune"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "us a copy" in captured.out
    assert "2 copies" in captured.out
    assert main(["tune", "--forget", "--seconds", "0"]) == 0
    assert "0 copies" in capsys.readouterr().out


def test_what_was_measured_before_an_interruption_is_kept(
    tuned: SimulatedBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfxapi.cli import main, tune_command

    def interrupted(device: Device, budget: Budget) -> object:
        if str(device) == "sim:1":
            raise KeyboardInterrupt
        return copy_cost(device, budget)

    monkeypatch.setattr(tune_command, "candidates", lambda: tuned.all_devices)
    monkeypatch.setattr(tune_command, "copy_cost", interrupted)
    assert main(["tune"]) == 130
    assert f"interrupted; what was measured until then is kept in {TUNER.path()}" in capsys.readouterr().err
    TUNER.forget()
    assert TUNER.known(COPIES) == 1
    assert [path.name for path in TUNER.path().parent.iterdir()] == [TUNER.path().name]


def test_on_a_terminal_the_time_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from perfxapi.cli.progress_line import progress_line

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_line(60) as note:
        note("tanh on cpu:0", 0.0)
        note("copies of sim:0", 20.0)
        note("sqrt on sim:1", 70.0)
    lines = capsys.readouterr().err.split("\r\x1b[K")
    assert lines == [
        "",
        f"[{'-' * 30}] 0 of 60 s: tanh on cpu:0",
        f"[{'#' * 10}{'-' * 20}] 20 of 60 s: copies of sim:0",
        f"[{'#' * 30}] 70 of 60 s: sqrt on sim:1",
        "",
    ]
