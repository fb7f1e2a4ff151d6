"""Kernels in their OpenCL form under Oclgrind: no access out of range, no two work-items at one address unordered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUNTIMES = [Path("/usr/lib/oclgrind"), Path("/usr/local/lib")]
RUNTIME = next((path for folder in RUNTIMES if (path := folder / "liboclgrind-rt-icd.so").exists()), None)

needs_oclgrind = pytest.mark.skipif(RUNTIME is None, reason="there is no Oclgrind here: apt install oclgrind")


def run(tmp_path: Path, what: str, *ops: str) -> tuple[str, str]:
    """What the child says of results, and what Oclgrind says of kernels."""
    (tmp_path / "oclgrind.icd").write_text(f"{RUNTIME}\n")
    log = tmp_path / "findings"
    settings = {"OCL_ICD_VENDORS": str(tmp_path), "OCLGRIND_DATA_RACES": "1", "OCLGRIND_LOG": str(log)}
    done = subprocess.run(
        [sys.executable, str(HERE / "oclgrind_child.py"), what, *ops],
        env={**os.environ, **settings, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, log.read_text() if log.exists() else ""


@needs_oclgrind
@pytest.mark.parametrize(
    ("what", "finding"), [("range", "Invalid write of size 4 at global memory"), ("race", "data race at local memory")]
)
def test_it_finds_what_is_wrong(tmp_path, what, finding):
    _, found = run(tmp_path, what)
    assert finding in found
    assert "broken.h" in found


@needs_oclgrind
@pytest.mark.parametrize(
    "ops",
    [
        pytest.param(("rms_norm", "softmax", "take_rows", "kv_write", "topk", "sum"), id="few"),
        pytest.param((), marks=pytest.mark.slow, id="all"),
    ],
)
@pytest.mark.timeout(900)
def test_kernels_are_clean(tmp_path, ops):
    wrong, found = run(tmp_path, "samples", *ops)
    assert wrong == ""
    assert found == ""
