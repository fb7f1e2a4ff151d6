"""What a processor is called."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from perfxapi_backend_cpu.processor import processor_name

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor @ 2.50GHz\nflags\t: fpu\n"
ARM = "processor\t: {}\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {}\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (X86, "Intel(R) Xeon(R) Processor @ 2.50GHz"),
        (ARM.format(0, "0xd0c") + ARM.format(1, "0xd0c"), "Neoverse N1"),
        (ARM.format(0, "0xd05") + ARM.format(1, "0xd0b"), "Cortex-A55 + Cortex-A76"),
        (ARM.format(0, "0xfff"), platform.machine()),
        ("", platform.machine()),
    ],
)
def test_the_name_is_the_systems_or_that_of_the_cores(tmp_path: Path, cpuinfo: str, expected: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert processor_name(path) == expected


def test_a_system_that_tells_nothing_has_its_architecture(tmp_path: Path) -> None:
    assert processor_name(tmp_path / "missing") == platform.machine()
