"""The quickest placement, beside all placements tried one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from perfxapi.graph.placement import CopyCost, Problem, Work, place, single_devices

DEVICES = ("cpu:0", "gpu:0", "gpu:1")
SPACES = {"cpu:0": "host", "gpu:0": "first", "gpu:1": "second"}


def random_problem(seed: int, num_nodes: int = 8) -> Problem:
    """Nodes that read earlier values, some of which are written in place; some devices lack some nodes."""
    rng = np.random.default_rng(seed)
    num_inputs = int(rng.integers(1, 4))
    nodes = []
    for index in range(num_nodes):
        known = num_inputs + index
        reads = tuple(int(v) for v in rng.integers(0, known, rng.integers(1, 4)))
        writes = (known, *((reads[0],) if rng.random() < 0.2 else ()))
        offered = [device for device in DEVICES if rng.random() < 0.85] or [DEVICES[0]]
        nodes.append(Work(reads, writes, {device: float(rng.exponential(20)) for device in offered}))
    nbytes = [int(size) for size in rng.integers(0, 2000, num_inputs + num_nodes)]
    copies = {
        space: CopyCost(float(rng.exponential(5)), float(rng.uniform(20, 400)), float(rng.uniform(20, 400)))
        for space in ("first", "second")
    }
    last = num_inputs + num_nodes - 1
    wanted = frozenset({last, *(int(v) for v in rng.integers(0, last, rng.integers(0, 3)))})
    return Problem(nodes, nbytes, SPACES, copies, frozenset(range(num_inputs)), wanted)


def seconds_of(problem: Problem, devices: tuple[str, ...]) -> float:
    """What a placement takes, followed step by step with sets of names."""
    valid = {value: {"host"} for value in problem.given}
    total = 0.0

    def read(value: int, space: str) -> float:
        if space in valid[value]:
            return 0.0
        cost, size = 0.0, problem.nbytes[value]
        if "host" not in valid[value]:
            (source,) = valid[value]
            cost += problem.copies[source].latency + size / problem.copies[source].read_rate
            valid[value].add("host")
        if space != "host":
            cost += problem.copies[space].latency + size / problem.copies[space].write_rate
            valid[value].add(space)
        return cost

    for work, device in zip(problem.nodes, devices, strict=True):
        space = SPACES[device]
        total += work.seconds[device] + sum(read(value, space) for value in work.reads)
        for value in work.writes:
            valid[value] = {space}
    return total + sum(read(value, "host") for value in problem.wanted)


@pytest.mark.parametrize("seed", range(50))
def test_the_placement_is_the_best_of_all(seed: int) -> None:
    problem = random_problem(seed)
    offered = [tuple(work.seconds) for work in problem.nodes]
    best = min(seconds_of(problem, devices) for devices in itertools.product(*offered))
    found = place(problem)
    assert found is not None
    assert found.seconds == pytest.approx(best, rel=1e-12)
    assert seconds_of(problem, found.devices) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_single_devices(seed: int) -> None:
    problem = random_problem(100 + seed, 4)
    found = single_devices(problem)
    assert found.keys() == set(DEVICES)
    for device, single in found.items():
        devices = tuple(device if device in work.seconds else next(iter(work.seconds)) for work in problem.nodes)
        assert single.devices == devices
        assert single.seconds == pytest.approx(seconds_of(problem, devices), rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_narrow_beam_still_gives_a_placement_that_takes_what_it_says(seed: int) -> None:
    problem = random_problem(200 + seed, 40)
    exact = place(problem)
    for max_states in (1, 8):
        found = place(problem, max_states)
        assert exact is not None
        assert found is not None
        assert found.seconds == pytest.approx(seconds_of(problem, found.devices), rel=1e-12)
        assert found.seconds >= exact.seconds * (1 - 1e-12)
        assert found.seconds <= min(single.seconds for single in single_devices(problem).values()) * (1 + 1e-9)


def test_a_node_that_runs_nowhere() -> None:
    problem = random_problem(0)
    nowhere = Work((0,), (len(problem.nbytes) - 1,), {})
    assert place(Problem([nowhere], problem.nbytes, SPACES, problem.copies, problem.given, frozenset())) is None


def test_nothing_to_place() -> None:
    found = place(Problem([], [4], SPACES, random_problem(0).copies, frozenset({0}), frozenset({0})))
    assert found is not None
    assert (found.devices, found.seconds) == ((), 0.0)
