"""What a measurement must be read with: the machine and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "v")
_PACKAGES = ("perfxapi", "perfxapi-backend-cpu", "perfxlm", "numpy")


def _cpu_fields() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    # what this program writes itself does not change what is measured
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!*.md")
    return f"{commit}-dirty" if changed else commit or "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def describe() -> dict[str, Any]:
    """Processor, its instruction sets, usable cores, memory, system, load of the last minute, versions, commit."""
    cpu = _cpu_fields()
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    return {
        "processor": cpu.get("model name", platform.processor() or platform.machine()),
        "instruction_sets": [flag for flag in _FLAGS if flag in flags],
        "usable_processors": len(os.sched_getaffinity(0)),
        "memory_gib": _memory_gib(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "commit": _commit(),
    }
