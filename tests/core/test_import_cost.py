"""`import perfxapi` is cheap: nothing heavy, and few modules beside NumPy's own."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = (
    "onnx", "onnx_ir", "scipy", "pyopencl", "cupy", "torch", "pandas", "cffi", "pycparser", "pydantic", "pluggy",
    "ctypes.util", "importlib.metadata", "email", "asyncio", "multiprocessing", "perfxapi_backend_cpu",
    "perfxapi.settings_model", "perfxapi.conformance", "perfxapi.cli",
)  # fmt: skip
NEW_MODULES = "import numpy, sys; before = set(sys.modules); import perfxapi; print(*sorted(set(sys.modules) - before))"
MOST_MODULES = 150


def run(code: str, folder: str) -> str:
    # with byte code on disk, as after the first import of an installed package
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_nothing_heavy_is_imported(tmp_path: object) -> None:
    imported = run(NEW_MODULES, str(tmp_path)).split()
    assert [name for name in imported if name in HEAVY or name.split(".")[0] in HEAVY] == []
    third_party = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"perfxapi", "numpy"}
    assert {name for name in third_party if not name.startswith("_")} == set()


def test_few_modules_are_imported(tmp_path: object) -> None:
    """A module costs about half a millisecond, on a machine that nobody else uses."""
    assert len(run(NEW_MODULES, str(tmp_path)).split()) <= MOST_MODULES
