"""Measure speed and memory.

Prompts are random, decoding is greedy; figures are medians.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from perfxlm.cli.common import add_json_argument, add_model_arguments, format_bytes, open_llm, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm bench`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--prompt-tokens", type=int, default=512, metavar="N", help="length of the prompt (default: 512)"
    )
    parser.add_argument("--gen-tokens", type=int, default=128, metavar="N", help="tokens to decode (default: 128)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs to take the median of (default: 5)")
    parser.add_argument("--reference", metavar="FILE.npz", help="also compare with stored distributions, as eval does")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm bench`."""
    from perfxlm.benchmark import run_benchmark
    from perfxlm.evaluation import compare, read_reference

    reference = read_reference(arguments.reference) if arguments.reference else None
    llm = open_llm(arguments)
    result = run_benchmark(
        llm, prompt_tokens=arguments.prompt_tokens, gen_tokens=arguments.gen_tokens, repeats=arguments.repeats
    )
    agreement = compare(llm, reference) if reference else None
    if arguments.json:
        print_json({**asdict(result), **(asdict(agreement) if agreement else {})})
        return 0
    print(f"prefill         {result.prefill_tokens_per_second:10.1f} tokens/s ({result.prompt_tokens} tokens)")
    print(f"decode          {result.decode_tokens_per_second:10.1f} tokens/s ({result.gen_tokens} tokens)")
    print(f"outside native  {100 * result.outside_native_fraction:10.1f} % of decoding")
    print(f"peak memory     {format_bytes(result.peak_memory_bytes):>10}")
    print(f"device          {result.device}, {result.threads} threads")
    if agreement:
        print(f"mean KL         {agreement.mean_kl:10.6f} (same top token: {100 * agreement.top1_agreement:.1f} %)")
    return 0
