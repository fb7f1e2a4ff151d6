"""Writes a small random Llama as an AWQ folder, and the same weights in float32 as a plain one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INTERMEDIATE, VOCAB_SIZE, NUM_LAYERS, HEADS, KV_HEADS = 256, 384, 160, 2, 4, 2
GROUP = 128
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}
QUANTIZATION: dict[str, Any] = {
    "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
}  # fmt: skip
_KV_ROWS = HIDDEN // HEADS * KV_HEADS
_SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (_KV_ROWS, HIDDEN),
    "self_attn.v_proj": (_KV_ROWS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}


def random_awq(rng: np.random.Generator, rows: int, columns: int) -> dict[str, np.ndarray]:
    """The three tensors of one random matrix."""
    groups = columns // GROUP
    words = rng.integers(-(1 << 31), 1 << 31, (columns + groups, rows // 8), dtype=np.int64).astype(np.int32)
    scales = rng.uniform(0.2, 1.0, (groups, rows)) * 0.25 / columns**0.5
    return {"qweight": words[:columns], "qzeros": words[columns:], "scales": scales.astype(np.float16)}


def dequantized(parts: dict[str, np.ndarray]) -> np.ndarray:
    """The weight float32 [rows, columns]: nibbles from the lowest bits on, then put in order as AutoAWQ does."""
    order = np.array([0, 4, 1, 5, 2, 6, 3, 7])

    def unpacked(words: np.ndarray) -> np.ndarray:
        nibbles = words[..., None] >> np.arange(0, 32, 4) & 15
        return nibbles[..., order].reshape(len(words), -1)

    zeros, scales = (
        np.repeat(part, GROUP, axis=0) for part in (unpacked(parts["qzeros"]), parts["scales"].astype(np.float32))
    )
    return np.ascontiguousarray(((unpacked(parts["qweight"]) - zeros) * scales).T.astype(np.float32))


def write_folders(path: Path) -> tuple[Path, Path]:
    """Makes the AWQ folder and the float32 one under `path`."""
    rng = np.random.default_rng(3)
    plain = {
        "model.embed_tokens.weight": rng.standard_normal((VOCAB_SIZE, HIDDEN)).astype(np.float16),
        "lm_head.weight": (rng.standard_normal((VOCAB_SIZE, HIDDEN)) / 16).astype(np.float16),
        "model.norm.weight": np.ones(HIDDEN, np.float16),
    }
    quantized = dict(plain)
    for layer in range(NUM_LAYERS):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            plain[f"{prefix}{norm}.weight"] = quantized[f"{prefix}{norm}.weight"] = np.ones(HIDDEN, np.float16)
        for name, shape in _SHAPES.items():
            parts = random_awq(rng, *shape)
            plain[f"{prefix}{name}.weight"] = dequantized(parts)
            quantized |= {f"{prefix}{name}.{kind}": np.ascontiguousarray(part) for kind, part in parts.items()}
    awq, floats = path / "awq", path / "float32"
    for folder, tensors, extra in ((awq, quantized, {"quantization_config": QUANTIZATION}), (floats, plain, {})):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG | extra))
        save_file(tensors, folder / "model.safetensors")
    return awq, floats
