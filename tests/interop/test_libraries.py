"""Libraries on the array API standard take arrays of ours, compute what they compute with NumPy's, and return ours.

SciPy and scikit-learn are asked to in the environment, before they are imported: so each runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import einops
import einops.array_api
import numpy as np
import pytest
from known import KNOWN, SKLEARN, table

import perfxapi as px

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs/array-api.md"
NAMESPACES = (
    "scipy.fft", "scipy.signal", "scipy.special", "scipy.stats", "scipy.ndimage", "scipy.cluster.vq",
    "scipy.cluster.hierarchy", SKLEARN,
)  # fmt: skip
Outcomes = dict[str, dict[str, str]]


def child(name: str) -> Any:
    """What a child process prints, as JSON."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, str(FOLDER / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """ "ok", or what is wrong, for each function that was tried."""
    found: Outcomes = child("scipy_child.py")
    return {**found, SKLEARN: child("sklearn_child.py")}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_functions_take_and_return_our_arrays(namespace: str, outcomes: Outcomes) -> None:
    known = {name.removeprefix(f"{namespace}.") for name in KNOWN if name.startswith(f"{namespace}.")}
    wrong = {name: outcome for name, outcome in outcomes[namespace].items() if outcome != "ok"}
    assert {name: outcome for name, outcome in wrong.items() if name not in known} == {}
    assert known - set(wrong) == set(), "these work now: take them out of KNOWN"


def test_the_table_of_the_documents(outcomes: Outcomes) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(table(outcomes)) in text
    estimators = {name.partition(".")[0] for name in outcomes[SKLEARN] if "." in name}
    metrics = {name for name in outcomes[SKLEARN] if "." not in name} - {"train_test_split"}
    assert f"{len(estimators)} estimators and {len(metrics)} metrics" in text


CALLS = {
    "rearrange": lambda lib, x: lib.rearrange(x, "a b (c d) -> d (b a) c", d=2),
    "reduce": lambda lib, x: lib.reduce(x, "a b c -> c a", "max"),
    "mean": lambda lib, x: lib.reduce(x, "a (b two) c -> a b", "mean", two=3),
    "repeat": lambda lib, x: lib.repeat(x, "a b c -> a (b twice) c 2", twice=2),
    "pack": lambda lib, x: lib.pack([x, x], "a * c")[0],
}


@pytest.mark.parametrize("name", CALLS)
def test_einops(name: str) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    got = CALLS[name](einops.array_api, px.asarray(x, device="numpy"))
    assert isinstance(got, px.Array)
    assert str(got.device) == "numpy:0"
    np.testing.assert_array_equal(np.asarray(got), CALLS[name](einops, x))
