"""How fast a model runs here: prefill, decode, memory, and the share of the time that is not spent in native code."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.sampler import GREEDY, SAMPLED
from perfxlm.inputs import TokensPrompt
from perfxlm.llm import LLM
from perfxlm.sampling_params import SamplingParams
from perfxlm.step_profile import KernelProfile, decode_step, prefill_steps, profile
from perfxlm.validation import check_int, check_optional_int

Prompts = list[list[int]]
DrawPrompts = Callable[[int, int], Prompts]


@dataclass(frozen=True, slots=True)
class BenchmarkLoad:
    """What is run. Raises InvalidArgumentError.

    prompt_tokens: of the prompt whose prefill is measured, alone. context: tokens of each sequence before it decodes
    (None: as many as that prompt). gen_tokens: decoded after the first token, by each of `batch` sequences together.
    with_full_logits: whether decoding is also measured with all logits. text: what prompts are cut from, at random
    places and repeated where it ends; None: prompts are random tokens, after which greedy decoding takes longer, for
    the model is less sure of what comes next.
    """

    prompt_tokens: int = 512
    gen_tokens: int = 128
    repeats: int = 5
    context: int | None = None
    batch: int = 1
    with_full_logits: bool = True
    text: str | None = None

    def __post_init__(self) -> None:
        check_int("prompt_tokens", self.prompt_tokens, 1)
        check_int("gen_tokens", self.gen_tokens, 1)
        check_int("repeats", self.repeats, 1, 1000)
        check_optional_int("context", self.context, 1)
        check_int("batch", self.batch, 1)

    @property
    def filled(self) -> int:
        """Tokens of each sequence before it decodes."""
        return self.prompt_tokens if self.context is None else self.context

    def check_room(self, llm: LLM) -> None:
        """Raises InvalidArgumentError where the engine has no room for this load."""
        limits = llm.plan.limits
        longest = max(self.prompt_tokens + 1, self.filled + self.gen_tokens + 1)
        if longest > limits.max_model_len:
            name = "prompt_tokens" if self.context is None else "context"
            raise InvalidArgumentError(
                f"{name} + gen_tokens + 1 is {longest}, more than max_model_len {limits.max_model_len}"
            )
        if self.batch > limits.max_num_seqs:
            raise InvalidArgumentError(f"batch is {self.batch}, more than max_num_seqs {limits.max_num_seqs}")
        room = llm.plan.num_blocks * llm.plan.block_size
        if self.batch * longest > room:
            raise InvalidArgumentError(
                f"{self.batch} sequences of {longest} tokens are more than the {room} of the KV cache"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat. Speeds in tokens per second."""

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    outside_native_fraction: float
    decode_full_logits_tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Medians over the repeats; speeds in tokens per second, of all sequences together.

    `decode_tokens_per_second`: greedy decoding, which asks for the likeliest token only (`vocab_topk`).
    `decode_full_logits_tokens_per_second`: the same tokens from requests that make the engine compute every logit; None
    where it was left out.
    `outside_native_fraction`: 1 - time in native code over the wall time, of greedy decoding.
    `peak_memory_bytes`: largest resident memory of the whole process so far, loading included.
    `kernels`: of the prompt ("prefill"), of a step of decoding ("decode") and of one with all logits
    ("decode_full_logits"); empty where no profile was asked for.
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    decode_full_logits_tokens_per_second: float | None
    peak_memory_bytes: int
    outside_native_fraction: float
    device: str
    threads: int
    activation_format: str
    prompt_tokens: int
    context: int
    batch: int
    gen_tokens: int
    repeats: int
    kernels: dict[str, list[KernelProfile]] = field(default_factory=dict)


