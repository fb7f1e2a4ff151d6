"""The model's operands of one step: the tokens of all scheduled requests, and where their keys and values live."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perfxlm.engine.request import Request
from perfxlm.engine.scheduler import Schedule, SchedulerLimits


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
            if count == 1:
                self.tokens[start] = request.token_ids[first]
                self.positions[start] = first
                block, place = divmod(first, self._block_size)
                self.slot_mapping[start] = request.block_ids[block] * self._block_size + place
            else:
                self._fill_span(request, first, start, stop)
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

    def _fill_span(self, request: Request, first: int, start: int, stop: int) -> None:
        self.tokens[start:stop] = request.token_ids[first : first + stop - start]
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
