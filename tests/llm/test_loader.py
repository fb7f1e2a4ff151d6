"""Folders and files that are not what they should be give errors that name the place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import perfxapi as px
from perfxapi.errors import FileFormatError, UnknownNameError
from perfxlm.fields import ConfigError, UnsupportedModelError
from perfxlm.weights.loader import open_model

TINY = Path(__file__).parent.parent / "data" / "tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small Llama that a test may spoil."""
    return Path(shutil.copytree(TINY / "llama3", tmp_path / "llama3"))


def change_tensors(folder: Path, **changes: np.ndarray | None) -> None:
    """Sets tensors, by name with _ for the dots of "model.norm.weight"; None removes one."""
    path = folder / "model.safetensors"
    tensors = {key: np.array(values) for key, values in load_file(path).items()}
    for name, values in changes.items():
        if values is None:
            del tensors[name]
        else:
            tensors[name] = values
    save_file(tensors, path)


def test_generation_defaults(folder: Path) -> None:
    generation = {"eos_token_id": 5, "temperature": 0.7, "top_k": 20, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    defaults = open_model(folder).generation
    assert (defaults.eos_token_ids, defaults.bos_token_id) == ((5, 2, 3), 1)
    assert defaults.sampling == {"temperature": 0.7, "top_k": 20}
    (folder / "generation_config.json").unlink()
    assert open_model(folder).generation.eos_token_ids == (2, 3)


def test_nothing_there() -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/model"):
        open_model("/no/such/model")


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": ' + "[" * 100_000, b"\xff\xfe\x00".decode("latin-1")])
def test_malformed_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"config\.json"):
        open_model(folder)


@pytest.mark.parametrize("architectures", [[], None, "LlamaForCausalLM", [1]])
def test_architectures_fall_back_to_the_model_type_or_fail_by_name(folder: Path, architectures: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"architectures": architectures}
    (folder / "config.json").write_text(json.dumps(config))
    if not architectures:
        assert open_model(folder).architecture == "llama"
        return
    with pytest.raises(ConfigError, match="architectures"):
        open_model(folder)


def test_unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["MambaForCausalLM"]}))
    with pytest.raises(UnknownNameError, match="MambaForCausalLM"):
        open_model(folder)


def test_missing_tensor_is_named(folder: Path) -> None:
    change_tensors(folder, **{"model.layers.2.mlp.up_proj.weight": None})
    with pytest.raises(ConfigError, match=r"tensor model\.layers\.2\.mlp\.up_proj\.weight: it is missing"):
        open_model(folder).build()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((64, 31), np.float32), r"shape \(64, 32\) is expected; got \(64, 31\)"),
        (np.zeros((64, 32), np.int8), "int8 is no type of weights"),
    ],
)
def test_misshaped_or_mistyped_tensor_is_named(folder: Path, values: np.ndarray, problem: str) -> None:
    change_tensors(folder, **{"model.layers.0.self_attn.q_proj.weight": values})
    with pytest.raises(ConfigError, match=rf"model\.layers\.0\.self_attn\.q_proj\.weight: {problem}"):
        open_model(folder).build()


def test_tensor_without_use_is_refused_but_a_tied_head_is_not(folder: Path) -> None:
    change_tensors(folder, **{"lm_head.weight": np.zeros((128, 32), np.float32)})
    model = open_model(folder).build()
    assert np.abs(np.asarray(model.head)).max() > 0  # tie_word_embeddings: the embedding, not the stored head
    change_tensors(folder, **{"model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32)})
    with pytest.raises(UnsupportedModelError, match=r"q_proj\.bias"):
        open_model(folder).build()


def test_weights_are_views_of_the_file() -> None:
    head = open_model(TINY / "llama3").build().head
    assert head.dtype is px.float32
    assert not np.asarray(head).flags.owndata
    assert not np.asarray(head).flags.writeable


def test_half_precision_norms_are_widened_exactly() -> None:
    stored = load_file(TINY / "llama2" / "model.safetensors")["model.norm.weight"]
    assert stored.dtype == np.float16
    vector = open_model(TINY / "llama2").weights.vector("output_norm", 32)
    np.testing.assert_array_equal(np.asarray(vector), stored.astype(np.float32))
