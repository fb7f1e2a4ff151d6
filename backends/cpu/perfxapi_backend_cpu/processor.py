"""What the processor calls itself."""

from __future__ import annotations

import platform
from pathlib import Path

ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse N1",
    (0x41, 0xD40): "Neoverse V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD49): "Neoverse N2",
    (0x41, 0xD4F): "Neoverse V2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "TaiShan v110",
    (0xC0, 0xAC3): "Ampere-1",
}
"""Names of Arm cores by implementer and part number (register MIDR_EL1; the makers' manuals)."""


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model name where the system tells it, the kinds of cores by their numbers on Arm, else the architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.machine()
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    for name, value in fields:
        if name == "model name":
            return value
    implementers = [value for name, value in fields if name == "CPU implementer"]
    parts = [value for name, value in fields if name == "CPU part"]
    cores = [ARM_CORES.get((int(a, 0), int(b, 0))) for a, b in zip(implementers, parts, strict=False)]
    return " + ".join(dict.fromkeys(core for core in cores if core)) or platform.machine()
