"""Sources of kernels become shared libraries, compiled once and kept under a name made of all that they depend on.

What counts: the text, the language, the flags, the compiler (file, size, time), the headers of the core, the folder of
a source that is a file, and the instructions of this processor. So nothing is compiled twice, an old library is never
taken for a new source, and machines can share a folder. Headers of your own do not count: after a change of one,
change the flags (`-DVERSION=2`) or the name of the kernels, and they are compiled again.

A library that is loaded is code that runs: it is taken only from a folder where nobody else can put one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perfxapi.errors import CompileError, InvalidArgumentError, UnknownNameError
from perfxapi.native import include_dir
from perfxapi.settings import cache_folder, settings

COMPILE_SECONDS = 120.0
"""How long a compiler may take for one source."""
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
            return [os.path.abspath(path), *command[1:]]  # it is started in a folder of its own
    tried = f"{toolchain.variable}={named[0]}" if named else ", ".join(toolchain.commands)
    mend = f"install one (apt install gcc g++, dnf install gcc-c++) or name one in {toolchain.variable}"
    raise CompileError(name, f"no compiler for {language} is found (tried {tried}); to mend it: {mend}")


def compile_library(name: str, source: str | Path, language: str = "c", flags: Sequence[str] = ()) -> Path:
    """The shared library that `source` (its text, or the path of a file, beside which its own headers are) compiles to.

    Taken from the folder of compiled kernels (`PERFXAPI_KERNEL_FOLDER`) if it is there. `flags` come last, and so may
    name libraries and override. Raises CompileError with the compiler's own words, and where others than this user and
    root can write to the folder or the library.
    """
    check_name(name)
    suffix = toolchain_of(language).suffix
    text, shown = (source, f"{name}{suffix}") if isinstance(source, str) else (_text_of(name, source), source.name)
    command = [*find_compiler(name, language), *_FLAGS, *toolchain_of(language).flags, *_native_flags()]
    command += [] if isinstance(source, str) else [f"-I{source.parent.absolute()}"]
    target = _folder() / f"{name}-{_digest(text, command, flags)}.so"
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_safe(name, target.parent)
        if target.exists():
            _check_safe(name, target)
        else:
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
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        (Path(work) / shown).write_text(text, encoding="utf-8")
        whole = [*command, f"-I{include_dir()}", shown, "-o", "kernels.so", *flags, "-lm"]
        english = {**os.environ, "LC_ALL": "C"}
        pipe = subprocess.PIPE
        try:
            done = subprocess.run(
                whole, cwd=work, env=english, stdout=pipe, stderr=pipe, timeout=COMPILE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            said = f"its compiler did not end within {COMPILE_SECONDS:g} s"
            raise CompileError(name, said, command=shlex.join(whole)) from None
        except OSError as error:
            said = f"its compiler {whole[0]} cannot be started: {error.strerror}; to mend it: name another in CC or CXX"
            raise CompileError(name, said, command=shlex.join(whole)) from error
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace")
            raise CompileError(name, _first_error(words, done.returncode), words, shlex.join(whole))
        (Path(work) / "kernels.so").chmod(0o755)  # whatever the user's mask leaves to the group
        os.replace(Path(work) / "kernels.so", target)


def _check_safe(name: str, path: Path) -> None:
    """Raises CompileError unless nobody but this user and root can have put something there."""
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        problem, mend = f"belongs to user {facts.st_uid}", f"chown {os.geteuid()} {shlex.quote(str(path))}"
    elif facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem, mend = "can be written by others", f"chmod go-w {shlex.quote(str(path))}"
    else:
        return
    raise CompileError(name, f"{path} {problem}, whose code would run here; to mend it: {mend}")


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
    parts.append(_headers_digest(include_dir()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@cache
def _headers_digest(folder: Path) -> str:
    """Of every header of the core: a source may include any."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _machine() -> str:
    """The instructions of this processor as the system lists them; its kind alone where it lists none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    listed = next((line for line in lines if line.lower().startswith(("flags", "features", "isa"))), "")
    return f"{platform.machine()} {listed}" if listed else platform.machine()


def _native_flags() -> tuple[str, ...]:
    """All instructions of this processor, where they are part of the library's name."""
    listed = _machine() != platform.machine()
    return ("-march=native",) if listed and platform.machine() in ("x86_64", "aarch64") else ()
