"""Writes tests/data/gemma3-270m-f32.npz: what Transformers computes in float32 on weights of a quantized Gemma 3 270M.

    python tests/golden/make_gemma3_goldens.py gemma-3-270m-q4_k_m.gguf

Needs torch, transformers and gguf (made with torch 2.13, transformers 5.23, gguf 0.19). For each text the file holds
its token ids [length] (of llama.cpp's tokenizer), and at each position the 64 likeliest next tokens [length, 64] with
their log-probabilities in float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

OUTPUT = Path(__file__).parent.parent / "data" / "gemma3-270m-f32.npz"
NUM_KEPT = 64

# Once upon a time, in a small village by the sea, there lived an old fisherman who had never seen a storm like this.
STORY = """
2 14946 3324 496 990 236764 528 496 1944 9744 684 506 5442 236764 993 11742 614 2255 79539 1015 1053 2752 3472 496 12978
1133 672 886 236761
"""
# def fibonacci(n): if n <= 1: return n; return fibonacci(n - 1) + fibonacci(n - 2)
CODE = """
2 2063 10779 78113 236769 236749 1473 107 140 584 538 6605 236743 236770 236787 107 144 2060 538 107 140 2060
10779 78113 236769 236749 753 236743 236770 236768 900 10779 78113 236769 236749 753 236743 236778 236768 107
"""


def load(path: Path) -> Gemma3ForCausalLM:
    """The model with the file's weights, dequantized. GGUF norms hold 1 + w, HuggingFace's hold w."""
    config = Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, sliding_window=512, query_pre_attn_scalar=256,
    )  # fmt: skip
    model = Gemma3ForCausalLM._from_config(config, attn_implementation="eager").eval()
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    state = {}
    for name in model.state_dict():
        if name == "lm_head.weight":
            continue
        tensor = stored[names.get_name(name, try_suffixes=(".weight",))]
        values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        state[name] = values - 1 if name.endswith("norm.weight") else values
    missing, unexpected = model.load_state_dict(state, strict=False)
    if set(missing) - {"lm_head.weight"} or unexpected:
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    return model


def main() -> None:
    """Computes and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    model = load(parser.parse_args().model)
    arrays = {}
    for name, text in (("story", STORY), ("code", CODE)):
        ids = np.array(text.split(), np.int32)
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(ids[None].astype(np.int64))).logits[0]
        top = torch.log_softmax(logits.double(), -1).topk(NUM_KEPT)
        arrays[f"{name}_ids"] = ids
        arrays[f"{name}_top_ids"] = top.indices.numpy().astype(np.int32)
        arrays[f"{name}_top_logprobs"] = top.values.numpy().astype(np.float32)
    np.savez_compressed(OUTPUT, **arrays)


if __name__ == "__main__":
    main()
