"""The engines that ours is measured beside."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.contenders import python_problem
from bench.loads import ALL_LOGITS, PREFILL, Load, Model, Speed
from bench.process import ContenderError, Finished, run
from bench.quality import Quality, compare

WORKERS = Path(__file__).parent


def _mode(load: Load) -> str:
    return "" if load.kind == PREFILL else ALL_LOGITS


def _worker_speed(finished: Finished, load: Load) -> Speed:
    """From a worker's JSON object."""
    result = finished.json()
    speed = result.pop("tokens_per_second")
    return Speed({_mode(load): speed}, finished.peak_memory_bytes, result)


def _sizes(model: Model, load: Load) -> list[str]:
    sizes = {"--context": load.context, "--gen-tokens": load.gen_tokens, "--batch": load.batch}
    flags = [text for name, value in sizes.items() for text in (name, str(value))]
    return [*flags, "--threads", str(model.threads), "--repeats", str(model.repeats)]


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp through llama-cpp-python, by its low-level functions."""

    python: str
    name: str = "llama.cpp"

    def problem(self) -> str:
        """Whether that Python lacks llama-cpp-python."""
        return python_problem(self.python, "llama_cpp")

    def _run(self, task: str, model: Model, *arguments: str) -> Finished:
        worker = [self.python, str(WORKERS / "llama_cpp_worker.py"), task, "--model", str(model.gguf)]
        return run([*worker, *arguments])

    def speed(self, model: Model, load: Load) -> Speed | None:
        """Prompts and decode loop of the same sizes."""
        return _worker_speed(self._run(load.kind, model, *_sizes(model, load)), load)

    def first_token(self, model: Model) -> Finished | None:
        """Load, tokenize, decode the prompt, choose one token."""
        return self._run("first-token", model, "--threads", str(model.threads), "--prompt", model.prompt)

    def quality(self, model: Model, reference: Path, folder: Path) -> Quality | None:
        """Its own logits at every position of the reference."""
        scores = folder / "llama_cpp.npz"
        files = ["--reference", str(reference), "--output", str(scores)]
        self._run("score", model, "--threads", str(model.threads), *files)
        return compare(np.load(reference), np.load(scores))


@dataclass(frozen=True, slots=True)
class LlamaBench:
    """A `llama-bench` program: ik_llama.cpp's, or any other build of llama.cpp. `options` are added to its command."""

    name: str
    program: Path | None
    options: tuple[str, ...] = ()

    def problem(self) -> str:
        """Whether no program was named."""
        if self.program is None:
            return "its llama-bench was not named"
        return "" if self.program.is_file() else f"{self.program.name} is not a file"

    def _decode_options(self, load: Load) -> list[str]:
        """ik_llama.cpp's `-gp` decodes after a prompt that is not timed; elsewhere `-d` does."""
        shown = subprocess.run([str(self.program), "--help"], capture_output=True, text=True, check=False)
        if "-gp <" in shown.stdout + shown.stderr:
            return ["-p", "0", "-n", "0", "-gp", f"{load.context},{load.gen_tokens}"]
        return ["-p", "0", "-n", str(load.gen_tokens), "-d", str(load.context)]

    def speed(self, model: Model, load: Load) -> Speed | None:
        """Its own test of that kind, by the average; it has none for several sequences."""
        if load.batch > 1:
            return None
        is_prefill = load.kind == PREFILL
        sizes = ["-p", str(load.context), "-n", "0"] if is_prefill else self._decode_options(load)
        given = ["-m", str(model.gguf), "-t", str(model.threads), "-r", str(model.repeats), *self.options]
        finished = run([str(self.program), *given, *sizes, "-o", "json"])
        (test,) = finished.json()
        extra: dict[str, Any] = {"version": test.get("build_commit", ""), "options": " ".join(self.options)}
        return Speed({_mode(load): test["avg_ts"]}, finished.peak_memory_bytes, extra)

    def first_token(self, model: Model) -> Finished | None:
        """It has no such test."""
        return None

    def quality(self, model: Model, reference: Path, folder: Path) -> Quality | None:
        """It gives no logits."""
        return None


@dataclass(frozen=True, slots=True)
class OpenVINO:
    """OpenVINO GenAI on a folder that holds the same model in its own format."""

    python: str
    name: str = "OpenVINO GenAI"

    def problem(self) -> str:
        """Whether that Python lacks openvino-genai."""
        return python_problem(self.python, "openvino_genai")

    def speed(self, model: Model, load: Load) -> Speed | None:
        """Its pipeline's own metrics, one sequence at a time."""
        if model.openvino is None:
            raise ContenderError("the model in its own format was not named")
        if load.batch > 1:
            return None
        worker = [self.python, str(WORKERS / "openvino_worker.py"), load.kind, "--model", str(model.openvino)]
        return _worker_speed(run([*worker, *_sizes(model, load)]), load)

    def first_token(self, model: Model) -> Finished | None:
        """Not measured: it is not the same file."""
        return None

    def quality(self, model: Model, reference: Path, folder: Path) -> Quality | None:
        """Not measured: the pipeline gives no logits."""
        return None
