"""llama.cpp through llama-cpp-python's low-level functions, one task to a process; prints one JSON object.

Run by `bench` with the Python that has llama-cpp-python. It imports nothing else of this project.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import llama_cpp
import numpy as np

BATCH = 512
"""Tokens that one call computes at most, llama.cpp's own default."""


class Engine:
    """A model and a context with the given number of threads, for `sequences` sequences of `length` tokens."""

    def __init__(self, model: str, threads: int, length: int, *, sequences: int = 1, batch: int = BATCH) -> None:
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {model}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * (-(-length // 256) * 256)
        params.n_seq_max, params.n_batch, params.n_ubatch = sequences, batch, batch
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = False  # as llama-cli and llama-server have it: windows are not kept beyond their size
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.batch = llama_cpp.llama_batch_init(batch, 0, 1)

    def clear(self) -> None:
        """Forgets all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def compute(self, tokens: Sequence[tuple[int, int, int, bool]]) -> None:
        """Computes tokens, each given with its position, its sequence, and whether its logits are wanted."""
        self.batch.n_tokens = len(tokens)
        for index, (token, position, sequence, is_wanted) in enumerate(tokens):
            self.batch.token[index], self.batch.pos[index], self.batch.n_seq_id[index] = token, position, 1
            self.batch.seq_id[index][0], self.batch.logits[index] = sequence, is_wanted
        if llama_cpp.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")

    def fill(self, prompt: Sequence[int], sequence: int = 0) -> int:
        """Computes a prompt from the start of a sequence; returns the likeliest next token."""
        last = len(prompt) - 1
        entries = [(token, position, sequence, position == last) for position, token in enumerate(prompt)]
        for first in range(0, len(prompt), BATCH):
            self.compute(entries[first : first + BATCH])
        return self.greedy(-1)

    def logits(self, index: int = -1) -> Any:
        """The logits of a token of the last batch, without a copy."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, index), (self.vocab_size,))

    def greedy(self, index: int) -> int:
        """The likeliest next token after a token of the last batch."""
        return int(self.logits(index).argmax())

    def all_logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        """Logits at every one of these tokens, alone in the context: rows of vocab_size, one after another."""
        self.clear()
        self.compute([(token, position, 0, True) for position, token in enumerate(tokens)])
        for index in range(len(tokens)):
            yield self.logits(index)

    def tokenize(self, text: str) -> list[int]:
        """Token ids, with the start token that the model wants."""
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 2))()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), True, False)
        return list(ids[:count])


def prefill(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of a prompt up to its first token: the median of the repeats after one to warm up."""
    engine = Engine(options.model, options.threads, options.context + 1)
    random = np.random.default_rng(0)
    speeds = []
    for _ in range(options.repeats + 1):
        engine.clear()
        prompt = random.integers(100, engine.vocab_size - 100, options.context).tolist()
        start = time.perf_counter()
        engine.fill(prompt)
        speeds.append(options.context / (time.perf_counter() - start))
    return {"tokens_per_second": statistics.median(speeds[1:])}


def decode(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of greedy decoding, of all sequences together: the median after one repeat to warm up."""
    length = options.context + options.gen_tokens + 1
    engine = Engine(options.model, options.threads, length, sequences=options.batch)
    random = np.random.default_rng(0)
    speeds = []
    for _ in range(options.repeats + 1):
        engine.clear()
        prompts = random.integers(100, engine.vocab_size - 100, (options.batch, options.context)).tolist()
        tokens = [engine.fill(prompt, sequence) for sequence, prompt in enumerate(prompts)]
        start = time.perf_counter()
        for position in range(options.context, options.context + options.gen_tokens):
            engine.compute([(token, position, sequence, True) for sequence, token in enumerate(tokens)])
            tokens = [engine.greedy(index) for index in range(len(tokens))]
        speeds.append(options.batch * options.gen_tokens / (time.perf_counter() - start))
    return {"tokens_per_second": statistics.median(speeds[1:])}


def first_token(options: argparse.Namespace) -> dict[str, Any]:
    """One token after a prompt: the time is that of the whole process, taken from outside."""
    engine = Engine(options.model, options.threads, 2048)
    return {"token": engine.fill(engine.tokenize(options.prompt))}


def score(options: argparse.Namespace) -> dict[str, Any]:
    """Log-probabilities of a reference's stored tokens at every position, and the likeliest token, into a file."""
    reference = np.load(options.reference)
    longest = max(len(reference[name]) for name in reference.files if name.startswith("ids_"))
    engine = Engine(options.model, options.threads, longest, batch=longest)
    results = {}
    for name in (name for name in reference.files if name.startswith("ids_")):
        number = name.removeprefix("ids_")
        stored, rows, tops = reference[f"top_ids_{number}"], [], []
        for position, logits in enumerate(engine.all_logits(reference[name].tolist())):
            exact = logits.astype(np.float64)
            exact -= exact.max()
            rows.append((exact - np.log(np.exp(exact).sum()))[stored[position]])
            tops.append(exact.argmax())
        results[f"logprobs_{number}"], results[f"top_{number}"] = np.array(rows), np.array(tops)
    np.savez(options.output, **results)
    return {"output": options.output}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = {"prefill": prefill, "decode": decode, "first-token": first_token, "score": score}
    parser.add_argument("task", choices=list(tasks))
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--gen-tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1, help="sequences that decode together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--reference")
    parser.add_argument("--output")
    options = parser.parse_args()
    print(json.dumps({**tasks[options.task](options), "version": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
