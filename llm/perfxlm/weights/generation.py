"""What a checkpoint says about generation: special token ids and the sampling parameters its authors recommend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfxlm.config import MAX_VOCAB_SIZE
from perfxlm.fields import Fields

_GGUF_SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
_HF_SAMPLING = (*_GGUF_SAMPLING, "max_new_tokens")


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """Token ids that end a text, the id that begins one, and recommended sampling parameters by HuggingFace's names."""

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_gguf(cls, metadata: Fields) -> GenerationDefaults:
        """Out of a GGUF file's metadata; the ends of turn and of message end a text as well. Raises ConfigError."""
        keys = [f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom")]
        ends = [token for key in keys for token in _token_ids(metadata, key)]
        begins = _token_ids(metadata, "tokenizer.ggml.bos_token_id")
        sampling = {
            name: metadata.number(f"general.sampling.{key}", low=-1.0)
            for name, key in _GGUF_SAMPLING.items()
            if f"general.sampling.{key}" in metadata
        }
        return cls(tuple(dict.fromkeys(ends)), begins[0] if begins else None, sampling)

    @classmethod
    def from_hf(cls, config: Fields, generation_config: Fields) -> GenerationDefaults:
        """Out of config.json and generation_config.json (empty where there is none). Raises ConfigError."""
        ends = (*_token_ids(generation_config, "eos_token_id"), *_token_ids(config, "eos_token_id"))
        begins = (*_token_ids(generation_config, "bos_token_id"), *_token_ids(config, "bos_token_id"))
        sampling = {
            name: generation_config.number(name, low=-1.0) for name in _HF_SAMPLING if name in generation_config
        }
        return cls(tuple(dict.fromkeys(ends)), begins[0] if begins else None, sampling)


def _token_ids(fields: Fields, key: str) -> tuple[int, ...]:
    """An id, a list of ids, or nothing."""
    if key not in fields:
        return ()
    value = fields.value(key)
    ids = value if isinstance(value, list) else [value]
    return tuple(Fields({key: each}, fields.source).integer(key, low=0, high=MAX_VOCAB_SIZE) for each in ids)
