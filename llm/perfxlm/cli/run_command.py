"""Complete a prompt.

The text is printed as it is generated, its speed on standard error after it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from perfxlm.cli.common import (
    add_json_argument,
    add_model_arguments,
    add_sampling_arguments,
    open_llm,
    print_json,
    sampling_params,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm run`."""
    add_model_arguments(parser)
    parser.add_argument("prompt", metavar="PROMPT", help="the text to complete; - reads standard input")
    parser.add_argument(
        "--chat", action="store_true", help="PROMPT is a message: put it into the model's chat template"
    )
    parser.add_argument("--explain", action="store_true", help="also print which backend ran which op, and why")
    add_sampling_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm run`. Greedy unless a temperature is given."""
    import perfxapi as px

    start = time.perf_counter()
    llm = open_llm(arguments)
    load_seconds = time.perf_counter() - start
    text = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    prompt: Any = text
    if arguments.chat:
        prompt = llm.render_chat([{"role": "user", "content": text}], add_generation_prompt=True)
    params = sampling_params(arguments, llm, temperature=0.0, max_tokens=arguments.max_tokens or 128)
    report: dict[str, Any] = {"prompt": text, "text": "", "device": llm.engine.runner.devices}
    if not (arguments.json or arguments.chat):
        print(text, end="", flush=True)
    for output in llm.stream(prompt, params):
        (completion,) = output.outputs
        report["text"] += completion.text
        report["finish_reason"] = completion.finish_reason
        if not arguments.json:
            print(completion.text, end="", flush=True)
        metrics = output.metrics
        prompt_tokens = len(output.prompt_token_ids)
    assert metrics is not None
    decode_seconds = metrics.last_token_ts - metrics.first_token_ts
    report.update(
        prompt_tokens=prompt_tokens,
        generated_tokens=metrics.num_generation_tokens,
        load_seconds=load_seconds,
        first_token_seconds=metrics.first_token_latency,
        tokens_per_second=(metrics.num_generation_tokens - 1) / decode_seconds if decode_seconds else None,
    )
    if arguments.json:
        report.update(explain=json.loads(px.explain().to_json())) if arguments.explain else None
        print_json(report)
        return 0
    print()
    print_summary(report)
    if arguments.explain:
        print(px.explain())
    return 0


def print_summary(report: dict[str, Any]) -> None:
    """Speed and times of one generation, on standard error."""
    speed = f"{report['tokens_per_second']:.1f}" if report["tokens_per_second"] else "-"
    print(
        f"\n{report['generated_tokens']} tokens on {report['device']}: {speed} tokens/s, first token after "
        f"{report['first_token_seconds']:.2f} s ({report['prompt_tokens']} prompt tokens), loaded in "
        f"{report['load_seconds']:.2f} s",
        file=sys.stderr,
    )
