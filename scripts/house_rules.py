"""Checks of what is committed that no linter makes: sizes, machine paths, registry hosts, ctypes, unfinished marks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1_000_000
BINARY = {".npz", ".npy", ".png", ".gguf", ".safetensors"}
# Each pattern is written so that it does not match itself.
RULES = {
    "a path of one machine": re.compile(r"(?<![\w.$}/-])/(?:home|work|root|Users|opt|mnt)/\w"),
    "a host of a package registry": re.compile(
        r"(?:py[p]i|pytho[n]hosted|regist[r]y\.npmjs|cra[t]es|conda\.anacond[a])\.(?:org|io)"
    ),
    "ctypes (native code is loaded by cffi)": re.compile(r"^\s*(?:import|from) c[t]ypes"),
    "an unfinished mark": re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b"),
}


def committed_files() -> list[Path]:
    """Files that git tracks and that exist."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def problems_of(path: Path) -> list[str]:
    """What is wrong with one file, each with its place."""
    name = path.relative_to(ROOT)
    found = []
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{name}: {path.stat().st_size} bytes, more than {MAX_BYTES}")
    if path.suffix in BINARY:
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found += [f"{name}:{number}: {rule}: {line.strip()}" for rule, pattern in RULES.items() if pattern.search(line)]
    return found


def main() -> int:
    """The command line; the exit code is 1 where a rule is broken."""
    found = [problem for path in committed_files() for problem in problems_of(path)]
    print("\n".join(found) if found else "house rules: nothing to report")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
