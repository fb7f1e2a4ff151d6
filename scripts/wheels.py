"""Builds the wheels of every distribution into dist/, for all architectures on any one machine.

    python scripts/wheels.py [--architecture NAME] [--project FOLDER] [--jobs N]    (both options may be repeated)

Native parts are compiled by zig (`pip install ziglang`), whose clang brings each target's C library at the version that
is asked for: a wheel runs wherever the C library is at least as new as its tag says. Each is read again afterwards, as
installers cannot: machine, needed libraries, newest symbol version of the C library, paths of the building machine.

A project with a CMakeLists.txt is native. Where it is not for all architectures its pyproject.toml says for which:

    [tool.perfxapi]
    wheel-architectures = ["riscv64"]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

ROOT = Path(__file__).resolve().parent.parent
TOOLCHAIN = ROOT / "backends" / "cpu" / "cmake" / "zig.cmake"

# What every Linux with glibc has, and so a wheel may need: the libraries of the manylinux policies that we link.
_SYSTEM_LIBRARY = re.compile(r"(libc|libm|libpthread|libdl|librt)\.so\.\d|ld-linux-[\w-]+\.so\.\d")

Version = tuple[int, ...]


class WheelError(Exception):
    """A wheel that would not work elsewhere; says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """An architecture as zig and as ELF call it, and the C library that its wheels need at least.

    x86_64 and aarch64: that of the manylinux_2_28 policy. riscv64: the oldest that has a policy, manylinux_2_31.
    """

    architecture: str
    machine: str
    glibc: Version

    @property
    def zig(self) -> str:
        """The target triple of zig, with the version of the C library."""
        return f"{self.architecture}-linux-gnu.{_dotted(self.glibc)}"

    @property
    def tag(self) -> str:
        """The platform tag of wheels."""
        return f"manylinux_{self.glibc[0]}_{self.glibc[1]}_{self.architecture}"


TARGETS = {
    target.architecture: target
    for target in (
        Target("x86_64", "EM_X86_64", (2, 28)),
        Target("aarch64", "EM_AARCH64", (2, 28)),
        Target("riscv64", "EM_RISCV", (2, 31)),
    )
}


@dataclass(frozen=True, slots=True)
class Library:
    """What a shared library asks of the machine that loads it: see `read_library`."""

    machine: str
    needed: tuple[str, ...]
    glibc: Version


@dataclass(frozen=True, slots=True)
class Built:
    """A wheel in dist/, the seconds it took, and the newest glibc its library asks for; empty for pure Python."""

    path: Path
    seconds: float
    glibc: Version


def read_library(data: bytes) -> Library:
    """Machine (EM_...), needed libraries (DT_NEEDED), and the newest GLIBC_x.y among the versions of needed symbols."""
    elf = ELFFile(BytesIO(data))
    needed: list[str] = []
    versions: list[Version] = [()]
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            needed += [tag.needed for tag in section.iter_tags("DT_NEEDED")]
        elif isinstance(section, GNUVerNeedSection):
            names = [version.name for _, auxiliary in section.iter_versions() for version in auxiliary]
            versions += [_version(name) for name in names if name.startswith("GLIBC_")]
    return Library(elf["e_machine"], tuple(needed), max(versions))


def check_wheel(path: Path, target: Target) -> Version:
    """The newest glibc that a native wheel asks for. Raises WheelError where it would not load on its platform."""
    with zipfile.ZipFile(path) as wheel:
        libraries = {name: wheel.read(name) for name in wheel.namelist() if name.endswith(".so")}
    if not libraries:
        raise WheelError(f"{path.name} holds no native library")
    newest: Version = ()
    for name, data in libraries.items():
        library = read_library(data)
        _check_library(f"{path.name}: {name}", data, library, target)
        newest = max(newest, library.glibc)
    return newest


