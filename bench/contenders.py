"""The engines that are measured: what each must offer, and ours. Each run is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.loads import ALL_LOGITS, GREEDY, PREFILL, Load, Model, Speed
from bench.process import Finished, run
from bench.quality import Quality

PERFXLM = str(Path(sys.executable).with_name("perfxlm"))

OURS = "PerfXLM"
OURS_INT8 = "PerfXLM int8"
"""The same with activations of 8 bits, as the other engines have them: quicker prompts and batches, less exact."""


class Contender(Protocol):
    """An engine. What it offers no way to measure is None."""

    @property
    def name(self) -> str:
        """As tables show it."""

    def problem(self) -> str:
        """Why it cannot be measured here; empty where it can."""

    def speed(self, model: Model, load: Load) -> Speed | None:
        """Medians of one process. Raises ContenderError."""

    def first_token(self, model: Model) -> Finished | None:
        """A whole process that makes one token. Raises ContenderError."""

    def quality(self, model: Model, reference: Path, folder: Path) -> Quality | None:
        """Distance from a reference file; `folder` is for files on the way. Raises ContenderError."""


def python_problem(python: str, module: str) -> str:
    """Whether a Python lacks a module; empty where it has it."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    except OSError as error:
        return f"{Path(python).name}: {error.strerror}"
    return f"{module} is not installed" if done.returncode else ""


@dataclass(frozen=True, slots=True)
class PerfXLM:
    """Ours, by its command line. `options` are added to each command."""

    name: str = OURS
    options: tuple[str, ...] = ()

    def problem(self) -> str:
        """Never: it is installed with this package's own environment."""
        return ""

    def _run(self, command: str, model: Model, *arguments: str) -> Finished:
        return run([PERFXLM, command, model.name, *arguments, "--threads", str(model.threads), *self.options])

    def bench(self, model: Model, load: Load, *arguments: str) -> tuple[Finished, dict[str, Any]]:
        """`perfxlm bench` and the object that it prints."""
        sizes = {
            "--prompt-tokens": load.context,
            "--context": 1 if load.kind == PREFILL else load.context,
            "--gen-tokens": load.gen_tokens,
            "--batch": load.batch,
            "--max-model-len": load.longest,
            "--repeats": model.repeats,
        }
        flags = [text for name, value in sizes.items() for text in (name, str(value))]
        if load.kind == PREFILL or not load.with_all_logits:
            flags.append("--greedy-only")
        finished = self._run("bench", model, *model.options, *flags, *arguments, "--json")
        return finished, finished.json()

    def speed(self, model: Model, load: Load) -> Speed | None:
        """Prefill, or both modes of decoding."""
        finished, result = self.bench(model, load)
        if load.kind == PREFILL:
            modes = {"": result["prefill_tokens_per_second"]}
        else:
            modes = {GREEDY: result["decode_tokens_per_second"]}
            if load.with_all_logits:
                modes[ALL_LOGITS] = result["decode_full_logits_tokens_per_second"]
        kept = ("outside_native_fraction", "device", "activation_format")
        return Speed(modes, finished.peak_memory_bytes, {key: result[key] for key in kept})

    def first_token(self, model: Model) -> Finished | None:
        """`perfxlm run ... --max-tokens 1`."""
        return self._run(
            "run", model, model.prompt, "--max-tokens", "1", "--temperature", "0", "--max-model-len", "2048"
        )

    def quality(self, model: Model, reference: Path, folder: Path) -> Quality | None:
        """`perfxlm eval --reference`."""
        result = self._run("eval", model, "--reference", str(reference), "--json").json()
        return Quality(result["mean_kl"], result["p99_kl"], result["top1_agreement"])
