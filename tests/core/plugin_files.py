"""Makes tiny installed distributions, as pip would leave them, and runs Python where they are found."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def install(
    folder: Path, name: str, module: str, source: str, *, entry_point: str | None = None, version: str = "1.0"
) -> None:
    """A distribution of one module in `folder`, with an entry point of the group `perfxapi`."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=name, version=version))
    (info / "entry_points.txt").write_text(f"[perfxapi]\n{entry_point or module} = {module}\n")


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Python with the distributions in `folder` installed. Settings are environment variables, PERFXAPI_ left out."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **{f"PERFXAPI_{k}": v for k, v in settings.items()}}
    # byte code on disk, as of an installed package: these processes do little but import
    environment |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode")}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def wheel(folder: Path, name: str, files: dict[str, bytes], entry_points: str, *, version: str = "1.0") -> Path:
    """A wheel of these files, written by hand (PEP 427): nothing but a zip with a record of its contents."""
    tag = "py3-none-any"
    normalized = name.replace("-", "_")
    info = f"{normalized}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": METADATA.format(name=name, version=version).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": entry_points.encode(),
    }
    record = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{normalized}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
