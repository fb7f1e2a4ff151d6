"""Configurations are read from both formats, bounded, and refused by name where they cannot be followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfxapi.errors import PerfXError, UnknownNameError
from perfxlm.config import ModelConfig
from perfxlm.fields import ConfigError, UnsupportedModelError
from perfxlm.models.gemma3 import Gemma3
from perfxlm.models.llama import Llama
from perfxlm.models.qwen3 import Qwen3
from perfxlm.models.registry import model_class
from perfxlm.rope import LinearScaling

TINY = Path(__file__).parent.parent / "data" / "tiny"

GEMMA_27B: dict[str, Any] = {
    "general.architecture": "gemma3",
    "gemma3.vocab_size": 262208,
    "gemma3.context_length": 131072,
    "gemma3.embedding_length": 5376,
    "gemma3.block_count": 62,
    "gemma3.feed_forward_length": 21504,
    "gemma3.attention.head_count": 32,
    "gemma3.attention.head_count_kv": 16,
    "gemma3.attention.key_length": 128,
    "gemma3.attention.value_length": 128,
    "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
    "gemma3.attention.sliding_window": 1024,
    "gemma3.rope.freq_base": 1e6,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 8.0,
}


def hf(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((TINY / name / "config.json").read_text())
    return config


def from_hf(config: dict[str, Any]) -> ModelConfig:
    return model_class(config["architectures"][0]).config_from_hf(config, "config.json")


def test_gemma_27b_of_gguf() -> None:
    config = Gemma3.config_from_gguf(GEMMA_27B, "file.gguf")
    assert config.query_scale == 168**-0.5  # hidden_size / num_heads, not head_dim: Gemma 3 report, table 1
    assert [index for index, window in enumerate(config.windows) if not window] == list(range(5, 62, 6))
    assert set(config.windows) == {0, 1024}
    assert (config.ropes[0].theta, config.ropes[0].scaling) == (1e4, None)
    assert (config.ropes[5].theta, config.ropes[5].scaling) == (1e6, LinearScaling(8.0))


def test_gemma_4b_of_huggingface_with_what_its_file_leaves_out() -> None:
    """The published file: https://huggingface.co/google/gemma-3-4b-it/blob/main/config.json, text_config."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = from_hf({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text})
    assert (config.vocab_size, config.num_heads, config.num_kv_heads, config.head_dim) == (262208, 8, 4, 256)
    assert (config.query_scale, config.max_model_len, config.tied_embeddings) == (1 / 16, 131072, True)
    assert [rope.theta for rope in config.ropes[4:7]] == [1e4, 1e6, 1e4]
    assert [rope.scaling for rope in config.ropes[4:7]] == [None, LinearScaling(8.0), None]


def test_configuration_of_earlier_transformers_says_the_same() -> None:
    legacy = json.loads((TINY / "gemma3-legacy.json").read_text())
    assert "rope_parameters" not in legacy
    assert from_hf(legacy) == from_hf(hf("gemma3-softcap"))


def test_qwen_windows_start_at_a_layer() -> None:
    config = hf("qwen3")
    del config["layer_types"]
    assert from_hf(config).windows == (0, 0, 16, 16)
    config["use_sliding_window"] = False
    assert from_hf(config).windows == (0, 0, 0, 0)


@pytest.mark.parametrize("key", ["gemma3.block_count", "gemma3.embedding_length", "gemma3.attention.sliding_window"])
def test_missing_gguf_key_is_named(key: str) -> None:
    metadata = {k: value for k, value in GEMMA_27B.items() if k != key}
    with pytest.raises(ConfigError, match=f"file.gguf: {key}: the field is missing"):
        Gemma3.config_from_gguf(metadata, "file.gguf")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gemma3.block_count", 0),
        ("gemma3.block_count", 2**40),
        ("gemma3.block_count", "62"),
        ("gemma3.block_count", True),
        ("gemma3.attention.head_count_kv", 5),
        ("gemma3.attention.head_count", 10**6),
        ("gemma3.attention.layer_norm_rms_epsilon", float("nan")),
        ("gemma3.rope.freq_base", float("inf")),
        ("gemma3.rope.freq_base", 0.0),
        ("gemma3.rope.dimension_count", 129),
        ("gemma3.rope.dimension_count", 256),
        ("gemma3.attention.sliding_window", -1),
        pytest.param("gemma3.context_length", 1 << 20_000, id="too long to print"),
    ],
)
def test_gguf_value_out_of_bounds_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError):
        Gemma3.config_from_gguf({**GEMMA_27B, key: value}, "file.gguf")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gemma3.rope.scaling.type", "longrope"),
        ("gemma3.expert_count", 8),
        ("gemma3.attention.value_length", 64),
        ("gemma3.attention.head_count_kv", np.array([8, 16] * 31)),
    ],
)
def test_unsupported_gguf_model_is_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        Gemma3.config_from_gguf({**GEMMA_27B, key: value}, "file.gguf")


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("llama2", {"attention_bias": True}, "attention_bias"),
        ("llama2", {"mlp_bias": True}, "mlp_bias"),
        ("llama2", {"hidden_act": "relu"}, "hidden_act"),
        ("llama2", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("llama2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope_type"),
        ("llama2", {"rope_parameters": None, "rope_scaling": {"type": "longrope"}}, "type"),
        ("qwen3", {"layer_types": ["full_attention"] * 3 + ["linear_attention"]}, "layer_types"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ],
)
def test_unsupported_huggingface_model_is_refused_by_key(name: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        from_hf({**hf(name), **changes})


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "rms_norm_eps", "intermediate_size"])
def test_missing_huggingface_key_is_named(key: str) -> None:
    config = hf("llama2")
    del config[key]
    with pytest.raises(ConfigError, match=f"config.json: {key}: the field is missing"):
        from_hf(config)


def test_unknown_architecture_names_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'Gemma3ForCausalLm'. Did you mean 'Gemma3ForCausalLM'"):
        model_class("Gemma3ForCausalLm")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("model", [Llama, Qwen3, Gemma3])
@settings(deadline=None)
@given(data=st.data())
def test_any_value_gives_a_configuration_or_a_typed_error(
    model: type[Llama | Qwen3 | Gemma3], data: st.DataObject
) -> None:
    config = hf({Llama: "llama3", Qwen3: "qwen3-yarn", Gemma3: "gemma3"}[model])
    rope = config["rope_parameters"]
    place = data.draw(st.sampled_from([config, rope, rope.get("full_attention", rope)]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    try:
        read = model.config_from_hf(config, "config.json")
    except PerfXError:
        return
    assert all(np.isfinite(rope.inverse_frequencies()).all() for rope in set(read.ropes))
