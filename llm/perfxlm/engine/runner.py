"""Runs the model: fills the operands of a step, and runs one compiled graph from tokens to sampled tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxlm.engine.request import Request
from perfxlm.engine.sampler import LogitRows, SamplingInputs
from perfxlm.engine.scheduler import Schedule, SchedulerLimits
from perfxlm.layers.batch import Batch
from perfxlm.layers.decoder import Decoder, KVCache

TOKEN_CLASSES = (1, 16, 128)
"""Upper bounds of `num_tokens` for which graphs are compiled, besides the largest step."""

ROW_CLASSES = (1, 16)
"""The same, for rows of logits."""

SIDE_CLASSES = tuple(4096 * 16**power for power in range(8))
"""The same, for token counts and biases: lists as long as a prompt, or as a vocabulary."""

LOGPROB_CLASSES = (0, 32, 256)
"""How many likeliest tokens are found on the device; more are found by sorting on the host."""

_SAMPLING_DTYPES = {
    "temperature": px.float32,
    "top_k": px.int32,
    "top_p": px.float32,
    "min_p": px.float32,
    "uniform": px.float32,
    "repetition": px.float32,
    "frequency": px.float32,
    "presence": px.float32,
}


class Head(NamedTuple):
    """What follows the last hidden state: the likeliest token alone, or all logits, adjusted and sampled.

    With `num_logprobs` the raw logits are kept for reports, with that many likeliest tokens.
    """

    is_greedy: bool
    num_logprobs: int | None = None


GREEDY = Head(is_greedy=True)
SAMPLED = Head(is_greedy=False)


class SizeClass(NamedTuple):
    """Upper bounds of the steps that one compiled graph serves."""

    head: Head
    num_tokens: int
    num_rows: int
    num_side: int


@dataclass(slots=True)
class StepResult:
    """The requests that got a token in a step, and the tokens."""

    requests: list[Request]
    token_ids: list[int]


class StepInputs:
    """The model's operands in preallocated int32 arrays; `fill` describes one step in them."""

    def __init__(self, limits: SchedulerLimits, block_size: int, max_blocks: int) -> None:
        tokens, requests = limits.max_num_batched_tokens, limits.max_num_seqs
        self._block_size = block_size
        self.tokens = np.zeros(tokens, np.int32)
        self.positions = np.zeros(tokens, np.int32)
        self.slot_mapping = np.zeros(tokens, np.int32)
        self.query_start = np.zeros(requests + 1, np.int32)
        self.kv_len = np.zeros(requests, np.int32)
        self.block_table = np.zeros((requests, max_blocks), np.int32)
        self.output_rows = np.zeros(limits.max_logit_rows, np.int32)
        self.sample_rows = np.zeros(requests, np.int32)
        self.prompt_rows: list[tuple[Request, range, int]] = []
        self.sampled: list[Request] = []
        self.num_rows = 0

    def fill(self, schedule: Schedule) -> None:
        """Describes a step; `sampled` and `prompt_rows` (request, positions, first row) then say what rows are for."""
        self.prompt_rows, self.sampled, self.num_rows = [], [], 0
        start = 0
        for index, (request, count) in enumerate(zip(schedule.requests, schedule.num_new_tokens, strict=True)):
            first = request.num_computed_tokens
            stop = start + count
            self.tokens[start:stop] = request.token_ids[first : first + count]
            if count == 1:
                self.positions[start] = first
                block, place = divmod(first, self._block_size)
                self.slot_mapping[start] = request.block_ids[block] * self._block_size + place
            else:
                self._fill_places(request, first, start, stop)
            self.query_start[index + 1] = stop
            self.kv_len[index] = first + count
            self.block_table[index] = request.block_table
            if request.wants_prompt_rows:
                self._fill_prompt_rows(request, first, count, start)
            if first + count == request.num_tokens:
                self.sample_rows[len(self.sampled)] = self.num_rows
                self.sampled.append(request)
                self.output_rows[self.num_rows] = stop - 1
                self.num_rows += 1
            start = stop

    def _fill_places(self, request: Request, first: int, start: int, stop: int) -> None:
        positions = np.arange(first, first + stop - start, dtype=np.int32)
        self.positions[start:stop] = positions
        blocks, places = np.divmod(positions, self._block_size)
        self.slot_mapping[start:stop] = request.block_table[blocks] * self._block_size + places

    def _fill_prompt_rows(self, request: Request, first: int, count: int, start: int) -> None:
        positions = request.prompt_rows(count)
        if len(positions):
            self.prompt_rows.append((request, positions, self.num_rows))
            begin = start + positions.start - first
            self.output_rows[self.num_rows : self.num_rows + len(positions)] = range(begin, begin + len(positions))
            self.num_rows += len(positions)

    def operands(self, schedule: Schedule) -> dict[str, npt.NDArray[Any]]:
        """The filled parts of the arrays, by the names of Batch.

        Where no logits are wanted, one row is computed all the same.
        """
        num_tokens, num_requests = schedule.num_tokens, len(schedule.requests)
        return {
            "tokens": self.tokens[:num_tokens],
            "positions": self.positions[:num_tokens],
            "slot_mapping": self.slot_mapping[:num_tokens],
            "query_start": self.query_start[: num_requests + 1],
            "kv_len": self.kv_len[:num_requests],
            "block_table": self.block_table[:num_requests],
            "output_rows": self.output_rows[: self.num_rows or 1],
        }


