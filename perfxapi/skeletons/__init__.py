"""Working skeletons: a distribution of two files and their test, under a name of yours (`perfxapi new`).

The folders beside this file are the skeletons themselves, under the name "skeleton": they are linted like all code.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from perfxapi.backend import REGISTRY
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import all_ops

Kind = Literal["backend", "plugin"]
KINDS: tuple[Kind, ...] = ("backend", "plugin")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME = 40


def write_skeleton(kind: Kind, name: str, directory: Path | str = ".") -> list[Path]:
    """Writes the folder `perfxapi-<kind>-<name>` in `directory`, whole or not at all; returns its files.

    Raises InvalidArgumentError for a name that cannot be used or is taken, and for a folder that is there already or
    cannot be written.
    """
    _check_name(kind, name)
    folder = Path(directory) / f"perfxapi-{kind}-{_hyphened(name)}"
    if folder.exists():
        raise InvalidArgumentError(f"{folder} is there already: nothing is overwritten; choose another name")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            written = [_copy(template, work, name) for template in _templates(kind)]
            work.chmod(0o755)
            os.rename(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise InvalidArgumentError(f"{folder} cannot be written: {error}") from error
    return [folder / path.name for path in written]


def _check_name(kind: Kind, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or keyword.iskeyword(name):
        raise InvalidArgumentError(
            f"name {name!r}: it must have at most {_MAX_NAME} lower-case letters, digits and underscores between "
            "them, begin with a letter, and mean nothing in Python"
        )
    taken = {"auto": "which every program uses"}
    for entry in REGISTRY.entries():
        taken |= dict.fromkeys((entry.manifest.name, *entry.manifest.kinds), f"of {entry.distribution}")
    if kind == "plugin":
        taken |= {spec.name: "an op" for spec in all_ops()}
    if name in taken:
        raise InvalidArgumentError(f"name {name!r} is taken ({taken[name]}): choose another")


def _templates(kind: Kind) -> list[Path]:
    files = (path for path in (Path(__file__).parent / kind).iterdir() if path.suffix in (".py", ".toml"))
    return sorted(files, key=lambda path: (path.suffix == ".py", path.name.startswith("test_"), path.name))


def _copy(template: Path, folder: Path, name: str) -> Path:
    camel = "".join(part.capitalize() for part in name.split("_"))
    forms = {"-skeleton": f"-{_hyphened(name)}", "skeleton": name, "Skeleton": camel}
    text = re.sub("|".join(forms), lambda match: forms[match[0]], template.read_text(encoding="utf-8"))
    path = folder / template.name.replace("skeleton", name)
    path.write_text(text, encoding="utf-8")
    return path


def _hyphened(name: str) -> str:
    return name.replace("_", "-")
