"""The house rules find what they are for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("house_rules", ROOT / "scripts/house_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("open('/ho" + "me/someone/model.gguf')", "a path of one machine"),
        ("index = 'https://py" + "pi.org/simple'", "a host of a package registry"),
        ("import c" + "types", "ctypes"),
        ("# TO" + "DO: later", "an unfinished mark"),
    ],
)
def test_each_rule_names_the_line(house_rules: ModuleType, tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"first = 1\n{line}\n")
    (problem,) = house_rules.problems_of(path)
    assert problem.startswith(f"module.py:2: {rule}")


def test_a_large_file_is_named(house_rules: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(bytes(1_000_001))
    assert house_rules.problems_of(path) == ["weights.npz: 1000001 bytes, more than 1000000"]


def test_plain_text_passes(house_rules: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("See docs/home/page.md, example.org and https://www.apache.org/licenses/.\n")
    assert house_rules.problems_of(path) == []
