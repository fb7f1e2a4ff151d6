"""Measure the quality of a model's numbers.

Against a reference file: divergence of its stored distributions from the model's. On a text: perplexity.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from perfxlm.cli.common import add_json_argument, add_model_arguments, open_llm, print_json, read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm eval`."""
    add_model_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--reference", metavar="FILE.npz", help="arrays ids_i, top_ids_i and top_logprobs_i")
    source.add_argument("--text", metavar="FILE", help="a text file, in UTF-8")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="window of perplexity (default: 512)")
    parser.add_argument(
        "--write-reference", metavar="OUT.npz", help="with --text: also store this model's distributions as a reference"
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm eval`."""
    from perfxlm import evaluation

    if arguments.reference:
        reference = evaluation.read_reference(arguments.reference)
        result = asdict(evaluation.compare(open_llm(arguments), reference))
    else:
        text = read_text(arguments.text)
        llm = open_llm(arguments)
        token_ids = llm.get_tokenizer().encode(text, add_special_tokens=False)
        result = asdict(evaluation.perplexity(llm, token_ids, arguments.context))
        if arguments.write_reference:
            windows = evaluation.split_windows(llm, token_ids, arguments.context)
            evaluation.write_reference(arguments.write_reference, evaluation.make_reference(llm, windows))
    if arguments.json:
        print_json(result)
        return 0
    for name, value in result.items():
        print(f"{name:16} {value:.6g}" if isinstance(value, float) else f"{name:16} {value}")
    return 0
