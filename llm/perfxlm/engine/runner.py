"""Runs the model: fills the operands of a step, and runs one compiled graph from tokens to sampled tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy.typing as npt

import perfxapi as px
from perfxlm.engine.request import Request
from perfxlm.engine.sampler import (
    GREEDY,
    SAMPLE_OPERANDS,
    SAMPLED,
    Head,
    LogitRows,
    sample_tokens,
    sampled_ids,
    sampling_specs,
)
from perfxlm.engine.sampling_inputs import SamplingInputs
from perfxlm.engine.scheduler import Schedule, SchedulerLimits
from perfxlm.engine.step_inputs import StepInputs
from perfxlm.layers.base import KVSpec
from perfxlm.layers.batch import Batch
from perfxlm.layers.decoder import Decoder, KVCache

TOKEN_CLASSES = (1, 16, 128)
"""Upper bounds of `num_tokens` for which graphs are compiled, besides the largest step."""

ROW_CLASSES = (1, 16)
"""The same, for rows of logits."""

SIDE_CLASSES = tuple(4096 * 16**power for power in range(8))
"""The same, for token counts and biases: lists as long as a prompt, or as a vocabulary."""

CANDIDATE_CLASSES = (16, 64)
"""How many of the largest logits are sampled from where a request limits them by top_k."""

LOGPROB_CLASSES = (0, 32, 256)
"""How many likeliest tokens are found on the device; more are found by sorting on the host."""


MAX_PLANS = 1024
"""Exact sizes of steps for which the ready plan is remembered."""


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


class ModelRunner:
    """A model with its KV cache. A step is one run of a graph, traced once for each kind of head.

    All is on one device, but for layers for which the model's options name others, and for what "auto" (`is_automatic`)
    places elsewhere.
    """

    def __init__(
        self,
        model: Decoder,
        limits: SchedulerLimits,
        *,
        num_blocks: int,
        block_size: int,
        device: px.Device,
        is_automatic: bool = False,
    ) -> None:
        self.model, self.device, self._limits, self._is_automatic = model, device, limits, is_automatic
        self._max_blocks = -(-limits.max_model_len // block_size)
        self._kv = [_kv_cache(i, spec, num_blocks, block_size, device) for i, spec in enumerate(model.kv_specs)]
        self._inputs = StepInputs(block_size)
        self._sampling = SamplingInputs(limits.max_num_seqs)
        self._token_classes = _classes(TOKEN_CLASSES, limits.max_num_batched_tokens)
        self._row_classes = _classes(ROW_CLASSES, limits.max_logit_rows)
        self._logprob_classes = [size for size in LOGPROB_CLASSES if size <= model.vocab_size]
        self._graphs: dict[Head, px.graph.Graph] = {}
        self._executables: dict[SizeClass, px.graph.Executable] = {}
        self._plans: dict[tuple[Head, int, int, int, int, int, int], px.graph.BoundExecutable] = {}

    def run(self, schedule: Schedule) -> StepResult:
        """Computes a step: keys and values are written, prompt log-probabilities reported, tokens sampled.

        Raises DeviceLostError; the requests' own state is then as before.
        """
        inputs = self._inputs
        inputs.begin(schedule)
        head = self._head()
        sampling = self._sampling_operands(head)
        plan = self._plan(head, schedule, sampling)
        inputs.fill(schedule, plan.inputs)
        for name, values in sampling.items():
            plan.inputs[name][...] = values
        if head.num_logprobs is not None:
            plan.inputs["sample_rows"][:] = inputs.sample_rows or [0]
        plan.run()
        token_ids = sampled_ids(plan.outputs)[: len(inputs.sampled)].tolist()
        if head.num_logprobs is not None:
            self._report(plan.outputs, token_ids)
        return StepResult(inputs.sampled, token_ids)

    def prepare(self) -> None:
        """Compiles the step that decodes one request greedily.

        Weights are packed for the device by that, and the first request need not wait for it.
        """
        self._compiled(SizeClass(GREEDY, 1, 1, SIDE_CLASSES[0]))

    def prepare_all(self) -> None:
        """Compiles the steps of every size that decode greedily."""
        for num_tokens in self._token_classes:
            for num_rows in self._row_classes:
                if num_rows <= num_tokens:
                    self._compiled(SizeClass(GREEDY, num_tokens, num_rows, SIDE_CLASSES[0]))

    @property
    def devices(self) -> str:
        """The devices that layers are on, in the order of the layers, for people."""
        return ", ".join(dict.fromkeys(str(keys.device) for keys, _ in self._kv))

    def executables(self) -> Mapping[SizeClass, px.graph.Executable]:
        """What was compiled so far."""
        return self._executables

    def graph(self, head: Head) -> px.graph.Graph:
        """The traced graph of the model with a head."""
        if head not in self._graphs:
            specs = {**Batch.input_specs(self._max_blocks), **sampling_specs(head)}
            self._graphs[head] = px.graph.trace(lambda **arrays: self._forward(head, arrays), specs, device=self.device)
        return self._graphs[head]

    def compile(self, size: SizeClass) -> px.graph.Executable:
        """The graph compiled for steps of at most that size."""
        num_requests = min(self._limits.max_num_seqs, size.num_tokens)
        # where no raw logits are reported every row is sampled, and the sizes of rows and samples are one
        num_samples = size.num_rows if size.head.num_logprobs is None else min(num_requests, size.num_rows)
        bounds = {
            "num_tokens": size.num_tokens,
            "num_requests": num_requests,
            "num_requests_plus_one": num_requests + 1,
            "num_outputs": size.num_rows,
            "num_samples": num_samples,
            "num_samples_plus_one": num_samples + 1,
            "num_counted": size.num_side,
            "num_biases": size.num_side,
        }
        device = "auto" if self._is_automatic else self.device
        return px.graph.compile(self.graph(size.head), device=device, bounds=bounds)

    def _plan(
        self, head: Head, schedule: Schedule, sampling: Mapping[str, npt.NDArray[Any]]
    ) -> px.graph.BoundExecutable:
        """What runs a step of this size with these operands of sampling."""
        num_requests, num_rows = len(schedule.requests), len(self._inputs.output_rows)
        num_counted, num_biases = (len(sampling.get(name, ())) for name in ("counted_ids", "bias_ids"))
        num_samples = len(self._inputs.sampled) or 1
        key = head, schedule.num_tokens, num_requests, num_rows, num_samples, num_counted, num_biases
        plan = self._plans.get(key)
        if plan is not None:
            return plan
        size = SizeClass(
            head,
            _fitting(self._token_classes, schedule.num_tokens),
            _fitting(self._row_classes, num_rows),
            _fitting(SIDE_CLASSES, max(num_counted, num_biases)),
        )
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = self._plans[key] = self._compiled(size).bind(
            num_tokens=schedule.num_tokens,
            num_requests=num_requests,
            num_requests_plus_one=num_requests + 1,
            num_outputs=num_rows,
            num_samples=num_samples,
            num_samples_plus_one=num_samples + 1,
            num_counted=num_counted,
            num_biases=num_biases,
        )
        return plan

    def _compiled(self, size: SizeClass) -> px.graph.Executable:
        if size not in self._executables:
            self._executables[size] = self.compile(size)
        return self._executables[size]

    def _head(self) -> Head:
        """The least that serves every request of the step."""
        prompt_rows, sampled = self._inputs.prompt_rows, self._inputs.sampled
        if not prompt_rows and not any(request.needs_logits for request in sampled):
            return GREEDY
        counts = [request.num_logprobs for request in sampled if request.num_logprobs is not None]
        counts += [request.num_prompt_logprobs for request, _, _ in prompt_rows]
        counts += [0 for request in sampled if request.prompt_logits is not None]
        if not counts:
            return self._sampled_head(sampled)
        most = max(counts)
        return Head(False, next((size for size in self._logprob_classes if most <= size), 0))

    def _sampled_head(self, sampled: Sequence[Request]) -> Head:
        """Candidates alone, where every request is content with few and the model's logits are those of vocab_topk."""
        needed = [request.sampler.num_candidates if request.sampler else 1 for request in sampled]
        if 0 in needed or self.model.logit_softcap:
            return SAMPLED
        classes = [size for size in CANDIDATE_CLASSES if max(needed) <= size <= self.model.vocab_size]
        return Head(is_greedy=False, num_candidates=classes[0]) if classes else SAMPLED

    def _sampling_operands(self, head: Head) -> Mapping[str, npt.NDArray[Any]]:
        if head.is_greedy:
            return {}
        operands = self._sampling.fill(self._inputs.sampled)
        return operands if head.has_logits else {name: operands[name] for name in SAMPLE_OPERANDS}

    def _forward(self, head: Head, arrays: Mapping[str, px.Array]) -> dict[str, px.Array]:
        """Traced: from a step's operands to its outputs."""
        model = self.model
        batch = Batch(**{field.name: arrays[field.name] for field in fields(Batch)})
        rows = px.nn.take_rows(model.hidden(batch, self._kv), batch.output_rows)
        return sample_tokens(model, head, rows, arrays)

    def _report(self, outputs: Mapping[str, npt.NDArray[Any]], token_ids: Sequence[int]) -> None:
        """Hands log-probabilities, and raw logits where asked for, to their requests."""
        rows = LogitRows(outputs["logits"], outputs["logsumexp"], outputs.get("top_ids"))
        for request, positions, first_row in self._inputs.prompt_rows:
            _report_prompt(request, positions, first_row, rows)
        for place, (request, token_id) in enumerate(zip(self._inputs.sampled, token_ids, strict=True)):
            row = self._inputs.sample_rows[place]
            if request.prompt_logits is not None and not request.num_output_tokens:
                request.prompt_logits(request.num_prompt_tokens - 1, rows.logits[row : row + 1])
            if request.logprobs is not None:
                request.logprobs.append(rows.logprobs(row, token_id, request.num_logprobs or 0, request))


