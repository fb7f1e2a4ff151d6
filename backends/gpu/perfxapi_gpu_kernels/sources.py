"""Kernel sources: one file of the dialect, its includes and the prelude of an API become the text of a program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from perfxapi_gpu_kernels.driver import Properties

_FOLDER = Path(__file__).parent
_PRELUDES = {"opencl": ("opencl.h",), "cuda": ("cuda.h", "cxx.h"), "hip": ("hip.h", "cxx.h")}
_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)
_ENTRY = re.compile(r"^KERNEL(?:_OF\([^)]*\))?\s+(\w+)\(", re.MULTILINE)


class Program(NamedTuple):
    """A source file in `kernels/` (its name without .h), and what is defined for it; or a `text` of that name."""

    source: str
    defines: tuple[tuple[str, str | int], ...] = ()
    text: str = ""


def program(source: str, **defines: str | int) -> Program:
    """A program; equal definitions make equal programs."""
    return Program(source, tuple(sorted(defines.items())))


def program_with(source: str, lines: Mapping[str, str | int]) -> Program:
    """A program whose text is a file after definitions of which no two programs need have the same."""
    defines = "".join(f"#define {name} {value}\n" for name, value in lines.items())
    return Program(source, text=defines + _expanded(source))


@cache
def _expanded(name: str) -> str:
    """A kernel file with what it includes, each file once."""
    seen: set[str] = set()

    def expand(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (_FOLDER / "kernels" / file).read_text()
        return _INCLUDE.sub(lambda found: expand(found.group(1)), text)

    return expand(f"{name}.h")


@cache
def _prelude(dialect: str) -> str:
    return "".join((_FOLDER / "dialect" / name).read_text() for name in (*_PRELUDES[dialect], "common.h"))


def _text_of(wanted: Program) -> str:
    return wanted.text or _expanded(wanted.source)


def entries(wanted: Program) -> list[str]:
    """The names of the kernels in a program's source, each once, though it may have several forms."""
    return list(dict.fromkeys(_ENTRY.findall(_text_of(wanted))))


def source_text(wanted: Program, properties: Properties) -> str:
    """The whole text of a program for a device."""
    features = {
        "HAS_DOUBLE": int(properties.has_double),
        "HAS_SUBGROUPS": int(properties.has_subgroups),
        "HAS_HALF": int(properties.has_half),
        "HAS_DOT4": int(properties.has_dot4),
        "IS_PROCESSOR": int(properties.is_processor),
    }
    lines = "".join(f"#define {name} {value}\n" for name, value in (*features.items(), *wanted.defines))
    return f'{lines}{_prelude(properties.dialect)}\n#line 1 "{wanted.source}.h"\n{_text_of(wanted)}'
