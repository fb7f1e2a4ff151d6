"""Writes tests/data/tiny: small random models in HuggingFace's format, with the logits that Transformers computes.

    python tests/golden/make_transformers_goldens.py

Needs torch and transformers (made with torch 2.13 and transformers 5.23). Each folder holds what `save_pretrained`
writes, and golden.npz: token ids [sequences, length] and float32 logits [sequences, length, vocab_size], computed on
a CPU in float32.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipVisionConfig,
)

FOLDER = Path(__file__).parent.parent / "data" / "tiny"
STORED_AS = {"llama2": torch.float16, "qwen3-yarn": torch.bfloat16}
VOCAB_SIZE, NUM_SEQUENCES, LENGTH = 128, 2, 64

# head_dim is not hidden_size / num_attention_heads, and two query heads share one key-value head
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


def models() -> dict[str, PreTrainedModel]:
    """One model per feature set, by the name of its folder."""
    gemma = {**COMMON, "num_hidden_layers": 7, "sliding_window": 24, "query_pre_attn_scalar": 16}
    vision = SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    multimodal = Gemma3Config(
        text_config=Gemma3TextConfig(
            **{**gemma, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
        ).to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=4,
        attn_implementation="eager",
    )
    return {
        "llama2": LlamaForCausalLM(
            LlamaConfig(
                **{**COMMON, "num_hidden_layers": 3, "num_key_value_heads": 4, "head_dim": 8, "rms_norm_eps": 1e-5}
            )
        ),
        "llama-linear": LlamaForCausalLM(
            LlamaConfig(**COMMON, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0})
        ),
        "llama3": LlamaForCausalLM(LlamaConfig(**COMMON, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True)),
        "qwen3": Qwen3ForCausalLM(
            Qwen3Config(**COMMON, use_sliding_window=True, sliding_window=16, max_window_layers=2)
        ),
        "qwen3-yarn": Qwen3ForCausalLM(Qwen3Config(**COMMON, rope_parameters=YARN_ROPE, tie_word_embeddings=True)),
        "gemma3": Gemma3ForCausalLM(Gemma3TextConfig(**gemma)),
        "gemma3-softcap": Gemma3ForCausalLM(
            Gemma3TextConfig(
                **{**gemma, "num_hidden_layers": 4, "query_pre_attn_scalar": 24},
                rope_parameters=GEMMA_ROPE,
                final_logit_softcapping=5.0,
                layer_types=["sliding_attention", "full_attention"] * 2,
            )
        ),
        "gemma3-multimodal": Gemma3ForConditionalGeneration(multimodal),
    }


def randomize(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Weights large enough, and norms far enough from one, that any mistake shows in the logits."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.25 * noise)
            else:
                parameter.copy_(noise if "embed_tokens" in name else noise * 1.5 / parameter.shape[-1] ** 0.5)


def write(name: str, model: PreTrainedModel, seed: int) -> None:
    """Saves one model and its golden logits."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    model.to(STORED_AS.get(name, torch.float32))
    model.save_pretrained(folder, max_shard_size="200KB" if name == "llama-linear" else "1GB")
    # read anew: a cast to half precision has rounded the rotary frequencies too
    model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(4, VOCAB_SIZE, (NUM_SEQUENCES, LENGTH), generator=generator)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
    np.savez_compressed(folder / "golden.npz", tokens=tokens.numpy().astype(np.int32), logits=logits.numpy())


def write_legacy_config() -> None:
    """gemma3-legacy.json: gemma3's configuration as releases of Transformers before 5 wrote it."""
    config = json.loads((FOLDER / "gemma3-softcap" / "config.json").read_text())
    rope = config.pop("rope_parameters")
    layer_types = config.pop("layer_types")
    config |= {
        "rope_theta": rope["full_attention"]["rope_theta"],
        "rope_scaling": {"rope_type": "linear", "factor": rope["full_attention"]["factor"]},
        "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
        "sliding_window_pattern": layer_types.index("full_attention") + 1,
    }
    config.pop("_sliding_window_pattern", None)
    (FOLDER / "gemma3-legacy.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Writes every folder anew."""
    for seed, (name, model) in enumerate(models().items()):
        write(name, model, seed)
    write_legacy_config()


if __name__ == "__main__":
    main()
