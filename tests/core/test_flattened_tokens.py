"""One transformer layer, traced once, serves prefill, decode and any mixture of both; and so it does when a kernel is
missing in its middle, and when its KV cache lives where attention does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.errors import FallbackWarning

Floats = npt.NDArray[np.float64]
Part = tuple[int, Sequence[int]]
"""A request, and the next of its tokens."""

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, VOCABULARY = 64, 4, 2, 32, 96, 100
BLOCK, MAX_BLOCKS, NUM_REQUESTS, WINDOW, EPS = 16, 4, 4, 20, 1e-6
BLOCK_BYTES = KV_HEADS * HEAD_DIM * BLOCK * 4


def _weights() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    shapes = {
        "table": (VOCABULARY, HIDDEN),
        "q": (HEADS * HEAD_DIM, HIDDEN),
        "k": (KV_HEADS * HEAD_DIM, HIDDEN),
        "v": (KV_HEADS * HEAD_DIM, HIDDEN),
        "o": (HIDDEN, HEADS * HEAD_DIM),
        "gate": (FEED_FORWARD, HIDDEN),
        "up": (FEED_FORWARD, HIDDEN),
        "down": (HIDDEN, FEED_FORWARD),
        "head": (VOCABULARY, HIDDEN),
    }
    matrices = {name: rng.standard_normal(shape) * 2 / np.sqrt(shape[1]) for name, shape in shapes.items()}
    vectors = {name: rng.random(HIDDEN) + 0.5 for name in ("first", "second", "last")}
    frequencies = {"frequencies": 100.0 ** -(np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))}
    return {name: values.astype(np.float32) for name, values in {**matrices, **vectors, **frequencies}.items()}


WEIGHTS = _weights()


class Layer:
    """The layer on a device, with a KV cache of scrambled blocks and the state of four requests."""

    def __init__(self, device: str) -> None:
        self.k_cache, self.v_cache = (
            px.state((NUM_REQUESTS * MAX_BLOCKS, *shape), "float32", device=device)
            for shape in ((KV_HEADS, HEAD_DIM, BLOCK), (KV_HEADS, BLOCK, HEAD_DIM))
        )
        blocks = np.random.default_rng(1).permutation(NUM_REQUESTS * MAX_BLOCKS)
        self.block_table = blocks.reshape(NUM_REQUESTS, MAX_BLOCKS).astype(np.int32)
        self.lengths = [0] * NUM_REQUESTS
        self.num_traces = 0
        graph = px.graph.trace(self._forward, self._specs(), device=device)
        bounds = {"num_tokens": 128, "num_requests": NUM_REQUESTS, "num_requests_plus_one": NUM_REQUESTS + 1}
        self.plan = px.graph.compile(graph, device=device, bounds=bounds)

    @staticmethod
    def _specs() -> dict[str, px.TensorSpec]:
        tokens, requests = px.Dim("num_tokens"), px.Dim("num_requests")
        shapes: dict[str, tuple[px.Dim | int, ...]] = dict.fromkeys(("tokens", "positions", "slots"), (tokens,))
        shapes.update(starts=(px.Dim("num_requests_plus_one"),), kv_len=(requests,), blocks=(requests, MAX_BLOCKS))
        return {name: px.TensorSpec(shape, px.int32) for name, shape in shapes.items()}

    def _forward(
        self,
        tokens: px.Array,
        positions: px.Array,
        slots: px.Array,
        starts: px.Array,
        kv_len: px.Array,
        blocks: px.Array,
    ) -> dict[str, px.Array]:
        self.num_traces += 1
        weights = {name: px.constant(values, name=name) for name, values in WEIGHTS.items()}
        count = tokens.shape[0]
        x = px.nn.embedding(tokens, weights["table"])
        h = px.nn.rms_norm(x, weights["first"], eps=EPS)
        table = px.nn.rope_table(positions, weights["frequencies"])
        q = px.nn.rope(px.nn.linear(h, weights["q"]).reshape(count, HEADS, HEAD_DIM), table)
        k = px.nn.rope(px.nn.linear(h, weights["k"]).reshape(count, KV_HEADS, HEAD_DIM), table)
        v = px.nn.linear(h, weights["v"]).reshape(count, KV_HEADS, HEAD_DIM)
        px.nn.kv_write(k, v, slots, self.k_cache, self.v_cache)
        attended = px.nn.paged_attention(
            q, self.k_cache, self.v_cache, starts, kv_len, blocks, scale=HEAD_DIM**-0.5, window=WINDOW
        )
        x = x + px.nn.linear(attended.reshape(count, HEADS * HEAD_DIM), weights["o"])
        h = px.nn.rms_norm(x, weights["second"], eps=EPS)
        gated = px.nn.gated_activation(
            px.nn.linear(h, weights["gate"]), px.nn.linear(h, weights["up"]), activation="gelu_tanh"
        )
        h = px.nn.rms_norm(x + px.nn.linear(gated, weights["down"]), weights["last"], eps=EPS)
        return {"hidden": h, "ids": px.nn.vocab_topk(h, weights["head"], k=1)[1]}

    def __call__(self, *parts: Part) -> list[tuple[npt.NDArray[np.float32], list[int]]]:
        """One step: for each part the hidden states [tokens, HIDDEN] and the likeliest next tokens."""
        tokens, positions, slots, starts = [], [], [], [0]
        for request, ids in parts:
            places = np.arange(self.lengths[request], self.lengths[request] + len(ids))
            tokens.append(np.array(ids))
            positions.append(places)
            slots.append(self.block_table[request][places // BLOCK] * BLOCK + places % BLOCK)
            starts.append(starts[-1] + len(ids))
            self.lengths[request] += len(ids)
        requests = [request for request, _ in parts]
        operands = {"tokens": np.concatenate(tokens), "positions": np.concatenate(positions)}
        operands |= {"slots": np.concatenate(slots), "starts": np.array(starts)}
        operands |= {"kv_len": np.array([self.lengths[r] for r in requests]), "blocks": self.block_table[requests]}
        results = self.plan(**{name: values.astype(np.int32) for name, values in operands.items()})
        hidden, ids = (np.split(np.array(results[name]), starts[1:-1]) for name in ("hidden", "ids"))
        return [(states, found[:, 0].tolist()) for states, found in zip(hidden, ids, strict=True)]

    def generate(self, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """Greedy continuations; the first prompt runs ahead alone by one step, the others join it."""
        ((_, ids),) = self((0, prompts[0]))
        made = [[ids[-1]], *([] for _ in prompts[1:])]
        nexts: list[Sequence[int]] = [made[0], *prompts[1:]]
        while min(map(len, made)) < count:
            for request, (_, found) in enumerate(self(*enumerate(nexts))):
                made[request].append(found[-1])
            nexts = [tokens[-1:] for tokens in made]
        return [tokens[:count] for tokens in made]


# ---- the same in float64, whole sequences at once


def norm(x: Floats, weight: npt.NDArray[np.float32]) -> Floats:
    scaled: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight
    return scaled


def rotated(x: Floats, angles: Floats) -> Floats:
    half = HEAD_DIM // 2
    a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def dense(tokens: Sequence[int]) -> Floats:
    """The hidden states of one request, without a cache."""
    w = {name: values.astype(np.float64) for name, values in WEIGHTS.items()}
    count, positions = len(tokens), np.arange(len(tokens))
    x = w["table"][list(tokens)]
    h = norm(x, w["first"])
    angles = positions[:, None] * w["frequencies"]
    q = rotated((h @ w["q"].T).reshape(count, HEADS, HEAD_DIM), angles)
    k = rotated((h @ w["k"].T).reshape(count, KV_HEADS, HEAD_DIM), angles)
    v = (h @ w["v"].T).reshape(count, KV_HEADS, HEAD_DIM)
    heads = []
    distance = positions[:, None] - positions
    for head in range(HEADS):
        scores = q[:, head] @ k[:, head * KV_HEADS // HEADS].T / np.sqrt(HEAD_DIM)
        scores = np.where((distance >= 0) & (distance < WINDOW), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, head * KV_HEADS // HEADS])
    x = x + np.concatenate(heads, -1) @ w["o"].T
    h = norm(x, w["second"])
    gate = h @ w["gate"].T
    gate = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    return norm(x + gate * (h @ w["up"].T) @ w["down"].T, w["last"])


def random_tokens(length: int, seed: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()
    return tokens


PROMPTS = [random_tokens(length, seed) for seed, length in enumerate((37, 5, 18))]


@pytest.fixture(params=["cpu", "numpy", "sim"])
def device(request: pytest.FixtureRequest, sim: SimulatedBackend) -> str:
    return str(request.param)


def test_prefill_and_decode_of_three_requests_in_one_step(device: str) -> None:
    """A long prompt in two pieces, a single token each of two requests, then all at other places of their sequences."""
    a, b, c = (random_tokens(length, seed) for seed, length in ((1, 60), (2, 25), (3, 34)))
    layer = Layer(device)
    steps: list[list[Part]] = [
        [(1, b[:20])],
        [(0, a[:41]), (1, b[20:21]), (2, c[:7])],
        [(2, c[7:8]), (1, b[21:22]), (0, a[41:43])],
        [(0, a[43:]), (2, c[8:]), (1, b[22:])],
    ]
    rows: dict[int, list[npt.NDArray[np.float32]]] = {0: [], 1: [], 2: []}
    for parts in steps:
        for (request, _), (hidden, _) in zip(parts, layer(*parts), strict=True):
            rows[request].append(hidden)
    assert layer.num_traces == 1
    for request, tokens in enumerate((a, b, c)):
        found = np.concatenate(rows[request])
        assert np.abs(found - dense(tokens)).max() < 1e-5
        ((alone, _),) = Layer(device)((request, tokens))
        if device == "cpu":
            assert found.tobytes() == alone.tobytes()


def test_generated_tokens_are_the_likeliest_of_the_whole_sequence(device: str) -> None:
    made = Layer(device).generate(PROMPTS, 12)
    for prompt, tokens in zip(PROMPTS, made, strict=True):
        logits = dense([*prompt, *tokens]) @ WEIGHTS["head"].astype(np.float64).T
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == tokens


# ---- a kernel is missing in the middle of a command list

OPS = ["embedding", "kv_write", "linear", "paged_attention", "rms_norm", "rope", "rope_table", "vocab_topk"]


@pytest.mark.parametrize("op", OPS)
def test_the_command_list_stops_at_a_disabled_node_and_goes_on(
    op: str, set_setting: Callable[[str, str], None]
) -> None:
    expected = Layer("cpu").generate(PROMPTS, 12)
    px.reset_explain()
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    with px.use_device("cpu"), pytest.warns(FallbackWarning, match=f"{op}: cpu:{op} is disabled"):
        layer = Layer("cpu")
    assert layer.generate(PROMPTS, 12) == expected
    fallen = [place.node for place in layer.plan.explain() if place.reason]
    assert fallen
    assert all(f"{op}(" in node for node in fallen)
    assert len(fallen) < len(layer.plan.explain())
    (row,) = px.explain().fallbacks
    assert (row.op, row.ran_on, row.count, row.bytes_moved) == (op, "numpy:0", len(fallen) * 13, 0)


# ---- the KV cache has one home


def blocks_seen(length: int, num_queries: int) -> int:
    """Blocks that hold what the window of a request's queries reaches."""
    first = max(0, length - num_queries - WINDOW + 1)
    return (length - 1) // BLOCK - first // BLOCK + 1


