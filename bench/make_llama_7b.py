"""Writes a model of the shape of Llama 2 7B with random weights, to measure speed and memory where no real one is.

python -m bench.make_llama_7b --out FOLDER                  asymmetric int4, groups of 128: an AWQ HuggingFace folder
python -m bench.make_llama_7b --out FILE --format q4_0      the same shape as a GGUF file of Q4_0 matrices

Codes are uniform, scales such that weights have the deviation of trained ones, so that activations stay in the usual
range; the text that it generates is random. One layer is in memory at a time. The embedding and the head are float16 in
both (llama.cpp reads them so, too), the norms ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

HIDDEN, INTERMEDIATE, VOCAB_SIZE, NUM_LAYERS, NUM_HEADS, CONTEXT = 4096, 11008, 32000, 32, 32, 4096
GROUP = 128
DEVIATION = 0.02
_DEVIATION_OF_CODES = 4.61  # of whole numbers, uniform from 0 to 15
_MATRICES = {
    "self_attn.q_proj": ("attn_q", HIDDEN, HIDDEN),
    "self_attn.k_proj": ("attn_k", HIDDEN, HIDDEN),
    "self_attn.v_proj": ("attn_v", HIDDEN, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HIDDEN),
    "mlp.gate_proj": ("ffn_gate", INTERMEDIATE, HIDDEN),
    "mlp.up_proj": ("ffn_up", INTERMEDIATE, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, INTERMEDIATE),
}
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": NUM_HEADS,
    "num_key_value_heads": NUM_HEADS,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "quantization_config": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "version": "gemm",
    },
}


def _scales(rng: np.random.Generator, *shape: int) -> np.ndarray:
    spread = rng.uniform(0.5, 1.5, shape)
    return (spread * (DEVIATION / _DEVIATION_OF_CODES)).astype(np.float16)


def _words(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.frombuffer(rng.bytes(rows * columns * 4), np.int32).reshape(rows, columns)


def _table(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """A float16 matrix [VOCAB_SIZE, HIDDEN]."""
    table = np.empty((VOCAB_SIZE, HIDDEN), np.float16)
    for rows in np.array_split(table, 32):
        rows[...] = rng.standard_normal(rows.shape, np.float32) * np.float32(deviation)
    return table


def _awq_layer(rng: np.random.Generator, layer: int) -> dict[str, np.ndarray]:
    prefix = f"model.layers.{layer}."
    tensors = {
        f"{prefix}{norm}.weight": np.ones(HIDDEN, np.float16)
        for norm in ("input_layernorm", "post_attention_layernorm")
    }
    for name, (_, rows, columns) in _MATRICES.items():
        groups = columns // GROUP
        tensors[f"{prefix}{name}.qweight"] = _words(rng, columns, rows // 8)
        # zero points of 7 and 8, as symmetric weights have them
        tensors[f"{prefix}{name}.qzeros"] = (_words(rng, groups, rows // 8) & 0x11111111) + 0x77777777
        tensors[f"{prefix}{name}.scales"] = _scales(rng, groups, rows)
    return tensors


def write_awq(folder: Path, num_layers: int = NUM_LAYERS) -> None:
    """Writes the folder, a shard for each layer and one for the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}

    def write(index: int, tensors: dict[str, np.ndarray]) -> None:
        name = f"model-{index + 1:05}-of-{num_layers + 1:05}.safetensors"
        save_file(tensors, folder / name)
        weight_map.update(dict.fromkeys(tensors, name))

    for layer in range(num_layers):
        write(layer, _awq_layer(np.random.default_rng(layer), layer))
    rng = np.random.default_rng(num_layers)
    ends = {"model.embed_tokens.weight": _table(rng, 1.0), "lm_head.weight": _table(rng, DEVIATION)}
    write(num_layers, ends | {"model.norm.weight": np.ones(HIDDEN, np.float16)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(_CONFIG | {"num_hidden_layers": num_layers}, indent=1))


def _q4_0(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix as Q4_0 blocks, uint8 [rows, row_bytes]."""
    blocks = np.frombuffer(rng.bytes(rows * columns // 32 * 18), np.uint8).reshape(rows, -1, 18).copy()
    blocks[..., :2] = _scales(rng, rows, columns // 32, 1).view(np.uint8)
    return blocks.reshape(rows, -1)


def _gguf_tensors(num_layers: int) -> Iterator[tuple[str, tuple[int, int, str] | int]]:
    """Names, and (rows, columns, type) of a matrix or the size of a vector, in file order."""
    yield "token_embd.weight", (VOCAB_SIZE, HIDDEN, "f16")
    for layer in range(num_layers):
        yield f"blk.{layer}.attn_norm.weight", HIDDEN
        yield f"blk.{layer}.ffn_norm.weight", HIDDEN
        for name, rows, columns in _MATRICES.values():
            yield f"blk.{layer}.{name}.weight", (rows, columns, "q4_0")
    yield "output_norm.weight", HIDDEN
    yield "output.weight", (VOCAB_SIZE, HIDDEN, "f16")


def write_gguf(path: Path, num_layers: int = NUM_LAYERS) -> None:
    """Writes the file, a tensor at a time."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_block_count(num_layers)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_HEADS)
    writer.add_rope_dimension_count(HIDDEN // NUM_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_tokenizer(writer)
    for name, shape in _gguf_tensors(num_layers):
        if isinstance(shape, int):
            writer.add_tensor_info(name, (shape,), np.dtype(np.float32), 4 * shape)
        elif shape[2] == "f16":
            writer.add_tensor_info(name, shape[:2], np.dtype(np.float16), shape[0] * shape[1] * 2)
        else:
            row_bytes = shape[1] // 32 * 18
            writer.add_tensor_info(
                name, (shape[0], row_bytes), np.dtype(np.uint8), shape[0] * row_bytes, gguf.GGMLQuantizationType.Q4_0
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(0)
    for name, shape in _gguf_tensors(num_layers):
        if isinstance(shape, int):
            values = np.ones(shape, np.float32)
        elif shape[2] == "f16":
            values = _table(rng, 1.0 if name.startswith("token") else DEVIATION)
        else:
            values = _q4_0(rng, shape[0], shape[1])
        writer.write_tensor_data(values)
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """A SentencePiece vocabulary of the right size: control tokens, bytes, and made-up words."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [f"▁w{index}" for index in range(VOCAB_SIZE - len(names))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * VOCAB_SIZE)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (VOCAB_SIZE - len(kinds)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m bench.make_llama_7b", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="the folder, or with --format q4_0 the file, to write")
    options.add_argument("--format", choices=("int4_g128", "q4_0"), default="int4_g128")
    options.add_argument("--layers", type=int, default=NUM_LAYERS, help=f"decoder layers (default {NUM_LAYERS})")
    chosen = options.parse_args()
    write = write_awq if chosen.format == "int4_g128" else write_gguf
    write(chosen.out, chosen.layers)


if __name__ == "__main__":
    main()
