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

LARGEST_ID = 30_000
"""Token ids are drawn below it: any vocabulary has as many."""


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of prefill (by the time of the first token) or of decoding (by the time per token after)."""
    pipeline = openvino_genai.LLMPipeline(
        options.model, "CPU", INFERENCE_NUM_THREADS=options.threads, PERFORMANCE_HINT="LATENCY"
    )
    config = openvino_genai.GenerationConfig()
    is_prefill = options.task == "prefill"
    config.max_new_tokens = 1 if is_prefill else options.gen_tokens + 1
    config.ignore_eos, config.do_sample = True, False
    random = np.random.default_rng(0)
    speeds = []
    for _ in range(options.repeats + 1):
        ids = openvino.Tensor(random.integers(100, LARGEST_ID, (1, options.context)))
        mask = openvino.Tensor(np.ones((1, options.context), np.int64))
        metrics = pipeline.generate(openvino_genai.TokenizedInputs(ids, mask), config).perf_metrics
        if is_prefill:
            speeds.append(1000 * options.context / metrics.get_ttft().mean)
        else:
            speeds.append(1000 / metrics.get_tpot().mean)
    return {"tokens_per_second": statistics.median(speeds[1:]), "version": openvino_genai.__version__}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["prefill", "decode"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--gen-tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1, choices=[1])
    parser.add_argument("--repeats", type=int, default=3)
    print(json.dumps(speed(parser.parse_args())))


if __name__ == "__main__":
    main()
