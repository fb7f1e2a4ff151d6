"""The engines that are measured. Each says why it cannot be (`problem`), and runs in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.process import Finished, run
from bench.quality import Quality, compare

WORKERS = Path(__file__).parent
PERFXLM = str(Path(sys.executable).with_name("perfxlm"))


@dataclass(frozen=True, slots=True)
class Load:
    """What every engine is asked to do."""

    model: str
    model_file: Path
    threads: int
    prompt_tokens: int
    gen_tokens: int
    repeats: int
    context: int
    prompt: str = "The capital of France is"


@dataclass(frozen=True, slots=True)
class Speed:
    """One process's medians. `extra` is what the engine says beyond the two figures."""

    prefill: float
    decode: float
    peak_memory_bytes: int
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, finished: Finished, result: dict[str, Any]) -> Speed:
        """From a JSON object with the two `..._tokens_per_second`."""
        prefill, decode = result.pop("prefill_tokens_per_second"), result.pop("decode_tokens_per_second")
        return cls(prefill, decode, finished.peak_memory_bytes, result)


class Contender(Protocol):
    """An engine. `first_token` and `quality` return None where it offers no way to measure them."""

    name: str

    def problem(self) -> str:
        """Why it cannot be measured here; empty where it can."""

    def speed(self, load: Load) -> Speed:
        """Prefill, decode and peak memory of one process. Raises ContenderError."""

    def first_token(self, load: Load) -> Finished | None:
        """A whole process that makes one token."""

    def quality(self, load: Load, reference: Path, folder: Path) -> Quality | None:
        """Distance from a reference file; `folder` is for files on the way."""


def _python_problem(python: str, module: str) -> str:
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    except OSError as error:
        return f"{python}: {error.strerror}"
    return f"{python} has no {module}" if done.returncode else ""


class PerfXLM:
    """Ours, by its command line."""

    name = "PerfXLM"

    def __init__(self, options: tuple[str, ...] = ()) -> None:
        self.options = options

    def problem(self) -> str:
        """Never: it is installed with this package's own environment."""
        return ""

    def _command(self, command: str, load: Load, *arguments: str) -> list[str]:
        cli = [PERFXLM, command, load.model, *arguments]
        return [*cli, "--threads", str(load.threads), *self.options]

    def speed(self, load: Load) -> Speed:
        """`perfxlm bench`."""
        sizes = ["--prompt-tokens", str(load.prompt_tokens), "--gen-tokens", str(load.gen_tokens)]
        context = ["--max-model-len", str(load.context), "--repeats", str(load.repeats)]
        finished = run(self._command("bench", load, *sizes, *context, "--json"))
        return Speed.of(finished, finished.json())

    def first_token(self, load: Load) -> Finished | None:
        """`perfxlm run ... --max-tokens 1`."""
        context = ["--max-model-len", str(load.context)]
        return run(self._command("run", load, load.prompt, "--max-tokens", "1", "--temperature", "0", *context))

    def quality(self, load: Load, reference: Path, folder: Path) -> Quality | None:
        """`perfxlm eval --reference`."""
        result = run(self._command("eval", load, "--reference", str(reference), "--json")).json()
        return Quality(result["mean_kl"], result["p99_kl"], result["top1_agreement"])


class LlamaCpp:
    """llama.cpp through llama-cpp-python, by its low-level functions."""

    name = "llama.cpp"

    def __init__(self, python: str) -> None:
        self.python = python

    def problem(self) -> str:
        """Whether that Python lacks llama-cpp-python."""
        return _python_problem(self.python, "llama_cpp")

    def _run(self, task: str, load: Load, *arguments: str) -> Finished:
        worker = [self.python, str(WORKERS / "llama_cpp_worker.py"), task]
        given = ["--model", str(load.model_file), "--threads", str(load.threads), "--context", str(load.context)]
        return run([*worker, *given, *arguments])

    def speed(self, load: Load) -> Speed:
        """Its decode loop with the same sizes."""
        sizes = ["--prompt-tokens", str(load.prompt_tokens), "--gen-tokens", str(load.gen_tokens)]
        finished = self._run("speed", load, *sizes, "--repeats", str(load.repeats))
        return Speed.of(finished, finished.json())

    def first_token(self, load: Load) -> Finished | None:
        """Load, tokenize, decode the prompt, choose one token."""
        return self._run("first-token", load, "--prompt", load.prompt)

    def quality(self, load: Load, reference: Path, folder: Path) -> Quality | None:
        """Its own logits at every position of the reference."""
        scores = folder / "llama_cpp.npz"
        self._run("score", load, "--reference", str(reference), "--output", str(scores))
        return compare(np.load(reference), np.load(scores))


class LlamaBench:
    """A `llama-bench` program: ik_llama.cpp's, or any other build of llama.cpp."""

    def __init__(self, name: str, program: Path | None) -> None:
        self.name, self.program = name, program

    def problem(self) -> str:
        """Whether no program was named."""
        if self.program is None:
            return "its llama-bench was not named (--ik-llama-bench)"
        return "" if self.program.is_file() else f"{self.program} is not a file"

    def speed(self, load: Load) -> Speed:
        """Its two tests, by their averages."""
        sizes = ["-p", str(load.prompt_tokens), "-n", str(load.gen_tokens), "-t", str(load.threads)]
        finished = run([str(self.program), "-m", str(load.model_file), *sizes, "-r", str(load.repeats), "-o", "json"])
        tests = finished.json()
        prefill = next(test["avg_ts"] for test in tests if test["n_gen"] == 0)
        decode = next(test["avg_ts"] for test in tests if test["n_prompt"] == 0)
        return Speed(prefill, decode, finished.peak_memory_bytes, {"version": tests[0].get("build_commit", "")})

    def first_token(self, load: Load) -> Finished | None:
        """It has no such mode."""
        return None

    def quality(self, load: Load, reference: Path, folder: Path) -> Quality | None:
        """It gives no logits."""
        return None


class OpenVINO:
    """OpenVINO GenAI on a folder exported by optimum-intel from the same weights."""

    name = "OpenVINO GenAI"

    def __init__(self, python: str, model: Path | None) -> None:
        self.python, self.model = python, model

    def problem(self) -> str:
        """Whether the folder or the package is missing."""
        if self.model is None:
            return "its model folder was not named (--openvino-model)"
        return _python_problem(self.python, "openvino_genai")

    def speed(self, load: Load) -> Speed:
        """Its pipeline's own metrics."""
        worker = [self.python, str(WORKERS / "openvino_worker.py"), "--model", str(self.model)]
        sizes = ["--prompt-tokens", str(load.prompt_tokens), "--gen-tokens", str(load.gen_tokens)]
        finished = run([*worker, *sizes, "--threads", str(load.threads), "--repeats", str(load.repeats)])
        return Speed.of(finished, finished.json())

    def first_token(self, load: Load) -> Finished | None:
        """Not measured: it is not the same file."""
        return None

    def quality(self, load: Load, reference: Path, folder: Path) -> Quality | None:
        """Not measured: the pipeline gives no logits."""
        return None


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of runs that stood side by side."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
