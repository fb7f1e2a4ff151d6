"""What the commands share: options of the engine and of sampling, and how they become an LLM."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfxlm.llm import LLM
    from perfxlm.sampling_params import SamplingParams

_ENGINE_OPTIONS = ("max_model_len", "kv_cache_dtype", "activation_format", "num_threads")
_SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "stop")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and the options of the engine."""
    parser.add_argument("model", metavar="MODEL", help="a .gguf file, a HuggingFace folder, or a name (gemma3-270m)")
    parser.add_argument("--device", default="auto", help="cpu, opencl:1, ... (default: PERFXAPI_DEVICE, else the best)")
    parser.add_argument(
        "--device-map",
        action="append",
        metavar="DEVICE=LAYERS",
        help="split the model: layers of a device, like opencl:0=0-8; given once for each (cpu=9-: to the last)",
    )
    parser.add_argument(
        "--fallback",
        choices=("allow", "warn", "error"),
        help="what to do where the device cannot be had (default: warn)",
    )
    parser.add_argument(
        "--threads", type=int, dest="num_threads", metavar="N", help="threads (default: one a processor)"
    )
    parser.add_argument("--max-model-len", type=int, metavar="N", help="longest sequence, prompt and output, in tokens")
    parser.add_argument("--kv-cache-dtype", metavar="TYPE", help="auto, float16 or float32 (default: auto)")
    parser.add_argument(
        "--activation-format", metavar="FORMAT", help="auto, int16, int8 or float32: precision beside quantized weights"
    )


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of SamplingParams; those not given keep the model's recommendation."""
    parser.add_argument("--max-tokens", type=int, metavar="N", help="most tokens to generate")
    parser.add_argument("--temperature", type=float, metavar="T", help="0: always the likeliest token")
    parser.add_argument("--top-p", type=float, metavar="P", help="sample among the likeliest tokens of this total")
    parser.add_argument("--top-k", type=int, metavar="K", help="sample among this many likeliest tokens")
    parser.add_argument(
        "--min-p", type=float, metavar="P", help="leave out tokens less likely than this part of the first"
    )
    parser.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: repeat less")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same text")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be given again")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def open_llm(arguments: argparse.Namespace, **more: Any) -> LLM:
    """The LLM that the arguments describe, with `more` arguments of its own."""
    from perfxlm.device_map import parse_device_map
    from perfxlm.llm import LLM

    given = {name: value for name in _ENGINE_OPTIONS if (value := getattr(arguments, name)) is not None}
    options = {**more, **given}
    if arguments.device_map:
        options["device_map"] = parse_device_map(arguments.device_map)
    return LLM(arguments.model, device=arguments.device, fallback=arguments.fallback, **options)


def sampling_params(arguments: argparse.Namespace, llm: LLM, **defaults: Any) -> SamplingParams:
    """The model's recommendation, changed by `defaults`, changed by the arguments."""
    from perfxlm.sampling_params import SamplingParams

    recommended = llm.get_default_sampling_params()
    changed = {name: value for name in _SAMPLING_OPTIONS if (value := getattr(arguments, name)) is not None}
    kept = {name: getattr(recommended, name) for name in _SAMPLING_OPTIONS}
    return SamplingParams(**{**kept, **defaults, **changed})


def print_json(values: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def read_text(path: str) -> str:
    """A text file in UTF-8. Raises OSError, or FileFormatError that names the byte which is not."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        from perfxapi.errors import FileFormatError

        raise FileFormatError(path, f"byte {error.start}", "invalid UTF-8: convert it, for example by iconv") from None


def format_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
