"""What the benches that count instead of taking the time share: their tools."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence


class CannotCountError(Exception):
    """What is needed for counting is not there, or did not work; the message says how to get it."""


def find_tool(names: Sequence[str], hint: str) -> str:
    """The path of the first of some programs that is installed. Raises CannotCountError."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise CannotCountError(f"{names[0]} is not installed: {hint}")


def find_llvm(name: str) -> str:
    """The path of one of LLVM's programs. Raises CannotCountError."""
    return find_tool([f"{name}-19", name], "on Debian: apt-get install llvm-19")


def zig(language: str, target: str) -> list[str]:
    """zig's compiler for `c` or `c++`. Raises CannotCountError."""
    if importlib.util.find_spec("ziglang") is None:
        raise CannotCountError("the compiler is not installed: pip install ziglang")
    return [sys.executable, "-m", "ziglang", "cc" if language == "c" else "c++", "-target", target]
