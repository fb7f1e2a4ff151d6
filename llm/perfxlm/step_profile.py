"""Where the time of a step goes: for each kind of kernel its time, the bytes it must move and its operations.

The bytes are those of the formats that the file stores, each read or written once; what a kernel reads in a packed form
of another size, or leaves out, is not known here. Times come from `Executable.profile`: a kernel's time includes the
wait for the threads that finish last.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import perfxapi as px
from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.sampler import Head
from perfxlm.llm import LLM

Node = px.graph.Node


class Span(NamedTuple):
    """The tokens of one request that a step computes: positions from `start` to before `stop`."""

    start: int
    stop: int


class Step(NamedTuple):
    """What one run of the graph computes; `num_outputs` requests get a token."""

    spans: Sequence[Span]
    num_outputs: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all requests."""
        return sum(stop - start for start, stop in self.spans)


class Kind(NamedTuple):
    """Nodes that do the same: op, operands in a few words, and the format that products are computed in."""

    op: str
    detail: str
    arithmetic: str


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """All nodes of one kind, over the steps of a load: how many, their seconds, bytes and operations.

    `nbytes` counts everything read and written, `stored_bytes` weights and KV cache alone: caches may hold the rest.
    `operations` counts a multiplication and an addition as two; `arithmetic` is "float32", "int8" or "int16".
    """

    op: str
    detail: str
    arithmetic: str
    count: int
    seconds: float
    nbytes: int
    stored_bytes: int
    operations: int


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Bytes and operations, as in KernelProfile."""

    nbytes: int = 0
    stored_bytes: int = 0
    operations: int = 0

    def __add__(self, other: NodeCost) -> NodeCost:
        return NodeCost(
            self.nbytes + other.nbytes,
            self.stored_bytes + other.stored_bytes,
            self.operations + other.operations,
        )


def prefill_steps(num_tokens: int, chunk: int) -> list[Step]:
    """The steps in which a prompt is computed, alone."""
    stops = [*range(chunk, num_tokens, chunk), num_tokens]
    return [Step([Span(start, stop)], int(stop == num_tokens)) for start, stop in zip([0, *stops], stops, strict=False)]


def decode_step(context: int, batch: int) -> Step:
    """The step that adds a token to each of `batch` requests that have `context` tokens."""
    return Step([Span(context, context + 1)] * batch, batch)


def profile(
    llm: LLM, work: Callable[[], object], steps: Sequence[Step], *, head: Head, num_rounds: int = 1
) -> list[KernelProfile]:
    """Runs `work`, which makes the engine run `steps` `num_rounds` times, and measures the graphs that serve them.

    The graphs must have been compiled, by the same work done before. All figures are those of one round. Raises
    InvalidArgumentError where the device launches kernel by kernel, for then there are no times.
    """
    executables = {_fitting(llm, head, step): None for step in steps}
    before = [executable.profile(True) for executable in executables]
    if not all(before):
        raise InvalidArgumentError(f"{llm.engine.runner.devices} does not compile plans: it has no profile")
    try:
        work()
    finally:
        after = [executable.profile(False) for executable in executables]
    nanoseconds: Counter[Kind] = Counter()
    for executable, begin, end in zip(executables, before, after, strict=True):
        for node, (_, first), (_, last) in zip(executable.graph.nodes, begin, end, strict=True):
            nanoseconds[kind_of(node)] += last - first
    nodes = next(iter(executables)).graph.nodes
    counts = Counter(kind_of(node) for node in nodes)
    costs = _costs(nodes, steps)
    return [
        KernelProfile(*kind, count, nanoseconds[kind] * 1e-9 / num_rounds, **asdict(costs[kind]))
        for kind, count in counts.items()
    ]


def _fitting(llm: LLM, head: Head, step: Step) -> px.graph.Executable:
    """The smallest compiled graph that serves a step."""
    compiled = llm.engine.runner.executables()
    sizes = (size for size in compiled if size.head == head and size.num_rows >= step.num_outputs)
    return compiled[min(size for size in sizes if size.num_tokens >= step.num_tokens)]


def _costs(nodes: Sequence[Node], steps: Sequence[Step]) -> dict[Kind, NodeCost]:
    """What the nodes of each kind cost in all steps together."""
    costs: defaultdict[Kind, NodeCost] = defaultdict(NodeCost)
    for step in steps:
        for node in nodes:
            costs[kind_of(node)] += node_cost(node, step)
    return costs


def kind_of(node: Node) -> Kind:
    """What a node has in common with others: the formats and shapes of its weights, or the window of its attention."""
    weights = [
        f"{view.dtype.name} {' x '.join(map(str, view.shape))}"
        for index, view in enumerate(node.inputs)
        if node.spec.is_weight(index)
    ]
    window = node.attributes.get("window")
    detail = " + ".join(weights) if window is None else f"window {window}" if window else "all tokens"
    return Kind(node.spec.name, detail, str(node.attributes.get("activation_format", "float32")))


def node_cost(node: Node, step: Step) -> NodeCost:
    """What one node costs in a step: by the op's own rule, else its activations in and out."""
    if node.spec.name == "paged_attention":
        return _attention_cost(node, step.spans)
    inputs = [_bound(view.dtype, view.shape, step) for view in node.inputs]
    weights = [spec for index, spec in enumerate(inputs) if node.spec.is_weight(index)]
    if node.spec.cost is not None:
        cost = node.spec.cost(inputs, node.attributes)
        return NodeCost(cost.nbytes, sum(map(_nbytes, weights)), cost.flops)
    apart = {*node.spec.state, *(index for index in range(len(inputs)) if node.spec.is_weight(index))}
    read = sum(_nbytes(spec) for index, spec in enumerate(inputs) if index not in apart)
    if node.spec.mutates:  # what goes into the cache is as much as what is read for it
        return NodeCost(2 * read, read, 0)
    written = sum(_nbytes(_bound(value.spec.dtype, value.spec.shape, step)) for value in node.outputs)
    return NodeCost(read + written, 0, 0)


