"""Measure speed and memory.

Prompts are cut from a text, or random tokens; decoding is greedy; figures are medians. Decoding is measured twice: by
requests that want the likeliest token alone, which the op vocab_topk finds ("decode"), and by requests for which every
logit is computed, for they carry a logit_bias, of zero ("all logits"); the tokens are the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from perfxlm.cli.common import add_json_argument, add_model_arguments, format_bytes, open_llm, print_json, read_text

if TYPE_CHECKING:
    from perfxlm.benchmark import BenchmarkResult
    from perfxlm.step_profile import KernelProfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm bench`."""
    add_model_arguments(parser)
    add = parser.add_argument
    add("--prompt-tokens", type=int, default=512, metavar="N", help="length of the prompt (default: 512)")
    add("--gen-tokens", type=int, default=128, metavar="N", help="tokens to decode (default: 128)")
    add("--context", type=int, metavar="N", help="tokens before those decoded (default: as --prompt-tokens)")
    add("--batch", type=int, default=1, metavar="N", help="sequences that decode together (default: 1)")
    add("--repeats", type=int, default=5, metavar="N", help="runs to take the median of (default: 5)")
    add("--text", metavar="FILE", help="what prompts are cut from, in UTF-8 (default: they are random tokens)")
    add("--greedy-only", action="store_true", help="leave out decoding with all logits")
    add("--skip-tokenizer-init", action="store_true", help="run a model that has no tokenizer")
    add("--profile", action="store_true", help="also time each kernel of a prompt and of a step of decoding")
    add("--reference", metavar="FILE.npz", help="also compare with stored distributions, as eval does")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm bench`."""
    from perfxlm.benchmark import BenchmarkLoad, run_benchmark
    from perfxlm.engine_args import EngineArgs
    from perfxlm.evaluation import compare, read_reference

    load = BenchmarkLoad(
        arguments.prompt_tokens,
        arguments.gen_tokens,
        arguments.repeats,
        arguments.context,
        arguments.batch,
        with_full_logits=not arguments.greedy_only,
        text=read_text(arguments.text) if arguments.text else None,
    )
    reference = read_reference(arguments.reference) if arguments.reference else None
    llm = open_llm(
        arguments,
        max_num_seqs=max(EngineArgs().max_num_seqs, load.batch),
        skip_tokenizer_init=arguments.skip_tokenizer_init,
    )
    result = run_benchmark(llm, load, with_profile=arguments.profile)
    agreement = compare(llm, reference) if reference else None
    if arguments.json:
        print_json({**asdict(result), **(asdict(agreement) if agreement else {})})
        return 0
    _print_figures(result)
    if agreement:
        print(f"mean KL         {agreement.mean_kl:10.6f} (same top token: {100 * agreement.top1_agreement:.1f} %)")
    for title, kernels in result.kernels.items():
        _print_kernels(title, kernels)
    return 0


def _print_figures(result: BenchmarkResult) -> None:
    sequences = f"{result.batch} sequences, " if result.batch > 1 else ""
    decoded = f"({sequences}{result.gen_tokens} tokens after {result.context})"
    print(f"prefill         {result.prefill_tokens_per_second:10.1f} tokens/s ({result.prompt_tokens} tokens)")
    print(f"decode          {result.decode_tokens_per_second:10.1f} tokens/s {decoded}")
    if result.decode_full_logits_tokens_per_second is not None:
        print(f"  all logits    {result.decode_full_logits_tokens_per_second:10.1f} tokens/s {decoded}")
    print(f"outside native  {100 * result.outside_native_fraction:10.1f} % of decoding")
    print(f"peak memory     {format_bytes(result.peak_memory_bytes):>10}")
    print(f"device          {result.device}, {result.threads} threads, {result.activation_format} activations")


def _print_kernels(title: str, kernels: Sequence[KernelProfile]) -> None:
    total = sum(kernel.seconds for kernel in kernels)
    print(f"\n{title}: {1e3 * total:.3f} ms in kernels\n{'ms':>9} {'%':>5} {'GB/s':>6} {'Gop/s':>7}  kernel")
    for kernel in sorted(kernels, key=lambda kernel: -kernel.seconds):
        scale = 1e-9 / max(kernel.seconds, 1e-9)
        print(
            f"{1e3 * kernel.seconds:9.3f} {100 * kernel.seconds / max(total, 1e-9):5.1f} {kernel.nbytes * scale:6.1f} "
            f"{kernel.operations * scale:7.1f}  {kernel.count} x {kernel.op} {kernel.detail}"
        )
