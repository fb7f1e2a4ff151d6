"""What a decoder-only transformer is, in numbers: out of a GGUF file's metadata or a HuggingFace config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfxlm.fields import ConfigError, Fields
from perfxlm.rope import LinearScaling, Llama3Scaling, RopeConfig, RopeScaling, YarnScaling

# Bounds on untrusted sizes: an order of magnitude past any published model, and small enough that no product overflows.
MAX_VOCAB_SIZE = 1 << 24
MAX_WIDTH = 1 << 20
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_LENGTH = 1 << 28
MIN_THETA = 2.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture's name and sizes. Widths are in channels, lengths in tokens.

    `windows` and `ropes` have one entry per layer; a window of 0 attends to everything before. `norm_offset` is added
    to stored normalization weights (HuggingFace's Gemma stores w and multiplies by 1 + w; GGUF files hold 1 + w
    already). `rope_interleaved` says whether rotated pairs are (2i, 2i + 1), as in GGUF's Llama, or (i, i + dim/2).
    `logit_softcap` c, where not 0, replaces a logit l by c tanh(l / c); `attention_softcap` does so to attention
    scores. Raises ConfigError where values contradict each other.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rms_eps: float
    max_model_len: int
    query_scale: float
    windows: tuple[int, ...]
    ropes: tuple[RopeConfig, ...]
    embedding_scale: float = 1.0
    norm_offset: float = 0.0
    rope_interleaved: bool = False
    tied_embeddings: bool = False
    logit_softcap: float = 0.0
    attention_softcap: float = 0.0

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            problem = f"{self.num_heads} query heads cannot share {self.num_kv_heads} key-value heads evenly"
            raise ConfigError(self.architecture, "num_kv_heads", problem)
        for name, entries in (("windows", self.windows), ("ropes", self.ropes)):
            if len(entries) != self.num_layers:
                raise ConfigError(
                    self.architecture, name, f"{self.num_layers} entries are expected; got {len(entries)}"
                )
        for rope in self.ropes:
            if rope.dim % 2 or not 0 < rope.dim <= self.head_dim:
                problem = f"an even number of channels, at most head_dim {self.head_dim}, is expected; got {rope.dim}"
                raise ConfigError(self.architecture, "rope dimension", problem)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], source: str = "GGUF metadata") -> ModelConfig:
        """What all architectures keep under the same keys; a model class refines it. Raises ConfigError."""
        architecture = Fields(metadata, source).text("general.architecture")
        fields = Fields(metadata, source, f"{architecture}.")
        fields.require_absent("expert_count")
        hidden_size = fields.integer("embedding_length", high=MAX_WIDTH)
        num_layers = fields.integer("block_count", high=MAX_LAYERS)
        num_heads = fields.uniform_integer("attention.head_count", high=MAX_HEADS)
        head_dim = fields.integer("attention.key_length", hidden_size // num_heads, high=MAX_WIDTH)
        if fields.integer("attention.value_length", head_dim, high=MAX_WIDTH) != head_dim:
            raise fields.unsupported("attention.value_length", "values of another size than keys are not supported")
        max_model_len = fields.integer("context_length", high=MAX_LENGTH)
        return cls(
            architecture=architecture,
            vocab_size=_gguf_vocab_size(metadata, fields),
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=fields.uniform_integer("attention.head_count_kv", num_heads, high=MAX_HEADS),
            head_dim=head_dim,
            intermediate_size=fields.uniform_integer("feed_forward_length", high=MAX_WIDTH),
            rms_eps=fields.number("attention.layer_norm_rms_epsilon", high=1.0),
            max_model_len=max_model_len,
            query_scale=head_dim**-0.5,
            windows=(0,) * num_layers,
            ropes=(_gguf_rope(fields, head_dim, max_model_len),) * num_layers,
            logit_softcap=fields.number("final_logit_softcapping", 0.0),
        )

    @classmethod
    def from_hf(
        cls, config: Mapping[str, Any], source: str = "config.json", defaults: Mapping[str, Any] | None = None
    ) -> ModelConfig:
        """What all architectures keep in the same keys of config.json (or its text_config); a model class refines it.

        `defaults` are the architecture's values for keys that its published files leave out. Raises ConfigError
        naming a bad key, UnsupportedModelError for biases, mixtures of experts, and quantization other than AWQ.
        """
        fields = hf_fields(config, source, defaults)
        fields.require_absent("attention_bias", "mlp_bias", "num_local_experts", "num_experts")
        if "quantization_config" in fields:
            fields.child("quantization_config").require_choice("quant_method", "", "awq")
        hidden_size = fields.integer("hidden_size", high=MAX_WIDTH)
        num_layers = fields.integer("num_hidden_layers", high=MAX_LAYERS)
        num_heads = fields.integer("num_attention_heads", high=MAX_HEADS)
        head_dim = fields.integer("head_dim", hidden_size // num_heads, high=MAX_WIDTH)
        return cls(
            architecture=hf_architecture(config, source),
            vocab_size=fields.integer("vocab_size", high=MAX_VOCAB_SIZE),
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=fields.integer("num_key_value_heads", num_heads, high=MAX_HEADS),
            head_dim=head_dim,
            intermediate_size=fields.integer("intermediate_size", high=MAX_WIDTH),
            rms_eps=fields.number("rms_norm_eps", high=1.0),
            max_model_len=fields.integer("max_position_embeddings", high=MAX_LENGTH),
            query_scale=head_dim**-0.5,
            windows=(0,) * num_layers,
            ropes=(hf_rope(fields, head_dim),) * num_layers,
            tied_embeddings=fields.flag("tie_word_embeddings"),
        )


def hf_fields(config: Mapping[str, Any], source: str, defaults: Mapping[str, Any] | None = None) -> Fields:
    """The fields of the text model: config.json itself, or its text_config where the model is multimodal."""
    outer = Fields(config, source)
    fields = outer.child("text_config") if "text_config" in outer else outer
    given = {key: value for key, value in fields.values.items() if value is not None}
    return Fields({**(defaults or {}), **given}, fields.source)


def hf_architecture(config: Mapping[str, Any], source: str) -> str:
    """The first of `architectures`, or `model_type` where that is absent."""
    fields = Fields(config, source)
    architectures = fields.value("architectures", ())
    if not isinstance(architectures, list | tuple) or not all(isinstance(each, str) for each in architectures):
        raise fields.error("architectures", "a list of names is expected")
    return architectures[0] if architectures else fields.text("model_type")


def hf_rope(
    fields: Fields, head_dim: int, layer_type: str = "full_attention", theta_key: str = "rope_theta", theta: float = 1e4
) -> RopeConfig:
    """Rotary parameters of a type of layer.

    Transformers 5 writes `rope_parameters` (one object, or one per layer type); earlier releases write the base under
    `theta_key` and `rope_scaling`, which concerns full attention alone. `theta` is the base where the file names
    none.
    """
    parameters = fields.child("rope_parameters")
    if layer_type in parameters:
        parameters = parameters.child(layer_type)
    elif "full_attention" in parameters or "sliding_attention" in parameters:
        parameters = Fields({}, parameters.source)
    elif not parameters.values and layer_type == "full_attention":
        parameters = fields.child("rope_scaling")
    max_len = fields.integer("max_position_embeddings", high=MAX_LENGTH)
    fraction = parameters.number(
        "partial_rotary_factor", fields.number("partial_rotary_factor", 1.0, high=1.0), high=1.0
    )
    base = parameters.number("rope_theta", fields.number(theta_key, theta, low=MIN_THETA), low=MIN_THETA)
    return RopeConfig(base, int(head_dim * fraction), _hf_scaling(parameters, max_len))


def _hf_scaling(parameters: Fields, max_len: int) -> RopeScaling | None:
    key = "rope_type" if "rope_type" in parameters else "type"
    kind = parameters.require_choice(key, "default", "default", "linear", "llama3", "yarn")
    if kind == "default":
        return None
    factor = parameters.number("factor", low=1.0)
    if kind == "linear":
        return LinearScaling(factor)
    original = parameters.integer("original_max_position_embeddings", max_len, high=MAX_LENGTH)
    if kind == "llama3":
        low = parameters.number("low_freq_factor")
        high = parameters.number("high_freq_factor")
        if high <= low:
            raise parameters.error("high_freq_factor", f"more than low_freq_factor {low:g} is expected; got {high:g}")
        return Llama3Scaling(factor, low, high, original)
    parameters.require_absent("mscale", "mscale_all_dim")
    if not parameters.flag("truncate", True):
        raise parameters.unsupported("truncate", "YaRN without rounded boundaries is not supported")
    return YarnScaling(
        factor,
        original,
        parameters.number("attention_factor", _yarn_amplitude(factor)),
        parameters.number("beta_fast", 32.0, low=1e-3),
        parameters.number("beta_slow", 1.0, low=1e-3),
    )


def _yarn_amplitude(factor: float) -> float:
    """The temperature that YaRN's authors fitted (Peng et al. 2023, equation 22)."""
    return 0.1 * math.log(factor) + 1.0