def test_a_fallback_of_attention_moves_only_the_blocks_it_reads(sim: SimulatedBackend) -> None:
    del sim.table["paged_attention"]
    with px.use_device(fallback="allow"):
        layer = Layer("sim")
        layer((0, random_tokens(37, 5)), (1, random_tokens(5, 6)))
        layer((2, random_tokens(18, 7)))
        px.reset_explain()
        sim.memory.forget()
        token = random_tokens(1, 8)
        (hidden, _), _ = layer((0, token), (2, token))
    assert np.abs(hidden[0] - dense([*random_tokens(37, 5), *token])[-1]).max() < 1e-5
    num_blocks = blocks_seen(38, 1) + blocks_seen(19, 1)
    assert num_blocks == 2 + 2, "of eight in use, and sixteen in the cache"
    (row,) = px.explain().fallbacks
    queries = results = 2 * HEADS * HEAD_DIM * 4
    # two caches; the operands that describe the requests come from the host and never left it
    assert row.bytes_moved == 2 * num_blocks * BLOCK_BYTES + queries + results
    reads = [length for _, length in sim.memory.reads if length >= BLOCK_BYTES]
    assert sum(reads) == 2 * num_blocks * BLOCK_BYTES
    assert row.reason == "sim has no kernel for paged_attention"


def test_a_fallback_of_the_cache_write_moves_only_the_blocks_it_writes(sim: SimulatedBackend) -> None:
    del sim.table["kv_write"]
    with px.use_device(fallback="allow"):
        layer = Layer("sim")
        layer((0, random_tokens(37, 5)))
        sim.memory.forget()
        px.reset_explain()
        ((hidden, _),) = layer((0, random_tokens(1, 8)))
    assert np.abs(hidden[0] - dense([*random_tokens(37, 5), *random_tokens(1, 8)])[-1]).max() < 1e-5
    assert [length for _, length in sim.memory.writes if length == BLOCK_BYTES] == [BLOCK_BYTES] * 2
    keys_and_values = 2 * KV_HEADS * HEAD_DIM * 4
    (row,) = px.explain().fallbacks
    # one block of each cache there and back: a whole block is the least that a range is made of
    assert row.bytes_moved == 2 * 2 * BLOCK_BYTES + keys_and_values
