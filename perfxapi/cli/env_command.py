"""Shows versions, every setting with its environment variable, and the native libraries: what a bug report needs."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from perfxapi import __version__
from perfxapi.backend import REGISTRY
from perfxapi.native.calls import INSTANCES
from perfxapi.native.library import ABI_VERSION
from perfxapi.settings import settings
from perfxapi.settings_model import Settings, variable_of
from perfxapi.tables import text_table
from perfxapi.tuning import TUNER

_DEPENDENCIES = ("numpy", "pluggy", "pydantic", "cffi")


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting."""

    variable: str
    value: Any
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class LibraryRow:
    """One native library: its variants that this machine can run, best first, and the one in use."""

    backend: str
    path: str
    variant: str
    supported: list[str]
    num_threads: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def versions() -> dict[str, str]:
    """Versions of what the core stands on."""
    found = {"perfxapi": __version__, "python": platform.python_version(), "native ABI": str(ABI_VERSION)}
    for name in _DEPENDENCIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "platform": platform.platform(), "executable": sys.executable}


def setting_rows() -> list[SettingRow]:
    """Every setting, from the model."""
    values = settings().model_dump(mode="json")
    fields = Settings.model_fields.items()
    return [SettingRow(variable_of(n), values[n], field.default, field.description or "") for n, field in fields]


def library_rows() -> list[LibraryRow]:
    """The native libraries of all backends that can be loaded."""
    for entry in REGISTRY.entries():
        REGISTRY.load(entry)
    return [
        LibraryRow(b.name, b.library.path, b.library.variant_name, b.library.supported_variants(), b.num_threads)
        for b in INSTANCES
    ]


def run(arguments: argparse.Namespace) -> int:
    """Prints the environment."""
    found, variables, libraries = versions(), setting_rows(), library_rows()
    if arguments.json:
        document = {
            "versions": found,
            "settings": [asdict(row) for row in variables],
            "libraries": [asdict(row) for row in libraries],
            "tuning": {"file": str(TUNER.path()), "choices": TUNER.known()},
        }
        print(json.dumps(document, indent=2))
        return 0
    print(text_table(["version of", ""], [[name, value] for name, value in found.items()]))
    cells = [[row.variable, _shown(row.value), row.description] for row in variables]
    print("\n" + text_table(["setting", "value", "meaning"], cells))
    lines = [[r.backend, r.variant, ", ".join(r.supported), str(r.num_threads), r.path] for r in libraries]
    print("\n" + text_table(["native library of", "variant", "runs here", "threads", "path"], lines))
    print(f"\nmeasured choices of kernels: {TUNER.known()} in {TUNER.path()}")
    return 0


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
