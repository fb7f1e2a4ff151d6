"""Counting the lines of code that an architecture takes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def counting() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture_lines", ROOT / "docs/architecture_lines.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text", "only", "expected"),
    [
        ("a.cpp", "// one\n\nint a; // two\n/* three\n * four */ int b;\n/*\n\nint c;\n*/\n}\n", "", 3),
        ("a.hpp", "#include <a>\n#define B \\\n  1\n", "", 3),
        ("a.cpp", "int neon; // x\nint sse;\n// neon\nint dotprod;\n", "neon|dotprod", 2),
        (
            "a.py",
            '"""Says\n\nmuch."""\n\n# a comment\nx = 1  # code\n\n\ndef f():\n    """More."""\n    return "#"\n',
            "",
            3,
        ),
        ("CMakeLists.txt", "# a comment\nproject(a) # code\n\nset(b\n    c)\n", "", 3),
    ],
)
def test_code_lines(counting: ModuleType, tmp_path: Path, name: str, text: str, only: str, expected: int) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert counting.code_lines(path, only) == expected


def test_no_file_of_the_riscv_backend_is_left_out(counting: ModuleType) -> None:
    (parts,) = (parts for name, parts in counting.ARCHITECTURES.items() if "`backends/riscv`" in name)
    listed = {path for part in parts for path in counting.files_of(part)}
    backend = ROOT / "backends/riscv"
    suffixes = {".cpp", ".hpp", ".py", ".toml", ".txt"}
    made = {"build", "include"}  # the latter is a copy of the core's headers, for a source distribution
    sources = {path for path in backend.rglob("*") if path.suffix in suffixes}
    assert listed == {path for path in sources if not made.intersection(path.relative_to(backend).parts)}


def test_no_file_of_arm_is_left_out(counting: ModuleType) -> None:
    (parts,) = (parts for name, parts in counting.ARCHITECTURES.items() if name.startswith("Arm "))
    listed = {path for part in parts for path in counting.files_of(part)}
    names = re.compile(r"neon|dotprod|i8mm")
    assert {path for path in (ROOT / "backends/cpu/csrc").iterdir() if names.search(path.name)} <= listed


def test_what_is_shared_counts_once_and_patterns_have_files(counting: ModuleType) -> None:
    section = counting.section()
    rows = [line.split(" | ") for line in section.partition("Shared by all")[2].splitlines() if "`perfx/" in line]
    layers = next(row for row in rows if "simd_portable" in row[0])
    products = next(row for row in rows if "packing.h" in row[0])
    portable = counting.ROOT / counting.HEADERS / "linear_simd_portable.hpp"
    folder = counting.ROOT / counting.HEADERS
    packed = {path for pattern in ("linear*.hpp", "matmul*.hpp", "packing.h") for path in folder.glob(pattern)}
    assert int(products[2]) == sum(counting.code_lines(path) for path in packed - {portable})
    assert int(layers[2]) > counting.code_lines(portable)
    with pytest.raises(ValueError, match="no file is called"):
        counting.files_of(counting.Part("nothing", ("backends/*.nothing",)))
