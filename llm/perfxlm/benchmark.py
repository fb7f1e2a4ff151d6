"""How fast a model runs here: prefill, decode, memory, and the share of the time that is not spent in native code."""

from __future__ import annotations

import resource
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfxapi.errors import InvalidArgumentError
from perfxlm.llm import LLM
from perfxlm.sampling_params import SamplingParams
from perfxlm.validation import check_int


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat. Speeds in tokens per second."""

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    outside_native_fraction: float


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Medians over the repeats. `outside_native_fraction`: 1 - time in native code over the wall time, of decoding.

    `peak_memory_bytes`: largest resident memory of the whole process so far, loading included.
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    peak_memory_bytes: int
    outside_native_fraction: float
    device: str
    threads: int
    prompt_tokens: int
    gen_tokens: int
    repeats: int


def run_benchmark(llm: LLM, *, prompt_tokens: int = 512, gen_tokens: int = 128, repeats: int = 5) -> BenchmarkResult:
    """Generates greedily from random prompts, one at a time, once to warm up and then `repeats` times.

    Prefill is counted up to the first token, which comes with it; `gen_tokens` are decoded after that.
    """
    check_int("prompt_tokens", prompt_tokens, 1)
    check_int("gen_tokens", gen_tokens, 1)
    check_int("repeats", repeats, 1, 1000)
    longest = llm.plan.limits.max_model_len
    if prompt_tokens + gen_tokens + 1 > longest:
        raise InvalidArgumentError(
            f"prompt_tokens + gen_tokens + 1 is {prompt_tokens + gen_tokens + 1}, more than max_model_len {longest}"
        )
    rng = np.random.default_rng(0)
    runs = [_run_once(llm, rng, prompt_tokens, gen_tokens) for _ in range(repeats + 1)][1:]
    return BenchmarkResult(
        prefill_tokens_per_second=statistics.median(run.prefill_tokens_per_second for run in runs),
        decode_tokens_per_second=statistics.median(run.decode_tokens_per_second for run in runs),
        peak_memory_bytes=peak_memory_bytes(),
        outside_native_fraction=statistics.median(run.outside_native_fraction for run in runs),
        device=str(llm.engine.runner.device),
        threads=llm.num_threads,
        prompt_tokens=prompt_tokens,
        gen_tokens=gen_tokens,
        repeats=repeats,
    )


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    From /proc where there is one: `getrusage` also counts what a parent process held when it started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _run_once(llm: LLM, rng: np.random.Generator, prompt_tokens: int, gen_tokens: int) -> Run:
    prompt = rng.integers(0, llm.model_config.vocab_size, prompt_tokens).tolist()
    params = SamplingParams(temperature=0.0, max_tokens=gen_tokens + 1, ignore_eos=True, detokenize=False)
    metrics = llm.engine.metrics
    wall, native = metrics.decode_seconds, metrics.native_decode_seconds
    (output,) = llm.generate({"prompt_token_ids": prompt}, params, use_tqdm=False)
    times = output.metrics
    assert times is not None
    decode_seconds = times.last_token_ts - times.first_token_ts
    outside = 1 - (metrics.native_decode_seconds - native) / (metrics.decode_seconds - wall)
    return Run(prompt_tokens / times.first_token_latency, gen_tokens / decode_seconds, outside)