class ModelRunner:
    """A model with its KV cache on one device. A step is one run of a graph, traced once for each kind of head."""

    def __init__(
        self, model: Decoder, limits: SchedulerLimits, *, num_blocks: int, block_size: int, device: px.Device
    ) -> None:
        self.model, self.device, self._limits = model, device, limits
        self._max_blocks = -(-limits.max_model_len // block_size)
        self._kv: list[KVCache] = [
            (
                px.state(
                    (num_blocks, s.num_kv_heads, s.head_dim, block_size), s.dtype, device=device, name=f"k_cache_{i}"
                ),
                px.state(
                    (num_blocks, s.num_kv_heads, block_size, s.head_dim), s.dtype, device=device, name=f"v_cache_{i}"
                ),
            )
            for i, s in enumerate(model.kv_specs)
        ]
        self._inputs = StepInputs(limits, block_size, self._max_blocks)
        self._sampling = SamplingInputs(limits.max_num_seqs)
        self._token_classes = _classes(TOKEN_CLASSES, limits.max_num_batched_tokens)
        self._row_classes = _classes(ROW_CLASSES, limits.max_logit_rows)
        self._graphs: dict[Head, px.graph.Graph] = {}
        self._executables: dict[SizeClass, px.graph.Executable] = {}
        self._by_size: dict[tuple[Head, int, int, int], px.graph.Executable] = {}

    def run(self, schedule: Schedule) -> StepResult:
        """Computes a step: keys and values are written, prompt log-probabilities reported, tokens sampled.

        Raises DeviceLostError; the requests' own state is then as before.
        """
        inputs = self._inputs
        inputs.fill(schedule)
        head = self._head()
        operands = inputs.operands(schedule)
        if not head.is_greedy:
            operands.update(self._sampling.fill(inputs.sampled))
            operands["sample_rows"] = inputs.sample_rows[: len(inputs.sampled) or 1]
        outputs = self._executable(head, operands)(**operands)
        token_ids = np.asarray(outputs["ids"]).reshape(-1)[: len(inputs.sampled)].tolist()
        if head.num_logprobs is not None:
            self._report(outputs, token_ids)
        return StepResult(inputs.sampled, token_ids)

    def executables(self) -> Mapping[SizeClass, px.graph.Executable]:
        """What was compiled so far."""
        return self._executables

    def graph(self, head: Head) -> px.graph.Graph:
        """The traced graph of the model with a head."""
        if head not in self._graphs:
            specs = {**Batch.input_specs(self._max_blocks), **({} if head.is_greedy else _sampling_specs())}
            self._graphs[head] = px.graph.trace(lambda **arrays: self._forward(head, arrays), specs, device=self.device)
        return self._graphs[head]

    def compile(self, size: SizeClass) -> px.graph.Executable:
        """The graph compiled for steps of at most that size."""
        num_requests = min(self._limits.max_num_seqs, size.num_tokens)
        bounds = {
            "num_tokens": size.num_tokens,
            "num_requests": num_requests,
            "num_requests_plus_one": num_requests + 1,
        }
        bounds["num_outputs"] = size.num_rows
        if not size.head.is_greedy:
            num_samples = min(num_requests, size.num_rows)
            bounds.update(num_samples=num_samples, num_samples_plus_one=num_samples + 1)
            bounds.update(num_counted=size.num_side, num_biases=size.num_side)
        return px.graph.compile(self.graph(size.head), device=self.device, bounds=bounds)

    def _executable(self, head: Head, operands: Mapping[str, npt.NDArray[Any]]) -> px.graph.Executable:
        num_side = 0 if head.is_greedy else max(len(operands["counted_ids"]), len(operands["bias_ids"]))
        exact = (head, len(operands["tokens"]), len(operands["output_rows"]), num_side)
        if exact not in self._by_size:
            bounds = zip((self._token_classes, self._row_classes, SIDE_CLASSES), exact[1:], strict=True)
            size = SizeClass(head, *(_fitting(classes, count) for classes, count in bounds))
            if size not in self._executables:
                self._executables[size] = self.compile(size)
            self._by_size[exact] = self._executables[size]
        return self._by_size[exact]

    def _head(self) -> Head:
        """The least that serves every request of the step."""
        if not self._inputs.prompt_rows and all(request.sampler is None for request in self._inputs.sampled):
            return GREEDY
        wanted = [request.sampler.num_logprobs for request in self._inputs.sampled if request.sampler is not None]
        wanted += [r.sampler.num_prompt_logprobs or 0 for r, _, _ in self._inputs.prompt_rows if r.sampler is not None]
        wanted += [0 for request in self._inputs.sampled if request.prompt_logits is not None]
        counts = [count for count in wanted if count is not None]
        if not counts:
            return SAMPLED
        fitting = [size for size in LOGPROB_CLASSES if size <= self.model.vocab_size]
        return Head(False, next((size for size in fitting if max(counts) <= size), 0))

    def _forward(self, head: Head, arrays: Mapping[str, px.Array]) -> dict[str, px.Array]:
        """Traced: from a step's operands to its outputs."""
        model = self.model
        batch = Batch(**{field.name: arrays[field.name] for field in fields(Batch)})
        rows = px.nn.take_rows(model.hidden(batch, self._kv), batch.output_rows)
        if head.is_greedy:
            activation_format = model.options.activation_format if model.head.dtype.is_quantized else "float32"
            top = px.nn.vocab_topk(
                rows, model.head, k=1, activation_format=activation_format, softcap=model.logit_softcap
            )
            return {"ids": top[1]}
        raw = model.logits(rows)
        outputs: dict[str, px.Array] = {}
        if head.num_logprobs is not None:
            outputs.update(logits=raw, logsumexp=px.nn.logsumexp(raw))
            if head.num_logprobs:
                outputs["top_ids"] = px.nn.topk(raw, k=head.num_logprobs)[1]
        # a copy, since raw logits are reported and these are adjusted in place
        logits = px.nn.take_rows(raw, arrays["sample_rows"])
        px.nn.adjust_logits(logits, *(arrays[name] for name in _ADJUST_OPERANDS))
        outputs["ids"] = px.nn.sample(logits, *(arrays[name] for name in _SAMPLE_OPERANDS))
        return outputs

    def _report(self, outputs: Mapping[str, px.Array], token_ids: Sequence[int]) -> None:
        """Hands log-probabilities, and raw logits where asked for, to their requests."""
        top_ids = np.asarray(outputs["top_ids"]) if "top_ids" in outputs else None
        rows = LogitRows(np.asarray(outputs["logits"]), np.asarray(outputs["logsumexp"]), top_ids)
        for request, positions, first_row in self._inputs.prompt_rows:
            _report_prompt(request, positions, first_row, rows)
        for place, (request, token_id) in enumerate(zip(self._inputs.sampled, token_ids, strict=True)):
            row = int(self._inputs.sample_rows[place])
            if request.prompt_logits is not None and not request.num_output_tokens:
                request.prompt_logits(request.num_prompt_tokens - 1, rows.logits[row : row + 1])
            sampler = request.sampler
            if sampler is not None and sampler.num_logprobs is not None and request.logprobs is not None:
                request.logprobs.append(rows.logprobs(row, token_id, sampler.num_logprobs, request))


_ADJUST_OPERANDS = (
    "counted_ids", "starts", "output_counts", "repetition", "frequency", "presence",
    "bias_rows", "bias_ids", "bias_values",
)  # fmt: skip
_SAMPLE_OPERANDS = ("temperature", "top_k", "top_p", "min_p", "uniform")


def _classes(bounds: Sequence[int], largest: int) -> list[int]:
    return [bound for bound in bounds if bound < largest] + [largest]


def _fitting(bounds: Sequence[int], size: int) -> int:
    return next(bound for bound in bounds if size <= bound)


def _sampling_specs() -> dict[str, px.TensorSpec]:
    samples, counted, biases = (px.Dim(name) for name in ("num_samples", "num_counted", "num_biases"))
    specs = {name: px.TensorSpec((samples,), dtype) for name, dtype in _SAMPLING_DTYPES.items()}
    specs["sample_rows"] = px.TensorSpec((samples,), px.int32)
    specs["starts"] = px.TensorSpec((px.Dim("num_samples_plus_one"),), px.int32)
    specs.update({name: px.TensorSpec((counted,), px.int32) for name in ("counted_ids", "output_counts")})
    specs.update({name: px.TensorSpec((biases,), px.int32) for name in ("bias_rows", "bias_ids")})
    specs["bias_values"] = px.TensorSpec((biases,), px.float32)
    return specs


def _report_prompt(request: Request, positions: range, first_row: int, rows: LogitRows) -> None:
    if request.prompt_logits is not None:
        request.prompt_logits(positions.start, rows.logits[first_row : first_row + len(positions)])
    if request.prompt_logprobs is not None and request.sampler is not None:
        count = request.sampler.num_prompt_logprobs or 0
        for offset, position in enumerate(positions):
            token_id = int(request.token_ids[position + 1])
            request.prompt_logprobs.append(rows.logprobs(first_row + offset, token_id, count, request))
    request.num_prompt_rows_done = positions.stop
