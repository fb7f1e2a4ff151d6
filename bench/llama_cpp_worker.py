"""llama.cpp through llama-cpp-python's low-level functions, one task to a process; prints one JSON object.

Run by `bench` with the Python that has llama-cpp-python. It imports nothing else of this project.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import llama_cpp
import numpy as np


class Engine:
    """A model and a context with the given number of threads, for sequence 0."""

    def __init__(self, model: str, threads: int, context: int, batch: int = 512) -> None:
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {model}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, batch, batch
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def clear(self) -> None:
        """Forgets all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, tokens: list[int]) -> None:
        """Appends tokens to the sequence; the logits of the last one are kept."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise SystemExit("llama_decode failed")

    def logits(self, index: int = -1) -> Any:
        """The logits of a token of the last batch, without a copy."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, index), (self.vocab_size,))

    def greedy(self) -> int:
        """The likeliest next token."""
        return int(self.logits().argmax())

    def all_logits(self, tokens: list[int]) -> Any:
        """Logits at every one of these tokens, alone in the context: rows of vocab_size, one after another."""
        self.clear()
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, index, 1
            batch.seq_id[index][0], batch.logits[index] = 0, True
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama_decode failed")
        for index in range(len(tokens)):
            yield self.logits(index)
        llama_cpp.llama_batch_free(batch)

    def tokenize(self, text: str) -> list[int]:
        """Token ids, with the start token that the model wants."""
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 2))()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), True, False)
        return list(ids[:count])


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of prefill and greedy decode: medians of the repeats after one to warm up."""
    engine = Engine(options.model, options.threads, options.context)
    random = np.random.default_rng(0)
    prefill, decode = [], []
    for _ in range(options.repeats + 1):
        engine.clear()
        prompt = random.integers(100, engine.vocab_size - 100, options.prompt_tokens).tolist()
        start = time.perf_counter()
        engine.decode(prompt)
        token = engine.greedy()
        middle = time.perf_counter()
        for _ in range(options.gen_tokens):
            engine.decode([token])
            token = engine.greedy()
        prefill.append(options.prompt_tokens / (middle - start))
        decode.append(options.gen_tokens / (time.perf_counter() - middle))
    return {
        "prefill_tokens_per_second": statistics.median(prefill[1:]),
        "decode_tokens_per_second": statistics.median(decode[1:]),
    }


def first_token(options: argparse.Namespace) -> dict[str, Any]:
    """One token after a prompt: the time is that of the whole process, taken from outside."""
    engine = Engine(options.model, options.threads, options.context)
    engine.decode(engine.tokenize(options.prompt))
    return {"token": engine.greedy()}


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
    parser.add_argument("task", choices=["speed", "first-token", "score"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--gen-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--reference")
    parser.add_argument("--output")
    options = parser.parse_args()
    tasks = {"speed": speed, "first-token": first_token, "score": score}
    print(json.dumps({**tasks[options.task](options), "version": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
