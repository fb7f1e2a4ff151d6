"""The arguments of the engine: our own, those of vLLM that change nothing here, and those that cannot be met."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import perfxapi as px
from perfxapi.errors import InvalidArgumentError
from perfxlm.device_map import check_device_map, layer_devices
from perfxlm.engine.scheduler import SchedulerLimits
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.layers.base import ModelOptions
from perfxlm.validation import check_int, check_optional_int, shown
from perfxlm.weights.loader import ModelFiles

KV_CACHE_BYTES = 1 << 30
"""Default size of the KV cache. Memory is taken only as it fills."""

MIN_MODEL_LEN = 2048
"""Default longest sequence at least, whatever the KV cache would take."""

LOGIT_ROWS = 64
"""Positions of a prompt whose logits are computed in one step, where its log-probabilities are asked for."""

_MAX_BATCHED_TOKENS = 1 << 16
_KV_DTYPES = {"float16": px.float16, "half": px.float16, "float32": px.float32, "float": px.float32}
_ACTIVATION_FORMATS = ("auto", "float32", "int8", "int16")

WITHOUT_EFFECT = frozenset({
    "async_scheduling", "compilation_config", "cudagraph_capture_sizes", "disable_custom_all_reduce",
    "disable_log_requests", "disable_log_stats", "disable_mm_preprocessor_cache", "download_dir",
    "enable_chunked_prefill", "enable_prefix_caching", "enforce_eager", "gpu_memory_utilization",
    "hf_token", "max_parallel_loading_workers", "num_gpu_blocks_override",
    "optimization_level", "prefix_caching_hash_algo", "served_model_name", "swap_space", "trust_remote_code",
    "use_tqdm_on_load", "worker_cls",
})  # fmt: skip
"""Arguments of vLLM that cannot change a result here: how memory is used, how a GPU is driven, what is logged."""

ONLY_VALUES: Mapping[str, tuple[Any, ...]] = {
    "config_format": ("auto", "hf"),
    "convert": ("auto", "none"),
    "cpu_offload_gb": (0,),
    "data_parallel_size": (1,),
    "dtype": ("auto", "float32", "float"),
    "enable_expert_parallel": (False,),
    "enable_lora": (False,),
    "generation_config": ("auto",),
    "hf_overrides": (None, {}),
    "limit_mm_per_prompt": (None, {}),
    "load_format": ("auto", "gguf", "safetensors"),
    "logits_processors": (None, []),
    "model_impl": ("auto",),
    "pipeline_parallel_size": (1,),
    "pooler_config": (None,),
    "quantization": (None, "awq", "gguf"),
    "revision": (None,),
    "runner": ("auto", "generate"),
    "scheduling_policy": ("fcfs",),
    "spec_method": (None,),
    "spec_model": (None,),
    "spec_tokens": (None, 0),
    "speculative_config": (None,),
    "structured_outputs_config": (None,),
    "tensor_parallel_size": (1,),
    "tokenizer_mode": ("auto", "slow"),
    "tokenizer_revision": (None,),
}
"""Arguments of vLLM of which only some values are built."""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """How the engine works. Every field is checked; InvalidArgumentError names it.

    max_model_len: longest sequence, prompt and output (default: the model's own, as far as the KV cache holds it).
    max_num_seqs: requests that run at once. max_num_batched_tokens: tokens that a step computes; longer prompts are
    computed in chunks. block_size: tokens in a block of the KV cache, a multiple of 16. kv_cache_dtype: "float16",
    "float32"; "auto" is float16 for quantized models (GGUF, AWQ), else float32. kv_cache_memory_bytes: size of the KV
    cache. seed: of requests without their own. activation_format: precision of activations in products with quantized
    weights, "int16", "int8" or "float32"; "auto" is int16. num_threads: of native code (default: one for each
    processor). max_logprobs: most that a request may ask for (-1: all). device_map: layers for each device, where the
    model is split (`{"opencl:0": "0-8", "cpu": "9-"}`); the embedding is with the first layer, the head with the last.
    """

    max_model_len: int | None = None
    max_num_seqs: int = 32
    max_num_batched_tokens: int = 512
    block_size: int = 16
    kv_cache_dtype: str = "auto"
    kv_cache_memory_bytes: int | None = None
    seed: int = 0
    activation_format: str = "auto"
    num_threads: int | None = None
    max_logprobs: int = -1
    device_map: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_optional_int("max_model_len", self.max_model_len, 2, 1 << 28)
        check_int("max_num_seqs", self.max_num_seqs, 1, 4096)
        check_int("max_num_batched_tokens", self.max_num_batched_tokens, 1, _MAX_BATCHED_TOKENS)
        if check_int("block_size", self.block_size, 16, 1024) % 16:
            raise InvalidArgumentError(f"block_size must be a multiple of 16; got {self.block_size}")
        check_optional_int("kv_cache_memory_bytes", self.kv_cache_memory_bytes, 1, 1 << 50)
        check_int("seed", self.seed, -(2**63))
        check_optional_int("num_threads", self.num_threads, 1, 4096)
        check_int("max_logprobs", self.max_logprobs, -1)
        if self.device_map is not None:
            check_device_map(self.device_map)
        if self.kv_cache_dtype != "auto" and self.kv_cache_dtype not in _KV_DTYPES:
            known = ", ".join(["auto", *_KV_DTYPES])
            raise InvalidArgumentError(f"kv_cache_dtype must be one of {known}; got {shown(self.kv_cache_dtype)}")
        if self.activation_format not in _ACTIVATION_FORMATS:
            known = ", ".join(_ACTIVATION_FORMATS)
            raise InvalidArgumentError(f"activation_format must be one of {known}; got {shown(self.activation_format)}")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> EngineArgs:
        """Our fields out of vLLM's arguments. Raises UnsupportedFeatureError for a value that is not built."""
        own = {field.name for field in fields(cls)}
        check_foreign({name: value for name, value in arguments.items() if name not in own})
        return cls(**{name: value for name, value in arguments.items() if name in own})


def check_foreign(arguments: Mapping[str, Any]) -> None:
    """Raises UnsupportedFeatureError for a value that is not built, InvalidArgumentError for an unknown argument."""
    for name, value in arguments.items():
        if name in WITHOUT_EFFECT:
            continue
        if name not in ONLY_VALUES:
            known = [*ONLY_VALUES, *WITHOUT_EFFECT, *(field.name for field in fields(EngineArgs))]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise InvalidArgumentError(f"LLM has no argument {shown(name)}.{hint}")
        if value not in ONLY_VALUES[name]:
            built = ", ".join(map(repr, ONLY_VALUES[name]))
            raise UnsupportedFeatureError(f"{name}={shown(value)} is not built yet; only {built}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from the arguments for one model: the size of everything."""

    options: ModelOptions
    limits: SchedulerLimits
    num_blocks: int
    block_size: int

    @classmethod
    def of(cls, args: EngineArgs, files: ModelFiles) -> Plan:
        """Raises InvalidArgumentError where the KV cache cannot hold one sequence of max_model_len."""
        config = files.config
        is_quantized = files.path.suffix == ".gguf" or files.weights.is_quantized
        auto = px.float16 if is_quantized else px.float32
        options = ModelOptions(
            activation_format="int16" if args.activation_format == "auto" else args.activation_format,
            kv_dtype=_KV_DTYPES.get(args.kv_cache_dtype, auto),
            devices=layer_devices(args.device_map, config.num_layers) if args.device_map else (),
        )
        token_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * options.kv_dtype.itemsize
        num_tokens = (args.kv_cache_memory_bytes or KV_CACHE_BYTES) // token_bytes
        if args.kv_cache_memory_bytes is None:
            num_tokens = max(num_tokens, args.max_model_len or MIN_MODEL_LEN)
        max_model_len = min(args.max_model_len or num_tokens, config.max_model_len)
        if num_tokens < max(max_model_len, 2):
            raise InvalidArgumentError(
                f"kv_cache_memory_bytes {args.kv_cache_memory_bytes} holds {num_tokens} tokens, too few for a sequence "
                f"of max_model_len {max(max_model_len, 2)}: raise the one or lower the other"
            )
        if args.max_model_len is not None and args.max_model_len > config.max_model_len:
            raise InvalidArgumentError(
                f"max_model_len {args.max_model_len} is more than the {config.max_model_len} the model was made for"
            )
        blocks_of_one = -(-max_model_len // args.block_size)
        num_blocks = min(-(-num_tokens // args.block_size), blocks_of_one * args.max_num_seqs)
        limits = SchedulerLimits(
            max_num_seqs=args.max_num_seqs,
            max_num_batched_tokens=args.max_num_batched_tokens,
            max_model_len=max_model_len,
            max_logit_rows=max(min(LOGIT_ROWS, args.max_num_batched_tokens), args.max_num_seqs),
        )
        return cls(options, limits, num_blocks, args.block_size)
