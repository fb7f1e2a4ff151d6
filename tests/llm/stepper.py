"""Runs a model step by step for tests: a paged KV cache, a compiled graph, and batches laid out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxlm.layers.batch import Batch
from perfxlm.layers.decoder import Decoder

Floats = npt.NDArray[np.float32]
Chunk = tuple[int, npt.NDArray[np.int32]]
"""A request's number, and the next tokens of it."""


class Stepper:
    """One model on one device. KV blocks are handed out in scrambled order: no test may pass by their being in line."""

    def __init__(
        self,
        model: Decoder,
        device: str,
        *,
        num_requests: int,
        max_len: int,
        block_size: int = 16,
        max_tokens: int = 256,
        hidden_only: bool = False,
    ) -> None:
        """With `hidden_only` a step gives the last hidden states instead of logits."""
        self._block_size = block_size
        max_blocks = -(-max_len // block_size)
        blocks = np.random.default_rng(0).permutation(num_requests * max_blocks).astype(np.int32)
        self._block_table = blocks.reshape(num_requests, max_blocks)
        self._lengths = [0] * num_requests
        with px.use_device(device, fallback="allow"):
            kv = [_caches(model, layer, len(blocks), block_size) for layer in range(len(model.kv_specs))]
            graph = px.graph.trace(
                lambda **arrays: _forward(model, kv, hidden_only, **arrays), Batch.input_specs(max_blocks)
            )
            bounds = {"num_tokens": max_tokens, "num_outputs": max_tokens, "num_requests": num_requests}
            bounds["num_requests_plus_one"] = num_requests + 1
            self.executable = px.graph.compile(graph, bounds=bounds)

    def restart(self) -> None:
        """All requests begin anew. What the cache holds of the old ones stays, as rubbish."""
        self._lengths = [0] * len(self._lengths)

    def __call__(self, chunks: Sequence[Chunk]) -> list[Floats]:
        """Runs one step over chunks of different requests.

        Gives each chunk's logits [tokens, vocab_size], or hidden states."""
        requests = [request for request, _ in chunks]
        counts = [len(tokens) for _, tokens in chunks]
        positions = [np.arange(self._lengths[request], self._lengths[request] + len(t)) for request, t in chunks]
        for request, count in zip(requests, counts, strict=True):
            self._lengths[request] += count
        slots = [self._slots(request, places) for request, places in zip(requests, positions, strict=True)]
        arrays = {
            "tokens": np.concatenate([tokens for _, tokens in chunks]),
            "positions": np.concatenate(positions),
            "slot_mapping": np.concatenate(slots),
            "query_start": np.cumsum([0, *counts]),
            "kv_len": np.array([self._lengths[request] for request in requests]),
            "block_table": self._block_table[requests],
            "output_rows": np.arange(sum(counts)),
        }
        outputs = self.executable(**{name: values.astype(np.int32) for name, values in arrays.items()})
        return np.split(np.array(outputs["rows"]), np.cumsum(counts)[:-1])

    def _slots(self, request: int, positions: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
        blocks: npt.NDArray[np.int_] = self._block_table[request][positions // self._block_size]
        return blocks * self._block_size + positions % self._block_size


def _caches(model: Decoder, layer: int, num_blocks: int, block_size: int) -> tuple[px.Array, px.Array]:
    spec = model.kv_specs[layer]
    heads, dim = spec.num_kv_heads, spec.head_dim
    return (
        px.state((num_blocks, heads, dim, block_size), spec.dtype, name=f"k.{layer}"),
        px.state((num_blocks, heads, block_size, dim), spec.dtype, name=f"v.{layer}"),
    )


def _forward(
    model: Decoder, kv: list[tuple[px.Array, px.Array]], hidden_only: bool, **arrays: px.Array
) -> dict[str, px.Array]:
    batch = Batch(**arrays)
    rows = px.nn.take_rows(model.hidden(batch, kv), batch.output_rows)
    return {"rows": rows if hidden_only else model.logits(rows)}
