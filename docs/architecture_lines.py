"""How many lines a processor architecture takes: the tables of adding-a-backend.md, counted from the files."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADERS = "perfxapi/include/perfx"


@dataclass(frozen=True, slots=True)
class Part:
    """Files with one purpose: patterns below the checkout, and where only some lines count, what these match."""

    purpose: str
    patterns: tuple[str, ...]
    only: str = ""


_NEON = r"neon|dotprod|i8mm|aarch64|arm64|HWCAP|hwcap|auxv"
ARCHITECTURES = {
    "RISC-V (`backends/riscv`), four lengths of registers with Zvfhmin and without, and none": (
        Part("SIMD layer", ("backends/riscv/csrc/simd*.hpp", "backends/riscv/csrc/linear_simd*.hpp")),
        Part(
            "table: a source for each family of kernels, detection",
            ("backends/riscv/csrc/*.cpp", "backends/riscv/csrc/kernel_table.hpp"),
        ),
        Part(
            "the distribution",
            ("backends/riscv/CMakeLists.txt", "backends/riscv/pyproject.toml", "backends/riscv/perfxapi_*/*.py"),
        ),
    ),
    "Arm (in `backends/cpu`): NEON, dot product, i8mm": (
        Part("SIMD layer", ("backends/cpu/csrc/simd_neon.hpp", "backends/cpu/csrc/linear_*_neon.hpp")),
        Part(
            "table: a source for each family of kernels",
            ("backends/cpu/csrc/*_neon.cpp", "backends/cpu/csrc/*_dotprod.cpp", "backends/cpu/csrc/*_i8mm.cpp"),
        ),
        Part(
            "lines that name it in files of all architectures",
            ("backends/cpu/csrc/kernel_tables.hpp", "backends/cpu/csrc/library.cpp", "backends/cpu/CMakeLists.txt"),
            _NEON,
        ),
    ),
}
SHARED = (
    Part("the host: pool, command lists, packing, tables of variants, the build",
         (f"{HEADERS}/host/*", f"{HEADERS}/host.h", f"{HEADERS}/thread_pool.hpp", f"{HEADERS}/command_list.hpp")),
    Part("what layers start from: the portable one, the operations of vector types",
         (f"{HEADERS}/simd_*.hpp", f"{HEADERS}/linear_simd_portable.hpp")),
    Part("the kernels, written once: products with packed weights and of matrices",
         (f"{HEADERS}/linear*.hpp", f"{HEADERS}/matmul*.hpp", f"{HEADERS}/packing.h")),
    Part("the kernels, written once: everything else", (f"{HEADERS}/kernels/*.hpp",)),
)  # fmt: skip
"""What no architecture writes again. A file counts for the first part that names it."""


def code_lines(path: Path, only: str = "") -> int:
    """Lines that are neither blank nor comments nor docstrings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".cpp", ".hpp", ".h"):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    else:
        text = _without_docstrings(text) if path.suffix == ".py" else text
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return sum(bool(line.strip()) and re.search(only, line) is not None for line in text.splitlines())


def _without_docstrings(text: str) -> str:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


def files_of(part: Part) -> list[Path]:
    """The files of a part. Raises ValueError for a pattern that has none."""
    found: dict[Path, None] = {}
    for pattern in part.patterns:
        files = sorted(path for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".so")
        if not files:
            raise ValueError(f"no file is called {pattern}")
        found.update(dict.fromkeys(files))
    return list(found)


def section() -> str:
    """The tables: for each architecture its files, then what all share."""
    blocks = []
    for name, parts in ARCHITECTURES.items():
        rows, counts = [], {part.purpose: 0 for part in parts}
        for part in parts:
            for path in files_of(part):
                code = code_lines(path, part.only)
                total = "" if part.only else str(len(path.read_text(encoding="utf-8").splitlines()))
                rows.append([f"`{path.relative_to(ROOT).as_posix()}`", part.purpose, str(code), total])
                counts[part.purpose] += code
        summary = "; ".join(f"{purpose}: {count}" for purpose, count in counts.items())
        blocks += [f"**{name}: {sum(counts.values())} lines of code.** {summary}.", _table(rows, "for")]
    rows, counted = [], set[Path]()
    for part in SHARED:
        files = [path for path in files_of(part) if path not in counted]
        counted.update(files)
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
        names = ", ".join(f"`{pattern.removeprefix('perfxapi/include/')}`" for pattern in part.patterns)
        rows.append([names, part.purpose, str(sum(map(code_lines, files))), str(lines)])
    return "\n\n".join([*blocks, "**Shared by all, and not written again:**", _table(rows, "what")])


def _table(rows: list[list[str]], second: str) -> str:
    lines = [["file", second, "lines of code", "all lines"], ["---", "---", "---:", "---:"], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
