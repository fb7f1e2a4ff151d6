"""Measure the quality of a model's numbers.

Against a reference file: divergence of its stored distributions from the model's. On a text: perplexity.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from perfxlm.cli.common import add_json_argument, add_model_arguments, open_llm, print_json, read_text
from perfxlm.progress import show_positions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm eval`."""
    add_model_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--reference",
        action="append",
        metavar="FILE.npz",
        help="arrays ids_i, top_ids_i and top_logprobs_i; may be given several times",
    )
    source.add_argument("--text", metavar="FILE", help="a text file, in UTF-8")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="window of perplexity (default: 512)")
    parser.add_argument(
        "--write-reference", metavar="OUT.npz", help="with --text: also store this model's distributions as a reference"
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm eval`; several references give one object in JSON, by file."""
    results = _compare(arguments) if arguments.reference else {arguments.text: _perplexity(arguments)}
    if arguments.json:
        print_json(results if len(results) > 1 else next(iter(results.values())))
        return 0
    for source, values in results.items():
        if len(results) > 1:
            print(source)
        for name, value in values.items():
            print(f"{name:16} {value:.6g}" if isinstance(value, float) else f"{name:16} {value}")
    return 0


def _compare(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from perfxlm import evaluation

    references = {path: evaluation.read_reference(path) for path in arguments.reference}
    llm = open_llm(arguments)
    read = list(references.values())
    with show_positions(evaluation.num_positions(read)) as advance:
        agreements = evaluation.compare_each(llm, read, advance)
    return {path: asdict(agreement) for path, agreement in zip(references, agreements, strict=True)}


def _perplexity(arguments: argparse.Namespace) -> dict[str, Any]:
    from perfxlm import evaluation

    text = read_text(arguments.text)
    llm = open_llm(arguments)
    token_ids = llm.get_tokenizer().encode(text, add_special_tokens=False)
    windows = evaluation.split_windows(llm, token_ids, arguments.context)
    k = evaluation.NUM_STORED if arguments.write_reference else 0
    with show_positions(sum(map(len, windows))) as advance:
        result, reference = evaluation.read_windows(llm, windows, arguments.context, k, advance)
    if arguments.write_reference:
        evaluation.write_reference(arguments.write_reference, reference)
    return asdict(result)