def run_benchmark(llm: LLM, load: BenchmarkLoad | None = None, *, with_profile: bool = False) -> BenchmarkResult:
    """Generates greedily from new prompts, once to warm up and then `load.repeats` times.

    Prefill is counted up to the first token, which comes with it. Decoding is counted from the first token of any
    sequence to the last of all. The profile is taken in runs of its own. Raises InvalidArgumentError.
    """
    load = load or BenchmarkLoad()
    load.check_room(llm)
    draw = _prompt_source(llm, load.text)
    runs = [_run_once(llm, load, draw) for _ in range(load.repeats + 1)][1:]
    full = [speed for run in runs if (speed := run.decode_full_logits_tokens_per_second) is not None]
    return BenchmarkResult(
        prefill_tokens_per_second=statistics.median(run.prefill_tokens_per_second for run in runs),
        decode_tokens_per_second=statistics.median(run.decode_tokens_per_second for run in runs),
        decode_full_logits_tokens_per_second=statistics.median(full) if full else None,
        outside_native_fraction=statistics.median(run.outside_native_fraction for run in runs),
        peak_memory_bytes=peak_memory_bytes(),
        device=llm.engine.runner.devices,
        threads=llm.num_threads,
        activation_format=llm.plan.options.activation_format,
        prompt_tokens=load.prompt_tokens,
        context=load.filled,
        batch=load.batch,
        gen_tokens=load.gen_tokens,
        repeats=load.repeats,
        kernels=_profile(llm, load, draw) if with_profile else {},
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


def greedy_params(gen_tokens: int, *, with_full_logits: bool = False) -> SamplingParams:
    """A request for the first token and `gen_tokens` more, each the likeliest.

    A bias may fall on any token, so the engine computes every logit for a request that has one, be it zero.
    """
    bias = {0: 0.0} if with_full_logits else None
    return SamplingParams(
        temperature=0.0, max_tokens=gen_tokens + 1, ignore_eos=True, detokenize=False, logit_bias=bias
    )


def _prompt_source(llm: LLM, text: str | None) -> DrawPrompts:
    """Draws so many prompts of so many tokens, each time others, in the same order in every process."""
    rng = np.random.default_rng(0)
    if text is None:
        return lambda count, length: rng.integers(0, llm.model_config.vocab_size, (count, length)).tolist()
    tokens = np.array(llm.get_tokenizer().encode(text, add_special_tokens=False))
    if not len(tokens):
        raise InvalidArgumentError("text has no tokens to cut prompts from; leave it out for random tokens")

    def cut(count: int, length: int) -> Prompts:
        starts = rng.integers(0, len(tokens), (count, 1))
        rows: Prompts = tokens[(starts + np.arange(length)) % len(tokens)].tolist()
        return rows

    return cut


def _generate(llm: LLM, prompts: Prompts, params: SamplingParams) -> tuple[float, float]:
    """Seconds up to the first token of the first sequence, and from there to the last token of all."""
    outputs = llm.generate([TokensPrompt(prompt_token_ids=prompt) for prompt in prompts], params, use_tqdm=False)
    times = [output.metrics for output in outputs if output.metrics is not None]
    first = min(times, key=lambda one: one.first_token_ts)
    return first.first_token_latency, max(one.last_token_ts for one in times) - first.first_token_ts


def _run_once(llm: LLM, load: BenchmarkLoad, draw: DrawPrompts) -> Run:
    prompts = draw(load.batch, load.filled)
    metrics = llm.engine.metrics
    wall, native = metrics.decode_seconds, metrics.native_decode_seconds
    prefill_seconds, decode_seconds = _generate(llm, prompts, greedy_params(load.gen_tokens))
    outside = 1 - (metrics.native_decode_seconds - native) / (metrics.decode_seconds - wall)
    generated = load.batch * load.gen_tokens
    full_speed = None
    if load.with_full_logits:
        full_speed = generated / _generate(llm, prompts, greedy_params(load.gen_tokens, with_full_logits=True))[1]
    if load.batch > 1 or load.filled != load.prompt_tokens:
        prompt = draw(1, load.prompt_tokens)
        prefill_seconds, _ = _generate(llm, prompt, greedy_params(0))
    return Run(load.prompt_tokens / prefill_seconds, generated / decode_seconds, outside, full_speed)


def _profile(llm: LLM, load: BenchmarkLoad, draw: DrawPrompts) -> dict[str, list[KernelProfile]]:
    prompts = draw(load.batch, load.filled)
    prompt = draw(1, load.prompt_tokens)
    # on average half of the tokens are there
    step = decode_step(load.filled + load.gen_tokens // 2, load.batch)
    steps = prefill_steps(load.prompt_tokens, llm.plan.limits.max_num_batched_tokens)
    greedy, full = (greedy_params(load.gen_tokens, with_full_logits=is_full) for is_full in (False, True))
    count = load.gen_tokens
    kernels = {
        "prefill": profile(llm, lambda: _generate(llm, prompt, greedy_params(0)), steps, head=GREEDY),
        "decode": profile(llm, lambda: _generate(llm, prompts, greedy), [step], head=GREEDY, num_rounds=count),
    }
    if load.with_full_logits:
        kernels["decode_full_logits"] = profile(
            llm, lambda: _generate(llm, prompts, full), [step], head=SAMPLED, num_rounds=count
        )
    return kernels