def _check_library(name: str, data: bytes, library: Library, target: Target) -> None:
    if library.machine != target.machine:
        raise WheelError(f"{name} is for {library.machine}, not {target.machine}")
    if strangers := [needed for needed in library.needed if not _SYSTEM_LIBRARY.fullmatch(needed)]:
        raise WheelError(f"{name} needs {', '.join(strangers)}, which not every machine has")
    if library.glibc > target.glibc:
        raise WheelError(f"{name} needs glibc {_dotted(library.glibc)}, its tag says {_dotted(target.glibc)}")
    for folder in (ROOT, Path.home()):
        if os.fsencode(f"{folder}{os.sep}") in data:
            raise WheelError(f"{name} holds a path of this machine, below {folder}")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _version(name: str) -> Version:
    return tuple(int(part) for part in name.removeprefix("GLIBC_").split(".") if part.isdigit())


def all_projects() -> list[Path]:
    """The folders of the workspace's distributions."""
    found = [ROOT, *ROOT.glob("backends/*"), *ROOT.glob("plugins/*"), ROOT / "llm"]
    return sorted(folder for folder in found if (folder / "pyproject.toml").is_file())


def targets_of(project: Path, wanted: Sequence[Target]) -> list[Target | None]:
    """The architectures a project is built for; `None` alone where one wheel serves all."""
    if not (project / "CMakeLists.txt").is_file():
        return [None]
    tables = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {})
    names = tables.get("perfxapi", {}).get("wheel-architectures", TARGETS)
    return [target for target in wanted if target.architecture in names]


def build(project: Path, target: Target | None, folder: Path, jobs: int) -> Built:
    """Builds one wheel into a folder, and checks it."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    command += ["--no-build-isolation", *_options(project, target), str(project)]
    environment = os.environ | {"CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if target:
        environment["_PYTHON_HOST_PLATFORM"] = target.tag
    with tempfile.TemporaryDirectory() as fresh:
        subprocess.run([*command, "--wheel-dir", fresh], check=True, env=environment)
        (made,) = Path(fresh).glob("*.whl")
        glibc = check_wheel(made, target) if target else ()
        path = Path(shutil.copy(made, folder))
    return Built(path, time.perf_counter() - start, glibc)


def _options(project: Path, target: Target | None) -> Iterator[str]:
    """What pip hands to scikit-build-core. Its folder stays: a second run compiles what changed."""
    if target is None:
        return
    definitions = {
        "CMAKE_TOOLCHAIN_FILE": TOOLCHAIN,
        "ZIG_TARGET": target.zig,
        "ZIG_PYTHON": sys.executable,
        # the linker strips; the strip of this machine may not know the other architecture
        "CMAKE_MODULE_LINKER_FLAGS": "-s",
    }
    yield from ("-C", f"build-dir={ROOT / 'build' / 'wheels' / target.architecture / project.name}")
    yield from ("-C", "install.strip=false")
    yield from ("-C", "cmake.args=" + ";".join(f"-D{name}={value}" for name, value in definitions.items()))


def summary(built: Sequence[Built]) -> str:
    """The table that ends a run."""
    width = max(len(one.path.name) for one in built)
    lines = [f"{'wheel':{width}}  {'KiB':>6}  {'glibc':>5}  {'s':>5}"]
    for one in built:
        size = one.path.stat().st_size / 1024
        lines.append(f"{one.path.name:{width}}  {size:6.0f}  {_dotted(one.glibc) or 'any':>5}  {one.seconds:5.1f}")
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the wheels of every distribution for all architectures.")
    parser.add_argument("--architecture", action="append", choices=TARGETS, help="default: all")
    parser.add_argument("--project", action="append", type=Path, metavar="FOLDER", help="default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    arguments = parser.parse_args()
    wanted = [TARGETS[name] for name in arguments.architecture or TARGETS]
    projects = [folder.resolve() for folder in arguments.project or all_projects()]
    folder = ROOT / "dist"
    folder.mkdir(exist_ok=True)
    work = [(project, target) for project in projects for target in targets_of(project, wanted)]
    built = []
    for number, (project, target) in enumerate(work, 1):
        name = project.relative_to(ROOT)
        print(f"[{number}/{len(work)}] {name} for {target.architecture if target else 'all'}", flush=True)
        built.append(build(project, target, folder, arguments.jobs))
    print(summary(built))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WheelError as error:
        sys.exit(f"wheels: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"wheels: pip ended with {error.returncode}")
