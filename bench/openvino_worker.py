"""OpenVINO GenAI on a model folder that optimum-intel exported; prints one JSON object.

Run by `bench` with the Python that has openvino-genai. It imports nothing else of this project.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import openvino
import openvino_genai


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of prefill (from the time of the first token) and of decode (from the time per token after)."""
    pipeline = openvino_genai.LLMPipeline(
        options.model, "CPU", INFERENCE_NUM_THREADS=options.threads, PERFORMANCE_HINT="LATENCY"
    )
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = options.gen_tokens + 1, True, False
    random = np.random.default_rng(0)
    prefill, decode = [], []
    for _ in range(options.repeats + 1):
        ids = openvino.Tensor(random.integers(100, 200_000, (1, options.prompt_tokens)))
        mask = openvino.Tensor(np.ones((1, options.prompt_tokens), np.int64))
        result = pipeline.generate(openvino_genai.TokenizedInputs(ids, mask), config)
        metrics = result.perf_metrics
        prefill.append(1000 * options.prompt_tokens / metrics.get_ttft().mean)
        decode.append(1000 / metrics.get_tpot().mean)
    return {
        "prefill_tokens_per_second": statistics.median(prefill[1:]),
        "decode_tokens_per_second": statistics.median(decode[1:]),
        "version": openvino_genai.__version__,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--gen-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    print(json.dumps(speed(parser.parse_args())))


if __name__ == "__main__":
    main()
