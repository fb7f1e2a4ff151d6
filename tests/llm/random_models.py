"""Writes small random models as GGUF files, with matrices of every quantized type in every place."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf_builder as builder
import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi.quantization import quantize

HIDDEN, INTERMEDIATE, VOCAB_SIZE, NUM_LAYERS = 256, 512, 320, 3
NUM_HEADS, NUM_KV_HEADS, HEAD_DIM, WINDOW = 4, 2, 64, 24
CONTEXT = 256
GGML_TYPES = {
    px.float32: 0, px.q4_0: 2, px.q4_1: 3, px.q5_0: 6, px.q5_1: 7, px.q8_0: 8, px.q2_k: 10, px.q3_k: 11, px.q4_k: 12,
    px.q5_k: 13, px.q6_k: 14, px.iq4_nl: 20, px.iq4_xs: 23, px.mxfp4: 39,
}  # fmt: skip

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RandomModel:
    """An architecture, and the type of each matrix by its GGUF name without the layer."""

    architecture: str
    dtypes: Mapping[str, px.DType]
    extra: Mapping[str, int] = field(default_factory=dict)


# fmt: off
MODELS = {
    "llama": RandomModel("llama", {
        "token_embd": px.q6_k, "output": px.q4_k, "attn_q": px.q4_k, "attn_k": px.q5_0, "attn_v": px.q8_0,
        "attn_output": px.q6_k, "ffn_gate": px.q4_0, "ffn_up": px.q4_0, "ffn_down": px.q5_0,
    }),
    "gemma3": RandomModel("gemma3", {
        "token_embd": px.q8_0, "attn_q": px.q5_0, "attn_k": px.q5_0, "attn_v": px.q6_k,
        "attn_output": px.q4_0, "ffn_gate": px.q4_k, "ffn_up": px.q4_k, "ffn_down": px.q6_k,
    }, {"attention.sliding_window": WINDOW, "attention.sliding_window_pattern": 2}),
    "llama-more": RandomModel("llama", {
        "token_embd": px.iq4_nl, "output": px.q5_k, "attn_q": px.q2_k, "attn_k": px.q4_1, "attn_v": px.q5_1,
        "attn_output": px.iq4_xs, "ffn_gate": px.mxfp4, "ffn_up": px.q3_k, "ffn_down": px.q5_k,
    }),
}
# fmt: on

_MATRICES = {
    "token_embd": (VOCAB_SIZE, HIDDEN),
    "output": (VOCAB_SIZE, HIDDEN),
    "attn_q": (NUM_HEADS * HEAD_DIM, HIDDEN),
    "attn_k": (NUM_KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_v": (NUM_KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, NUM_HEADS * HEAD_DIM),
    "ffn_gate": (INTERMEDIATE, HIDDEN),
    "ffn_up": (INTERMEDIATE, HIDDEN),
    "ffn_down": (HIDDEN, INTERMEDIATE),
}
_VECTORS = {
    "llama": {"attn_norm": HIDDEN, "ffn_norm": HIDDEN},
    "gemma3": {
        "attn_norm": HIDDEN,
        "ffn_norm": HIDDEN,
        "post_attention_norm": HIDDEN,
        "post_ffw_norm": HIDDEN,
        "attn_q_norm": HEAD_DIM,
        "attn_k_norm": HEAD_DIM,
    },
}


def write_random_model(name: str, path: Path, *, seed: int = 0) -> Path:
    """Writes the model of that name (of `MODELS`) to `path`, with a last token id of 2; returns `path`."""
    model, rng = MODELS[name], np.random.default_rng(seed)
    entries: list[bytes] = []
    blobs: list[bytes] = []
    offset = 0
    for tensor, (values, dtype) in _tensors(model, rng).items():
        blob = values.tobytes() if dtype is px.float32 else quantize(values, dtype).tobytes()
        blob += bytes(-len(blob) % 32)
        entries.append(builder.tensor(tensor, values.shape[::-1], GGML_TYPES[dtype], offset))
        blobs.append(blob)
        offset += len(blob)
    path.write_bytes(builder.build(_pairs(model), entries, b"".join(blobs)))
    return path


def _tensors(model: RandomModel, rng: np.random.Generator) -> dict[str, tuple[Floats, px.DType]]:
    matrix = functools.partial(_matrix, rng)
    vector = functools.partial(_vector, rng)
    found = {"output_norm.weight": (vector(HIDDEN), px.float32)}
    for name in ("token_embd", "output"):
        if name in model.dtypes:
            found[f"{name}.weight"] = matrix(name), model.dtypes[name]
    for layer in range(NUM_LAYERS):
        for name, dtype in model.dtypes.items():
            if f"{name}.weight" not in found:
                found[f"blk.{layer}.{name}.weight"] = matrix(name), dtype
        for name, size in _VECTORS[model.architecture].items():
            found[f"blk.{layer}.{name}.weight"] = vector(size), px.float32
    return found


def _matrix(rng: np.random.Generator, name: str) -> Floats:
    """What the layers add outweighs the embedding: else each token would predict itself."""
    rows, columns = _MATRICES[name]
    gain = 0.1 if name == "token_embd" else 3.0
    values: Floats = (rng.standard_normal((rows, columns)) * (gain / np.sqrt(columns))).astype(np.float32)
    return values


def _vector(rng: np.random.Generator, size: int) -> Floats:
    values: Floats = (rng.random(size) + 0.5).astype(np.float32)
    return values


def _pairs(model: RandomModel) -> list[bytes]:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "block_count": NUM_LAYERS,
        "feed_forward_length": INTERMEDIATE,
        "attention.head_count": NUM_HEADS,
        "attention.head_count_kv": NUM_KV_HEADS,
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        **model.extra,
    }
    pairs = [builder.pair("general.architecture", builder.STRING, model.architecture)]
    pairs += [builder.pair(f"{model.architecture}.{key}", builder.U32, value) for key, value in sizes.items()]
    numbers = {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0}
    pairs += [builder.pair(f"{model.architecture}.{key}", builder.F32, value) for key, value in numbers.items()]
    return [*pairs, builder.pair("tokenizer.ggml.eos_token_id", builder.U32, 2)]
