"""Sources of kernels become shared libraries, compiled once and kept under a name made of all that they depend on.

What counts: the text, the language, the flags, the compiler (file, size, time), the headers, and the instructions of
this processor. So nothing is compiled twice, an old library is never taken for a new source, and machines can share a
folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perfxapi.errors import CompileError, InvalidArgumentError, UnknownNameError
from perfxapi.native import include_dir
from perfxapi.settings import cache_folder, settings

_SECONDS = 120.0
_HEADERS = ("perfx/abi.h", "perfx/kernel.h")
_FLAGS = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
"""As for the kernels of the core: the compiler may not say which products are fused."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How one language is compiled: the variable that names a compiler, those looked for, a file suffix, flags."""

    variable: str
    commands: tuple[str, ...]
    suffix: str
    flags: tuple[str, ...]


TOOLCHAINS = {
    # a kernel of another signature is a warning to older compilers of C
    "c": Toolchain("CC", ("cc", "gcc", "clang"), ".c", ("-std=c11", "-Werror=incompatible-pointer-types")),
    "c++": Toolchain("CXX", ("c++", "g++", "clang++"), ".cpp", ("-std=c++17",)),
}


def check_name(name: str) -> None:
    """Raises InvalidArgumentError for a name of kernels that is no lower-case identifier: files are called by it."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InvalidArgumentError(f"kernels {name!r}: the name must be lower-case letters, digits and underscores")


def toolchain_of(language: str) -> Toolchain:
    """The toolchain of "c" or "c++". Raises UnknownNameError."""
    try:
        return TOOLCHAINS[language]
    except KeyError:
        raise UnknownNameError("language", language, list(TOOLCHAINS)) from None


def find_compiler(name: str, language: str) -> list[str]:
    """The command of the compiler: what $CC or $CXX holds, else the first that is installed. Raises CompileError."""
    toolchain = toolchain_of(language)
    try:
        named = shlex.split(os.environ.get(toolchain.variable, ""))
    except ValueError as error:
        raise CompileError(name, f"{toolchain.variable} is no command: {error}") from None
    for command in (named,) if named else ([command] for command in toolchain.commands):
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    tried = f"{toolchain.variable}={named[0]}" if named else ", ".join(toolchain.commands)
    mend = f"install one (apt install gcc g++, dnf install gcc-c++) or name one in {toolchain.variable}"
    raise CompileError(name, f"no compiler for {language} is found (tried {tried}); to mend it: {mend}")


def compile_library(name: str, source: str | Path, language: str = "c", flags: Sequence[str] = ()) -> Path:
    """The shared library that `source` (its text, or the path of a file that stands for itself) compiles to.

    Taken from the folder of compiled kernels (`PERFXAPI_KERNEL_FOLDER`) if it is there. `flags` come last, and so may
    name libraries and override. Raises CompileError with the compiler's own words.
    """
    check_name(name)
    suffix = toolchain_of(language).suffix
    text, shown = (source, f"{name}{suffix}") if isinstance(source, str) else (_text_of(name, source), source.name)
    command = [*find_compiler(name, language), *_FLAGS, *toolchain_of(language).flags, *_native_flags()]
    target = _folder() / f"{name}-{_digest(text, command, flags)}.so"
    try:
        if not target.exists():
            _compile(name, text, shown, command, flags, target)
    except OSError as error:
        mend = "name a folder that can be written in PERFXAPI_KERNEL_FOLDER"
        raise CompileError(name, f"{target.parent}: {error}; to mend it: {mend}") from error
    return target


def _text_of(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(name, f"its source {path} cannot be read: {error}") from error


def _compile(name: str, text: str, shown: str, command: list[str], flags: Sequence[str], target: Path) -> None:
    """Compiles beside `target` and moves the result there: another process sees all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        (Path(work) / shown).write_text(text, encoding="utf-8")
        whole = [*command, f"-I{include_dir()}", shown, "-o", "kernels.so", *flags, "-lm"]
        english = {**os.environ, "LC_ALL": "C"}
        pipe = subprocess.PIPE
        try:
            done = subprocess.run(whole, cwd=work, env=english, stdout=pipe, stderr=pipe, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            said = f"its compiler did not end within {_SECONDS:g} s"
            raise CompileError(name, said, command=shlex.join(whole)) from None
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace")
            raise CompileError(name, _first_error(words, done.returncode), words, shlex.join(whole))
        os.replace(Path(work) / "kernels.so", target)


def _first_error(said: str, status: int) -> str:
    """The line that says what is wrong, with the line of the source that follows it."""
    lines = said.strip().splitlines()
    for index, line in enumerate(lines):
        if index and "ld returned" in line:
            return f"it cannot be linked: {lines[index - 1].strip()}"
        if "error:" in line:
            shown = lines[index + 1].strip() if index + 1 < len(lines) and "|" in lines[index + 1] else ""
            return f"its source does not compile: {line.strip()}" + (f" [{shown}]" if shown else "")
    return f"its compiler ended with status {status}: {lines[-1] if lines else 'no message'}"


def _folder() -> Path:
    chosen = settings().kernel_folder
    return Path(chosen).absolute() if chosen else cache_folder().absolute() / "kernels"


def _digest(text: str, command: Sequence[str], flags: Sequence[str]) -> str:
    compiler = Path(command[0]).resolve()
    facts = compiler.stat()
    parts = [text, *command, "", *flags, f"{compiler} {facts.st_size} {facts.st_mtime_ns}", _machine()]
    parts += [(include_dir() / header).read_text() for header in _HEADERS]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@cache
def _machine() -> str:
    """The instructions of this processor as the system lists them; its kind alone where it lists none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    listed = next((line for line in lines if line.lower().startswith(("flags", "features", "isa"))), "")
    return f"{platform.machine()} {listed}"


def _native_flags() -> tuple[str, ...]:
    """All instructions of this processor, where they are part of the library's name."""
    listed = _machine() != platform.machine()
    return ("-march=native",) if listed and platform.machine() in ("x86_64", "aarch64") else ()
