"""Models that are installed as packages: found by name, written once, whole or not at all."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from perfxapi.errors import PerfXWarning
from perfxlm import model_packages
from perfxlm.errors import UnknownModelError
from perfxlm.model_packages import ModelPackage, find_model

PACKAGE = ModelPackage("toy", "toy-model", "toy_model", "toy.gguf")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """A model package that counts how often it writes its file."""
    module = types.ModuleType("toy_model")
    module.calls = []  # type: ignore[attr-defined]

    def assemble(path: Path) -> Path:
        module.calls.append(path)
        path.write_bytes(b"weights")
        return path

    module.assemble = assemble  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_model", module)
    monkeypatch.setattr(ModelPackage, "version", lambda self: "1.2")
    monkeypatch.setattr(model_packages, "model_packages", lambda: {"toy": PACKAGE})
    monkeypatch.setenv("PERFXLM_CACHE_DIR", str(tmp_path / "cache"))
    return module


def test_file_is_written_once_into_the_cache(toy: types.ModuleType, tmp_path: Path) -> None:
    path = find_model("toy")
    assert path == tmp_path / "cache" / "toy-1.2" / "toy.gguf"
    assert path.read_bytes() == b"weights"
    assert find_model("toy") == path
    assert len(toy.calls) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.gguf"]


def test_failure_leaves_no_partial_file(toy: types.ModuleType, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"wei")
        raise ValueError("checksum")

    toy.assemble = fail  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="checksum"):
        find_model("toy")
    assert list((tmp_path / "cache" / "toy-1.2").iterdir()) == []


def test_path_goes_before_name(toy: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert find_model("toy") == Path("toy")
    assert toy.calls == []


def test_missing_package_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        model_packages, "model_packages", lambda: {"absent": ModelPackage("absent", "a-b-c-d", "x", "y")}
    )
    with pytest.raises(UnknownModelError, match="'absent' is not installed: pip install a-b-c-d"):
        find_model("absent")


def test_unknown_name_shows_close_ones() -> None:
    with pytest.raises(UnknownModelError, match=r"Did you mean gemma3-270m\?"):
        find_model("gemma-270m")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PERFXLM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_packages.cache_folder() == tmp_path / "perfxlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert model_packages.cache_folder() == tmp_path / "home" / ".cache" / "perfxlm"


def test_entry_points_add_packages_and_broken_ones_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    good = metadata.EntryPoint("toy", "test_model_packages:PACKAGE", model_packages.ENTRY_POINT_GROUP)
    broken = metadata.EntryPoint("broken", "no_such_module:x", model_packages.ENTRY_POINT_GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [broken, good])
    monkeypatch.setitem(sys.modules, "test_model_packages", sys.modules[__name__])
    with pytest.warns(PerfXWarning, match="broken.*no_such_module"):
        found = model_packages.model_packages.__wrapped__()
    assert found["toy"] == PACKAGE
    assert "gemma3-270m" in found
