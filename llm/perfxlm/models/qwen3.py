"""Qwen3, the dense models (Yang et al. 2025, "Qwen3 technical report")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perfxlm.config import MAX_LAYERS, MAX_LENGTH, ModelConfig, hf_fields, hf_windows
from perfxlm.layers.base import Weights
from perfxlm.layers.decoder import Decoder, PreNormLayer
from perfxlm.models.registry import register_model

_HF_DEFAULTS = {"tie_word_embeddings": False, "head_dim": 128, "max_window_layers": 28}


@register_model("qwen3", "Qwen3ForCausalLM")
class Qwen3(Decoder):
    """Llama's layer, with queries and keys normalized per head; the last layers may have a sliding window."""

    @classmethod
    def config_from_gguf(cls, metadata: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder."""
        return ModelConfig.from_gguf(metadata, source)

    @classmethod
    def config_from_hf(cls, config: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder."""
        base = ModelConfig.from_hf(config, source, _HF_DEFAULTS)
        fields = hf_fields(config, source, _HF_DEFAULTS)
        fields.require_choice("hidden_act", "silu", "silu")
        window = 0
        if fields.flag("use_sliding_window", False):
            window = fields.integer("sliding_window", high=MAX_LENGTH)
        first_windowed = fields.integer("max_window_layers", low=0, high=MAX_LAYERS)
        usual = [window > 0 and index >= first_windowed for index in range(base.num_layers)]
        return replace(base, windows=hf_windows(fields, window, usual))

    def layer(self, index: int, weights: Weights) -> PreNormLayer:
        """See Decoder."""
        return PreNormLayer(self.config, index, weights, self.options, normalize_heads=True)
