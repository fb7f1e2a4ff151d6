"""Which processors share what, and in which orders threads take them, on trees as several kinds of machines have."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfxapi.native.topology import Topology, allowed_processors, read_topology
from perfxapi.settings import processor_list, processor_numbers


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def add(
    folder: Path,
    processors: str,
    *,
    package: str,
    node: int | None = None,
    level2: str = "",
    level3: str = "",
    siblings: str = "",
    cluster: str = "",
    capacity: int | None = None,
) -> None:
    """Files of processors that share all that is given; without `siblings` each is a core of its own."""
    for number in processor_numbers(processors):
        of_one = folder / f"cpu{number}"
        put(of_one / "topology/thread_siblings_list", siblings or str(number))
        put(of_one / "topology/core_siblings_list", package)
        if cluster:
            put(of_one / "topology/cluster_cpus_list", cluster)
        if node is not None:
            (of_one / f"node{node}").mkdir()
        if capacity is not None:
            put(of_one / "cpu_capacity", str(capacity))
        # the instructions of every level 1 are shared by more than its data where a tree says so: they do not count
        caches = [("1", "Data", siblings or str(number)), ("1", "Instruction", package)]
        caches += [("2", "Unified", level2)] if level2 else []
        caches += [("3", "Unified", level3)] if level3 else []
        for index, (level, kind, shared) in enumerate(caches if level2 or level3 else ()):
            put(of_one / f"cache/index{index}/level", level)
            put(of_one / f"cache/index{index}/type", kind)
            put(of_one / f"cache/index{index}/shared_cpu_list", shared)


SG2042_NODES = ("0-7,16-23", "8-15,24-31", "32-39,48-55", "40-47,56-63")


@pytest.fixture
def sg2042(tmp_path: Path) -> Path:
    """64 cores in clusters of 4 that share a level-2 cache; a memory node has 4 clusters, numbered in two runs."""
    for first in range(0, 64, 4):
        node = next(i for i, listed in enumerate(SG2042_NODES) if first in processor_numbers(listed))
        cluster = f"{first}-{first + 3}"
        add(tmp_path, cluster, package="0-63", node=node, level2=cluster, level3="0-63", cluster=cluster)
    return tmp_path


def test_sg2042(sg2042: Path) -> None:
    found = read_topology(sg2042, range(64))
    assert found.clusters == [list(range(first, first + 4)) for first in range(0, 64, 4)]
    assert found.compact() == [number for listed in SG2042_NODES for number in processor_numbers(listed)]
    spread = found.spread()
    assert spread[:8] == [0, 8, 32, 40, 4, 12, 36, 44]
    assert sorted(number // 4 for number in spread[:16]) == list(range(16))
    assert spread[16:20] == [1, 9, 33, 41]
    assert sorted(spread) == list(range(64))


def test_only_processors_that_are_allowed_are_taken(sg2042: Path) -> None:
    found = read_topology(sg2042, [2, 3, 6, 7, 8, 16])
    assert found.clusters == [[2, 3], [6, 7], [8], [16]]
    assert found.compact() == [2, 3, 6, 7, 16, 8]
    assert found.spread() == [2, 8, 6, 16, 3, 7]


def test_cores_with_level_2_caches_of_their_own_are_a_cluster_by_level_3(tmp_path: Path) -> None:
    for number in range(8):
        socket, own = "0-3" if number < 4 else "4-7", str(number)
        add(tmp_path, own, package=socket, node=number // 4, level2=own, level3=socket, cluster=own)
    found = read_topology(tmp_path, range(8))
    assert found.clusters == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found.compact() == list(range(8))
    assert found.spread() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_several_level_3_caches_in_a_memory_node(tmp_path: Path) -> None:
    """As on processors made of small dies: hyperthreads n and n + 8, four cores on each level-3 cache."""
    for number in range(16):
        core = number % 8
        pair, shared = f"{core},{core + 8}", "0-3,8-11" if core < 4 else "4-7,12-15"
        add(tmp_path, str(number), package="0-15", node=0, level2=pair, level3=shared, siblings=pair)
    found = read_topology(tmp_path, range(16))
    assert found.clusters == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    assert found.compact() == list(range(16))
    assert found.spread() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_hyperthreads_that_are_numbered_in_pairs_come_last(tmp_path: Path) -> None:
    for number in range(8):
        pair = f"{number & ~1}-{number | 1}"
        add(tmp_path, str(number), package="0-7", node=0, level2=pair, level3="0-7", siblings=pair)
    found = read_topology(tmp_path, range(8))
    assert found.clusters == [list(range(8))]
    assert found.compact() == found.spread() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert read_topology(tmp_path, [1, 2, 3]).compact() == [1, 2, 3]


def test_slower_cores_come_after_the_fast_ones(tmp_path: Path) -> None:
    """As on phones and laptops, where the slow cores are numbered first."""
    add(tmp_path, "0-3", package="0-7", level2="0-3", capacity=380)
    add(tmp_path, "4-7", package="0-7", level2="4-7", capacity=1024)
    found = read_topology(tmp_path, range(8))
    assert found.clusters == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found.compact() == found.spread() == [4, 5, 6, 7, 0, 1, 2, 3]


@pytest.mark.parametrize(("cluster", "spread"), [("", [0, 1, 2, 3]), ("shared", [0, 2, 1, 3])])
def test_without_caches_clusters_are_those_of_the_kernel_or_the_package(
    tmp_path: Path, cluster: str, spread: list[int]
) -> None:
    for processors in ("0-1", "2-3"):
        add(tmp_path, processors, package="0-3", cluster=processors if cluster else "")
    found = read_topology(tmp_path, range(4))
    assert found.clusters == ([[0, 1], [2, 3]] if cluster else [[0, 1, 2, 3]])
    assert found.compact() == [0, 1, 2, 3]
    assert found.spread() == spread


def test_a_system_that_tells_nothing_is_one_cluster(tmp_path: Path) -> None:
    found = read_topology(tmp_path / "missing", [0, 1, 5])
    assert found.clusters == [[0, 1, 5]]
    assert found.compact() == found.spread() == [0, 1, 5]
    assert Topology(()).spread() == []


def test_this_machine_has_every_allowed_processor_once() -> None:
    found = read_topology()
    for order in (found.compact(), found.spread(), [number for cluster in found.clusters for number in cluster]):
        assert sorted(order) == list(allowed_processors())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", ()), ("3", (3,)), ("0-3,8", (0, 1, 2, 3, 8)), (" 5 , 2-2 ,", (5, 2)), ("0,2,4", (0, 2, 4))],
)
def test_lists_of_processors(text: str, numbers: tuple[int, ...]) -> None:
    assert processor_numbers(text) == numbers
    assert processor_numbers(processor_list(numbers)) == numbers


@pytest.mark.parametrize("text", ["x", "-1", "3-1", "1-", "0-99999999999", "1 2", "0x1", "1.5"])
def test_what_is_no_list_of_processors_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        processor_numbers(text)