def _gguf_vocab_size(metadata: Mapping[str, Any], fields: Fields) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens")
    return fields.integer("vocab_size", len(tokens) if tokens is not None else None, high=MAX_VOCAB_SIZE)


def _gguf_rope(fields: Fields, head_dim: int, max_len: int) -> RopeConfig:
    theta = fields.number("rope.freq_base", 1e4, low=MIN_THETA)
    dim = fields.integer("rope.dimension_count", head_dim, high=MAX_WIDTH)
    return RopeConfig(theta, dim, _gguf_scaling(fields, max_len))


def _gguf_scaling(fields: Fields, max_len: int) -> RopeScaling | None:
    legacy_factor = fields.number("rope.scale_linear", 1.0, low=1.0)
    kind = fields.require_choice(
        "rope.scaling.type", "linear" if legacy_factor > 1 else "none", "none", "linear", "yarn"
    )
    if kind == "none":
        return None
    factor = fields.number("rope.scaling.factor", legacy_factor, low=1.0)
    if kind == "linear":
        return LinearScaling(factor)
    return YarnScaling(
        factor,
        fields.integer("rope.scaling.original_context_length", max_len, high=MAX_LENGTH),
        fields.number("rope.scaling.yarn_attn_factor", fields.number("rope.scaling.attn_factor", 1.0))
        * _yarn_amplitude(factor),
        fields.number("rope.scaling.yarn_beta_fast", 32.0, low=1e-3),
        fields.number("rope.scaling.yarn_beta_slow", 1.0, low=1e-3),
    )


def hf_windows(fields: Fields, window: int, usual: Sequence[bool]) -> tuple[int, ...]:
    """Each layer's window: `window` tokens where `layer_types` (if the file has none, `usual`) says it slides."""
    slides = list(usual)
    if "layer_types" in fields:
        layer_types = fields.texts("layer_types", len(usual))
        unknown = sorted(set(layer_types) - {"full_attention", "sliding_attention"})
        if unknown:
            raise fields.unsupported("layer_types", f"{unknown[0]!r} is not supported")
        slides = [each == "sliding_attention" for each in layer_types]
    if any(slides) and not window:
        raise fields.error("layer_types", "layers slide, but use_sliding_window is false")
    return tuple(window if slide else 0 for slide in slides)
