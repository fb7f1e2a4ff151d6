"""What a setting of affinity means on a machine, and the table of chips."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from perfxapi.errors import InvalidArgumentError
from perfxapi.native.affinity import Placement, place
from perfxapi.native.chips import CHIPS, Chip, chip_identities, known_chip
from perfxapi.native.topology import Place, Topology
from perfxapi.settings import AffinityPolicy

TOPOLOGY = Topology(tuple(Place(number, 0, 1024, 0, 0, 0, number & ~1, number) for number in range(4)))
"""Four cores, of which two share a cluster."""
SPREADING = Chip("Some Chip", ("maker,some",), "spread", "measured by its maker")


@pytest.mark.parametrize(
    ("wanted", "num_threads", "chip", "expected"),
    [
        ("", 2, None, Placement("none", "default", ())),
        ("", 2, SPREADING, Placement("spread", "Some Chip: measured by its maker", (0, 2))),
        ("none", 2, SPREADING, Placement("none", "PERFXAPI_AFFINITY", ())),
        ("compact", 2, SPREADING, Placement("compact", "PERFXAPI_AFFINITY", (0, 1))),
        ("spread", 3, None, Placement("spread", "PERFXAPI_AFFINITY", (0, 2, 1))),
        ("compact", 6, None, Placement("compact", "PERFXAPI_AFFINITY", (0, 1, 2, 3, 0, 1))),
        ((3, 1), 2, None, Placement("numbers", "PERFXAPI_AFFINITY", (3, 1))),
    ],
)
def test_placements(
    wanted: AffinityPolicy | tuple[int, ...], num_threads: int, chip: Chip | None, expected: Placement
) -> None:
    assert place(wanted, num_threads, TOPOLOGY, chip) == expected


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0, 7, 9), "processors that .* are not there: 7,9; it may use 0-3"),
        ((0,), "1 processors for 3 threads: name one for each, or set PERFXAPI_NUM_THREADS=1"),
        ((0, 1, 2, 3), "4 processors for 3 threads: .*PERFXAPI_NUM_THREADS=4"),
    ],
)
def test_numbers_that_cannot_be_met_are_refused(numbers: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^PERFXAPI_AFFINITY names {problem}"):
        place(numbers, 3, TOPOLOGY, None)


def test_a_system_without_affinity_takes_none_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_setaffinity", raising=False)
    assert place("none", 2, TOPOLOGY, None).processors == ()
    for wanted in ("compact", (0, 1)):
        with pytest.raises(InvalidArgumentError, match="PERFXAPI_AFFINITY must be none here"):
            place(wanted, 2, TOPOLOGY, None)


# ---- the table of chips

PIONEER = b"milkv,pioneer\0sophgo,sg2042\0"
RISCV = "processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdc\nmvendorid\t: {}\nmarchid\t\t: {}\nmimpid\t\t: {}\n\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {}\n\n"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: {}\nmodel name\t: Intel(R) Xeon(R)\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "device_tree", "name"),
    [
        (RISCV.format("0x5b7", "0x0", "0x0"), PIONEER, "Sophgo SG2042"),
        (RISCV.format("0x5b7", "0x0", "0x0"), b"sipeed,lichee-pi-4a\0thead,th1520\0", None),
        (RISCV.format("0x5b7", "0x80000000090c0d00", "0x2047000"), b"", "Sophgo SG2044"),
        (RISCV.format("0x5b7", "0x80000000090c0d00", "0x1"), b"", None),
        (RISCV.format("0x710", "0x8000000058000001", "0x1000000049772200"), b"", "SpacemiT K1"),
        (RISCV.format("0x489", "0x8000000000000008", "0x6220425"), b"", "ESWIN EIC7700 (SiFive P550)"),
        ("", b"starfive,visionfive-2-v1.3b\0starfive,jh7110\0", "StarFive JH7110"),
        ("", b"apple,j293\0apple,t8103\0apple,arm-platform\0", "Apple M1"),
        (ARM.format("0xd0c") + ARM.format("0xd40"), None, "Neoverse N1 (AWS Graviton2, Ampere Altra)"),
        (ARM.format("0xd4f"), None, "Neoverse V2 (AWS Graviton4, NVIDIA Grace)"),
        (X86.format(85), None, "Intel Xeon (Skylake, Cascade Lake)"),
        (X86.format(1), None, None),
    ],
)
def test_chips_are_known_by_their_device_tree_or_their_numbers(
    tmp_path: Path, cpuinfo: str, device_tree: bytes | None, name: str | None
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    if device_tree is not None:
        (tmp_path / "compatible").write_bytes(device_tree)
    found = known_chip(tmp_path / "cpuinfo", tmp_path / "compatible")
    assert (found.name if found else None) == name


def test_identities(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(RISCV.format("0x1", "0x2", "0x3") + RISCV.format("0x4", "0x5", "0x6"))
    (tmp_path / "compatible").write_bytes(PIONEER)
    assert chip_identities(tmp_path / "cpuinfo", tmp_path / "compatible") == {
        "milkv,pioneer", "sophgo,sg2042", "riscv:0x1-0x2", "riscv:0x1-0x2-0x3",
    }  # fmt: skip
    assert chip_identities(tmp_path / "missing", tmp_path / "missing") == set()


def test_a_default_of_the_table_is_none_unless_it_was_measured() -> None:
    for chip in CHIPS:
        assert chip.affinity in get_args(AffinityPolicy)[1:]
        assert chip.source.startswith(("measured", "not measured"))
        if chip.source.startswith("not"):
            assert chip.affinity == "none", chip.name
    identities = [identity for chip in CHIPS for identity in chip.identities]
    assert len(identities) == len(set(identities))
