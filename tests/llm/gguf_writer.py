"""Writes a small HuggingFace checkpoint as GGUF, as llama.cpp's converter does, with the ggml project's own writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from perfxlm.weights.safetensors import SafetensorsFile

Floats = npt.NDArray[np.float32]
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3", "Gemma3ForCausalLM": "gemma3"}


def write_gguf(
    folder: Path,
    path: Path,
    *,
    extra: Mapping[str, Any] | None = None,
    more_tensors: Mapping[str, Floats] | None = None,
    quantize: bool = False,
) -> None:
    """Converts `folder`. `extra` holds more metadata, by key without the architecture; matrices are Q8_0 or float32."""
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES[config["architectures"][0]]
    writer = gguf.GGUFWriter(path, architecture)
    _write_sizes(writer, config)
    adders: dict[type, Callable[[str, Any], None]] = {
        str: writer.add_string,
        int: writer.add_uint32,
        float: writer.add_float32,
    }
    for key, value in (extra or {}).items():
        adders[type(value)](f"{architecture}.{key}", value)
    convert = _converter(architecture, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"])
    for name, tensor in SafetensorsFile.open(folder).tensors.items():
        stored = names.get_name(name, try_suffixes=(".weight",))
        if stored is None:
            raise AssertionError(f"the ggml project knows no name for {name}")
        values = convert(stored, tensor.to_float32())
        if quantize and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, values)
    if (divisors := _llama3_divisors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    for name, values in (more_tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_eos_token_id(2)
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if config.get("layer_types", ["full_attention"])[0] == "sliding_attention":
        writer.add_sliding_window(config["sliding_window"])


def _converter(architecture: str, config: Mapping[str, Any]) -> Callable[[str, Floats], Floats]:
    def convert(name: str, values: Floats) -> Floats:
        if architecture == "gemma3" and name.endswith("norm.weight"):
            return values + 1
        if architecture == "llama" and ("attn_q" in name or "attn_k" in name):
            return _neighbors(values, config["head_dim"])
        return values

    return convert


def _neighbors(values: Floats, head_dim: int) -> Floats:
    """Rows of each head in the order 0, head_dim/2, 1, head_dim/2 + 1, ...: rotated pairs become neighbors."""
    heads = values.reshape(-1, 2, head_dim // 2, values.shape[1])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)


def _llama3_divisors(config: Mapping[str, Any]) -> Floats | None:
    """The divisor of each frequency as llama.cpp's converter computes it, by wavelengths."""
    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return None
    original = rope["original_max_position_embeddings"]
    longest, shortest = original / rope["low_freq_factor"], original / rope["high_freq_factor"]
    divisors = []
    for channel in range(0, config["head_dim"], 2):
        wavelength = 2 * np.pi * rope["rope_theta"] ** (channel / config["head_dim"])
        smooth = (original / wavelength - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"]
        )
        between = 1 / ((1 - smooth) / rope["factor"] + smooth)
        divisors.append(1.0 if wavelength < shortest else rope["factor"] if wavelength > longest else between)
    return np.array(divisors, np.float32)