def _kv_cache(layer: int, spec: KVSpec, num_blocks: int, block_size: int, device: px.Device) -> KVCache:
    """The keys (each block transposed) and the values of a layer, where the layer is."""
    home = px.get_device(spec.device) if spec.device else device
    shapes = {"k": (spec.head_dim, block_size), "v": (block_size, spec.head_dim)}
    keys, values = (
        px.state((num_blocks, spec.num_kv_heads, *block), spec.dtype, device=home, name=f"{kind}_cache_{layer}")
        for kind, block in shapes.items()
    )
    return keys, values


def _classes(bounds: Sequence[int], largest: int) -> list[int]:
    return [bound for bound in bounds if bound < largest] + [largest]


def _fitting(bounds: Sequence[int], size: int) -> int:
    return next(bound for bound in bounds if size <= bound)


def _report_prompt(request: Request, positions: range, first_row: int, rows: LogitRows) -> None:
    if request.prompt_logits is not None:
        request.prompt_logits(positions.start, rows.logits[first_row : first_row + len(positions)])
    if request.prompt_logprobs is not None:
        for row, position in enumerate(positions, first_row):
            token_id = int(request.token_ids[position + 1])
            request.prompt_logprobs.append(rows.logprobs(row, token_id, request.num_prompt_logprobs, request))
    request.num_prompt_rows_done = positions.stop
