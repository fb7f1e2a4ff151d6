"""Architectures are found in the package and through entry points; a broken plugin does not take the others down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perfxapi.errors import InvalidArgumentError, PerfXWarning
from perfxlm.models import registry
from perfxlm.models.gemma3 import Gemma3
from perfxlm.models.llama import Llama
from perfxlm.models.qwen3 import Qwen3

NOVA = """
from perfxlm.models.llama import Llama
from perfxlm.models.registry import register_model

@register_model("nova", "NovaForCausalLM")
class Nova(Llama):
    pass
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, before a search for plugins; what is registered is forgotten afterwards."""
    monkeypatch.setattr(registry, "_MODELS", dict(registry.architectures()))
    monkeypatch.syspath_prepend(tmp_path)
    registry._discover.cache_clear()
    yield tmp_path
    registry._discover.cache_clear()


def install(packages: Path, name: str, source: str) -> None:
    """Puts a module there, with the metadata of a distribution that announces it."""
    (packages / f"{name}.py").write_text(source)
    info = packages / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[perfxlm.models]\n{name} = {name}\n")


def test_built_in_architectures_by_both_names() -> None:
    pairs = {"gemma3": Gemma3, "Gemma3ForCausalLM": Gemma3, "llama": Llama, "LlamaForCausalLM": Llama, "qwen3": Qwen3}
    assert {name: registry.model_class(name) for name in pairs} == pairs


def test_plugin_adds_an_architecture_and_a_broken_one_is_warned_about(packages: Path) -> None:
    install(packages, "perfxlm_test_nova", NOVA)
    install(packages, "perfxlm_test_broken", "raise RuntimeError('out of order')")
    with pytest.warns(PerfXWarning, match="model plugin 'perfxlm_test_broken' (?s:.*)out of order"):
        assert registry.model_class("NovaForCausalLM").__name__ == "Nova"
    assert registry.model_class("llama") is Llama


def test_a_name_that_is_taken_names_both_classes(packages: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'llama' is claimed by perfxlm.models.llama.Llama and .*Other"):
        registry.register_model("llama")(type("Other", (Llama,), {}))