def _bound(dtype: px.DType, shape: Sequence[int | px.Dim], step: Step) -> px.TensorSpec:
    num_requests = len(step.spans)
    sizes: Mapping[str, int] = {
        "num_tokens": step.num_tokens,
        "num_requests": num_requests,
        "num_requests_plus_one": num_requests + 1,
        "num_outputs": step.num_outputs,
        "num_samples": step.num_outputs,
        "num_samples_plus_one": step.num_outputs + 1,
    }
    concrete = (size.factor * sizes.get(size.name, 0) if isinstance(size, px.Dim) else size for size in shape)
    return px.TensorSpec(tuple(concrete), dtype)


def _nbytes(spec: px.TensorSpec) -> int:
    sizes = [int(size) for size in spec.shape if not isinstance(size, px.Dim)]
    return math.prod(sizes[:-1]) * spec.dtype.row_bytes(sizes[-1]) if sizes else spec.dtype.itemsize


def _attention_cost(node: Node, spans: Sequence[Span]) -> NodeCost:
    """Queries and results once, each visible key and value once; two products for each pair of query and key."""
    query, keys, values = node.inputs[:3]
    num_heads, head_dim = (int(size) for size in query.shape[1:] if not isinstance(size, px.Dim))
    num_kv_heads = int(keys.shape[1]) if not isinstance(keys.shape[1], px.Dim) else 0
    window = int(node.attributes["window"])
    visible = pairs = num_tokens = 0
    for start, stop in spans:
        num_tokens += stop - start
        visible += stop - (max(0, start + 1 - window) if window else 0)
        pairs += sum(_visible_keys(start, stop, window))
    stored = visible * num_kv_heads * head_dim * (keys.dtype.itemsize + values.dtype.itemsize)
    activations = 2 * 4 * num_tokens * num_heads * head_dim
    return NodeCost(stored + activations, stored, 4 * pairs * num_heads * head_dim)


def _visible_keys(start: int, stop: int, window: int) -> Iterator[int]:
    return (min(position + 1, window) if window else position + 1 for position in range(start, stop))
