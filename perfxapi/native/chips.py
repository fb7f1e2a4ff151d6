"""Chips that are known by name, and where the threads of a pool run on them unless the user says so.

A chip's default is what was measured on it, by `python -m bench.affinity`. What nobody of the project has measured
stays `none`: threads are then where the system puts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from perfxapi.settings import AffinityPolicy

CPUINFO = Path("/proc/cpuinfo")
DEVICE_TREE = Path("/sys/firmware/devicetree/base/compatible")


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip. `source` says who measured the default, or that nobody did.

    identities: any of what `chip_identities` gives.
    """

    name: str
    identities: tuple[str, ...]
    affinity: AffinityPolicy
    source: str


# Names of device trees: Linux, Documentation/devicetree/bindings. Numbers of RISC-V cores: Linux,
# tools/perf/pmu-events/arch/riscv/mapfile.csv. Numbers of Arm cores: register MIDR_EL1 in Arm's manuals.
CHIPS = (
    # Clusters of 4 cores that share a level-2 cache and 4 memory nodes, whose processors are 0-7 and 16-23, 8-15 and
    # 24-31, ... (Linux, sg2042-cpus.dtsi): with a thread for each core all orders take the same cores.
    Chip("Sophgo SG2042", ("sophgo,sg2042",), "none", "not measured"),
    Chip("Sophgo SG2044", ("sophgo,sg2044", "riscv:0x5b7-0x80000000090c0d00-0x2047000"), "none", "not measured"),
    Chip("SpacemiT K1", ("spacemit,k1", "riscv:0x710-0x8000000058000001"), "none", "not measured"),
    Chip("StarFive JH7110", ("starfive,jh7110",), "none", "not measured"),
    Chip("ESWIN EIC7700 (SiFive P550)", ("eswin,eic7700", "riscv:0x489-0x8000000000000008"), "none", "not measured"),
    Chip("Neoverse N1 (AWS Graviton2, Ampere Altra)", ("arm:0x41-0xd0c",), "none", "not measured"),
    Chip("Neoverse V1 (AWS Graviton3)", ("arm:0x41-0xd40",), "none", "not measured"),
    Chip("Neoverse V2 (AWS Graviton4, NVIDIA Grace)", ("arm:0x41-0xd4f",), "none", "not measured"),
    Chip("Apple M1", ("apple,t8103", "apple,t6000", "apple,t6001", "apple,t6002"), "none", "not measured"),
    Chip("Apple M2", ("apple,t8112", "apple,t6020", "apple,t6021", "apple,t6022"), "none", "not measured"),
    Chip("Intel Xeon (Skylake, Cascade Lake)", ("x86:GenuineIntel-6-85",), "none", "not measured"),
)
"""The table."""


def known_chip(cpuinfo: Path = CPUINFO, device_tree: Path = DEVICE_TREE) -> Chip | None:
    """The row of this machine's chip; None for one that is not in the table."""
    identities = chip_identities(cpuinfo, device_tree)
    return next((chip for chip in CHIPS if identities.intersection(chip.identities)), None)


def chip_identities(cpuinfo: Path = CPUINFO, device_tree: Path = DEVICE_TREE) -> set[str]:
    """What a machine says its chip is: the names of its device tree, and the numbers of its first processor as
    `riscv:VENDOR-ARCHITECTURE` and `riscv:VENDOR-ARCHITECTURE-IMPLEMENTATION`, `arm:IMPLEMENTER-PART` or
    `x86:VENDOR-FAMILY-MODEL`.
    """
    try:
        names = device_tree.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        names = []
    fields = _first_processor(cpuinfo)
    numbers = []
    for kind, keys in (
        ("riscv", ("mvendorid", "marchid")),
        ("riscv", ("mvendorid", "marchid", "mimpid")),
        ("arm", ("CPU implementer", "CPU part")),
        ("x86", ("vendor_id", "cpu family", "model")),
    ):
        if all(key in fields for key in keys):
            numbers.append(f"{kind}:{'-'.join(fields[key] for key in keys)}")
    return {*filter(None, names), *numbers}


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    """Only the first: with many processors the whole file takes the kernel long to write."""
    try:
        with cpuinfo.open() as lines:
            pairs = [line.partition(":") for line in takewhile(str.strip, lines)]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}
