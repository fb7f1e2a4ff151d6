"""The model's operands of one step: the tokens of all scheduled requests, and where their keys and values live."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from perfxlm.engine.request import Request
from perfxlm.engine.scheduler import Schedule

Int32Array = npt.NDArray[np.int32]


class StepInputs:
    """Describes a step to the model: `begin` says what rows of logits are for, `fill` writes the operands of Batch."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self.output_rows: list[int] = []
        self.sample_rows: list[int] = []
        self.prompt_rows: list[tuple[Request, range, int]] = []
        self.sampled: list[Request] = []

    def begin(self, schedule: Schedule) -> None:
        """Finds the step's rows of logits.

        `output_rows` are the tokens that they belong to. Then `sampled` are the requests that get a token,
        `sample_rows` its row for each, and `prompt_rows` the rows that are reported (request, positions, first row).
        Where no logits are wanted, one row is computed all the same.
        """
        self.prompt_rows, self.sampled, self.sample_rows = [], [], []
        rows: list[int] = []
        stop = 0
        for request, count in zip(schedule.requests, schedule.num_new_tokens, strict=True):
            first, start = request.num_computed_tokens, stop
            stop += count
            if request.wants_prompt_rows and (positions := request.prompt_rows(count)):
                self.prompt_rows.append((request, positions, len(rows)))
                begin = start + positions.start - first
                rows += range(begin, begin + len(positions))
            if first + count == request.num_tokens:
                self.sample_rows.append(len(rows))
                self.sampled.append(request)
                rows.append(stop - 1)
        self.output_rows = rows or [0]

    def fill(self, schedule: Schedule, arrays: Mapping[str, Int32Array]) -> None:
        """Writes a step that was begun to the operands of Batch, by name, each of this step's size."""
        tokens, positions, slots = arrays["tokens"], arrays["positions"], arrays["slot_mapping"]
        query_start, kv_len, block_table = arrays["query_start"], arrays["kv_len"], arrays["block_table"]
        block_size = self._block_size
        stop = query_start[0] = 0
        for index, (request, count) in enumerate(zip(schedule.requests, schedule.num_new_tokens, strict=True)):
            first, start = request.num_computed_tokens, stop
            stop += count
            if count == 1:
                tokens[start], positions[start] = request.token_ids[first], first
                slots[start] = request.block_ids[first // block_size] * block_size + first % block_size
            else:
                tokens[start:stop] = request.token_ids[first : first + count]
                span = np.arange(first, first + count, dtype=np.int32)
                positions[start:stop] = span
                slots[start:stop] = request.block_table[span // block_size] * block_size + span % block_size
            query_start[index + 1] = stop
            kv_len[index] = first + count
            block_table[index] = request.block_table
        arrays["output_rows"][:] = self.output_rows
