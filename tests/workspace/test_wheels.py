"""What `make wheels` reads of the libraries it has built, on the library of this checkout."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import perfxapi_backend_cpu
from scripts import wheels

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(perfxapi_backend_cpu.__file__).parent / "_native.so"


@pytest.fixture(scope="module")
def data() -> bytes:
    return LIBRARY.read_bytes()


@pytest.fixture
def target(data: bytes) -> wheels.Target:
    """One that the library of this checkout serves."""
    library = wheels.read_library(data)
    return wheels.Target("here", library.machine, library.glibc)


def packed(folder: Path, data: bytes) -> Path:
    path = folder / "some-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("some/_native.so", data)
    return path


def test_what_a_library_needs(data: bytes) -> None:
    library = wheels.read_library(data)
    named = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_([\d.]+)(?=\0)", data)}
    assert library.glibc == max(named)
    assert library.needed
    assert all(name.encode() in data for name in library.needed)
    assert any(name.startswith("libc.so") for name in library.needed)


def test_a_library_that_works_where_its_tag_says(tmp_path: Path, data: bytes, target: wheels.Target) -> None:
    assert wheels.check_wheel(packed(tmp_path, data), target) == target.glibc


def test_libraries_that_would_not_work_elsewhere(tmp_path: Path, data: bytes, target: wheels.Target) -> None:
    older = replace(target, glibc=(2, 1))
    with pytest.raises(wheels.WheelError, match=r"its tag says 2\.1"):
        wheels.check_wheel(packed(tmp_path, data), older)
    with pytest.raises(wheels.WheelError, match="not EM_S390"):
        wheels.check_wheel(packed(tmp_path, data), replace(target, machine="EM_S390"))
    with pytest.raises(wheels.WheelError, match="a path of this machine"):
        wheels.check_wheel(packed(tmp_path, data + f"{ROOT}/perfxapi/include/x.hpp".encode()), target)
    with pytest.raises(wheels.WheelError, match=r"needs libm\.xo\.7"):
        wheels.check_wheel(packed(tmp_path, data.replace(b"libm.so.6\0", b"libm.xo.7\0", 1)), target)
    zipfile.ZipFile(tmp_path / "empty.whl", "w").close()
    with pytest.raises(wheels.WheelError, match="no native library"):
        wheels.check_wheel(tmp_path / "empty.whl", target)


def test_targets_of_projects() -> None:
    targets = list(wheels.TARGETS.values())
    assert {project.relative_to(ROOT).as_posix() for project in wheels.all_projects()} >= {".", "llm", "backends/cpu"}
    assert wheels.targets_of(ROOT / "llm", targets) == [None]
    assert wheels.targets_of(ROOT / "backends/cpu", targets) == targets
    assert wheels.targets_of(ROOT / "backends/riscv", targets) == [wheels.TARGETS["riscv64"]]


def test_tags() -> None:
    assert wheels.TARGETS["riscv64"].tag == "manylinux_2_31_riscv64"
    assert wheels.TARGETS["aarch64"].zig == "aarch64-linux-gnu.2.28"
