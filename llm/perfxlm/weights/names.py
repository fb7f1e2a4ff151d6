"""What tensors are called: PerfXLM's own names, and those of GGUF files and HuggingFace checkpoints.

A name of the first table is of the whole model, one of the second is of each decoder layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GGUF_MODEL_NAMES: Final = {
    "token_embedding": "token_embd.weight",
    "output_norm": "output_norm.weight",
    "output": "output.weight",
    "rope_divisors": "rope_freqs.weight",
}
GGUF_LAYER_NAMES: Final = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "attention_output": "attn_output",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
    "post_attention_norm": "post_attention_norm",
    "feed_forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "post_feed_forward_norm": "post_ffw_norm",
}
HF_MODEL_NAMES: Final = {"token_embedding": "embed_tokens.weight", "output_norm": "norm.weight"}
HF_LAYER_NAMES: Final = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_output": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def gguf_name(name: str, layer: int | None) -> str:
    """The GGUF name of a tensor ("GGUF" specification, ggml project, "Standardized tensor names")."""
    return GGUF_MODEL_NAMES[name] if layer is None else f"blk.{layer}.{GGUF_LAYER_NAMES[name]}.weight"


class HFNames:
    """Names in a HuggingFace checkpoint.

    The decoder stands under "model." in a causal model, deeper in a multimodal one, and under nothing in a bare one:
    `prefix` is what comes before "embed_tokens.weight". `overrides` are an architecture's own layer names.
    """

    def __init__(self, stored: Mapping[str, object], overrides: Mapping[str, str]) -> None:
        self._layer_names = {**HF_LAYER_NAMES, **overrides}
        embedding = HF_MODEL_NAMES["token_embedding"]
        found = sorted((name for name in stored if name == embedding or name.endswith(f".{embedding}")), key=len)
        self.prefix = found[0].removesuffix(embedding) if found else "model."
        heads = sorted(
            (name for name in stored if name == "lm_head.weight" or name.endswith(".lm_head.weight")), key=len
        )
        self._head = heads[0] if heads else "lm_head.weight"

    def __call__(self, name: str, layer: int | None) -> str:
        """The stored name of one of PerfXLM's names."""
        if name == "output":
            return self._head
        if layer is None:
            return self.prefix + HF_MODEL_NAMES[name]
        return f"{self.prefix}layers.{layer}.{self._layer_names[name]}.weight"
