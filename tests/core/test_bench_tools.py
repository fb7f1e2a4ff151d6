"""What the tools in `bench/` say: comparisons of counts, missing programs, the shape of figures. No speed is tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import instructions, overhead


def found(instructions_of_one: int, rows: int = 8) -> dict[str, Any]:
    return {"kernels": [{"name": "a", "rows": rows, "instructions": instructions_of_one}]}


@pytest.mark.parametrize(
    ("now", "problems"),
    [
        (found(1020), []),
        (found(500), []),
        (found(1021), ["a: 1021 instructions a call, +2.1%"]),
        (found(1, rows=9), ["a: not recorded at this size; record it with python -m bench.instructions"]),
    ],
)
def test_counts_are_held_against_the_record(now: dict[str, Any], problems: list[str]) -> None:
    assert instructions.compare(now, found(1000)) == problems


def test_without_valgrind_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda program: None)
    monkeypatch.setattr(sys, "argv", ["instructions", "--check"])
    assert instructions.main() == 2
    assert "valgrind is not installed" in capsys.readouterr().err


def test_the_record_has_every_case() -> None:
    recorded = json.loads(instructions.RECORD.read_text(encoding="utf-8"))["kernels"]
    assert [kernel["name"] for kernel in recorded] == [case.name for case in instructions.CASES]
    assert all(kernel["instructions"] > 100_000 for kernel in recorded)


def test_figures_of_overhead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(overhead, "_BATCHES", 1)
    monkeypatch.setattr(overhead, "_CALLS", 2)
    monkeypatch.setattr(sys, "argv", ["overhead", "--json", str(tmp_path / "figures.json")])
    assert overhead.main() == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert {"px.add(a, b)", "a + b", "a step of a plan, bound: run()"} <= {figure["name"] for figure in figures}
    for figure in figures:
        if "beside" in figure:
            assert figure["more_microseconds"] == figure["microseconds"] - figure["beside_microseconds"]
