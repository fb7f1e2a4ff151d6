"""A small random model in three requests, what it gives with nothing wrong, and native kernels that fail on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi.ledger import LedgerRow
from perfxapi.native.calls import NativeKernel
from perfxlm import LLM, SamplingParams
from perfxlm.inputs import TokensPrompt

Floats = npt.NDArray[np.float32]

PROMPTS = [[5, 6, 7, 200, 11], [300, 4, 17, 17, 90, 31, 8, 250, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70], [9]]
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, detokenize=False)
TOLERANCE = 5e-4
"""Of logits over the largest: two backends round float32 sums differently, and then a 16-bit code here and there."""

OUT_OF_MEMORY, KERNEL_ERROR, DEVICE_LOST = 3, 4, 5
"""Statuses of perfx/abi.h."""


def make_llm(path: Path, device: str = "cpu", **options: Any) -> LLM:
    return LLM(path, device=device, skip_tokenizer_init=True, max_model_len=64, **options)


def tokens_of(llm: LLM, prompts: Sequence[Sequence[int]] = PROMPTS) -> list[list[int]]:
    """What three requests generate, side by side."""
    outputs = llm.generate([TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts], GREEDY, use_tqdm=False)
    return [output.outputs[0].token_ids for output in outputs]


def logits_of(llm: LLM, token_ids: Sequence[int]) -> Floats:
    rows: list[Floats] = []
    llm.visit_logits(token_ids, lambda position, logits: rows.append(logits.copy()))
    return np.concatenate(rows)


class Baseline:
    """Tokens and logits with nothing wrong."""

    def __init__(self, path: Path) -> None:
        llm = make_llm(path, fallback="error")
        self.tokens = tokens_of(llm)
        self.sequence = PROMPTS[1] + self.tokens[1]
        self.logits = logits_of(llm, self.sequence)

    def assert_met_by(self, llm: LLM) -> None:
        assert tokens_of(llm) == self.tokens
        found = logits_of(llm, self.sequence)
        assert np.abs(found - self.logits).max() <= TOLERANCE * np.abs(self.logits).max()


def fallback_of(op: str) -> LedgerRow:
    (row,) = (row for row in px.explain().fallbacks if row.op == op)
    return row


class Fault:
    """Makes a native kernel of `cpu` return a status, inside the command list, at chosen runs of it."""

    def __init__(self, op: str, status: int, at: Sequence[int]) -> None:
        (kernel,) = REGISTRY.of_device(px.get_device("cpu")).backend.kernels(op)
        assert isinstance(kernel, NativeKernel)
        self.kernel, self.original, self.status, self.at = kernel, kernel.entry, status, frozenset(at)
        self._runs: dict[int, int] = {}
        ffi = kernel.backend.library.ffi
        self._run = ffi.callback("int32_t(const PxCall*, const PxThread*)", self._called)
        self._entry = ffi.new("PxKernel*", self.original)
        self._entry.run = self._run
        kernel.entry = self._entry[0]

    @property
    def num_runs(self) -> int:
        return self._runs.get(0, 0)

    def _called(self, call: Any, thread: Any) -> int:
        """Every thread counts for itself: all return the same at the same run."""
        number = self._runs[thread.index] = self._runs.get(thread.index, 0) + 1
        return self.status if number in self.at else int(self.original.run(call, thread))

    def remove(self) -> None:
        self.kernel.entry = self.original
