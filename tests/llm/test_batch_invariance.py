"""On `cpu` the logits of a request are the same bits whatever shares its steps, and however its prompt is cut up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_models import MODELS, write_random_model
from stepper import Chunk, Stepper

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxlm import LLM, RequestOutput, SamplingParams
from perfxlm.inputs import TokensPrompt
from perfxlm.layers.base import ModelOptions
from perfxlm.weights.loader import open_model

TINY = Path(__file__).parent.parent / "data" / "tiny"
LENGTH, NUM_REQUESTS = 64, 8

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]

Arrival = tuple[int, list[int]]
"""The step in which a request arrives, and the sizes of the chunks in which its tokens are computed from then on."""


@pytest.fixture(scope="session")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("random")
    return {name: write_random_model(name, folder / f"{name}.gguf") for name in MODELS}


class Subject:
    """A model, eight requests of it, and the logits of each where it is computed alone in one step."""

    def __init__(self, path: Path, options: ModelOptions) -> None:
        model = open_model(path).build(options)
        px.reset_explain()  # the ledger is cleared before each test, and this is made before that
        self.step = Stepper(model, "cpu", num_requests=NUM_REQUESTS, max_len=LENGTH, max_tokens=NUM_REQUESTS * LENGTH)
        shape = (NUM_REQUESTS, LENGTH)
        self.tokens: Tokens = np.random.default_rng(1).integers(4, model.vocab_size, shape).astype(np.int32)
        self.alone = [self.step([(request, tokens)])[0] for request, tokens in enumerate(self.tokens)]
        assert not px.explain().fallbacks

    def run(self, arrivals: Sequence[Arrival]) -> list[Floats]:
        """Runs requests together; each request's logits, joined."""
        self.step.restart()
        done = [0] * len(arrivals)
        rows: list[list[Floats]] = [[] for _ in arrivals]
        for number in range(max(start + len(sizes) for start, sizes in arrivals)):
            chunks: list[Chunk] = []
            for request, (start, sizes) in enumerate(arrivals):
                if start <= number < start + len(sizes):
                    end = done[request] + sizes[number - start]
                    chunks.append((request, self.tokens[request, done[request] : end]))
                    done[request] = end
            if chunks:
                for (request, _), got in zip(chunks, self.step(chunks), strict=True):
                    rows[request].append(got)
        return [np.concatenate(pieces) for pieces in rows]


SUBJECTS = [
    *((name, ModelOptions(activation_format, kv)) for name, activation_format, kv in (
        ("llama", "int16", px.float16), ("llama", "int8", px.float32), ("gemma3", "int16", px.float32),
        ("gemma3", "int8", px.float16), ("llama", "float32", px.float32), ("llama-more", "int16", px.float16),
    )),
    *((name, ModelOptions("float32")) for name in ("llama3", "qwen3", "gemma3")),
]  # fmt: skip


def subject_name(value: tuple[str, ModelOptions]) -> str:
    name, options = value
    return f"{name}-{options.activation_format}-{options.kv_dtype.name}"


@pytest.fixture(scope="module", params=SUBJECTS, ids=subject_name)
def subject(request: pytest.FixtureRequest, random_models: dict[str, Path]) -> Subject:
    name, options = request.param
    return Subject(random_models.get(name, TINY / name), options)


def sizes_that_fit(sizes: Iterable[int]) -> list[int]:
    """As many of the sizes as a request has tokens for."""
    fitting: list[int] = []
    for size in sizes:
        if sum(fitting) + size <= LENGTH:
            fitting.append(size)
    return fitting


CHUNKS = st.lists(st.integers(1, 33), min_size=1, max_size=8).map(sizes_that_fit)
ARRIVALS = st.lists(st.tuples(st.integers(0, 4), CHUNKS), min_size=1, max_size=NUM_REQUESTS)


@settings(max_examples=20, deadline=None)
@given(ARRIVALS)
@example([(0, [1] * LENGTH)])
@example([(0, [LENGTH])] * NUM_REQUESTS)
@example([(0, [1] * LENGTH)] * NUM_REQUESTS)
@example([(start, [17, *[1] * 30, 17]) for start in range(NUM_REQUESTS)])
def test_chunks_and_neighbors_change_no_bit(subject: Subject, arrivals: list[Arrival]) -> None:
    for got, alone in zip(subject.run(arrivals), subject.alone, strict=False):
        assert got.tobytes() == alone[: len(got)].tobytes()


def test_the_models_tell_contexts_apart(subject: Subject) -> None:
    """Else equal logits would prove nothing: the same token after other tokens has other logits."""
    subject.tokens[0, -1] = subject.tokens[1, -1]
    subject.step.restart()
    first, second = (subject.step([(request, subject.tokens[request])])[0] for request in (0, 1))
    assert np.abs(first[-1] - second[-1]).max() > 1e-3 * np.abs(first).max()


# ---- threads and instruction sets


def dumped(paths: tuple[Path, ...], folder: Path, setting: str, value: str) -> dict[str, Floats]:
    """What tests/llm/dump_logits.py writes under one setting."""
    out = folder / f"{setting}-{value}.npz"
    script = Path(__file__).with_name("dump_logits.py")
    subprocess.run([sys.executable, script, out, *paths], env={**os.environ, setting: value}, check=True)
    with np.load(out) as stored:
        return dict(stored)


def cpu_variants() -> list[str]:
    """What this machine can run, best first."""
    names: list[str] = REGISTRY.of_device(px.get_device("cpu")).backend.library.supported_variants()
    return names


@pytest.fixture(scope="module")
def dump_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dumps")


@pytest.fixture(scope="module")
def one_thread(random_models: dict[str, Path], dump_folder: Path) -> dict[str, Floats]:
    return dumped(dumped_models(random_models), dump_folder, "PERFXAPI_NUM_THREADS", "1")


def dumped_models(random_models: dict[str, Path]) -> tuple[Path, ...]:
    return (*random_models.values(), TINY / "qwen3", TINY / "llama3")


def assert_same_bits(got: dict[str, Floats], expected: dict[str, Floats]) -> None:
    assert got.keys() == expected.keys()
    assert len(got) == 8
    for name, logits in got.items():
        assert np.isfinite(logits).all()
        assert logits.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("num_threads", ["2", "3"])
def test_threads_change_no_bit(
    num_threads: str, one_thread: dict[str, Floats], random_models: dict[str, Path], dump_folder: Path
) -> None:
    got = dumped(dumped_models(random_models), dump_folder, "PERFXAPI_NUM_THREADS", num_threads)
    assert_same_bits(got, one_thread)


@pytest.mark.parametrize("variant", ["scalar", "avx2", "avx512", "avx512vnni"])
def test_instruction_sets_change_no_bit(
    variant: str, one_thread: dict[str, Floats], random_models: dict[str, Path], dump_folder: Path
) -> None:
    if variant not in cpu_variants():
        pytest.skip(f"this machine has no {variant}")
    got = dumped(dumped_models(random_models), dump_folder, "PERFXAPI_CPU_VARIANT", variant)
    assert_same_bits(got, one_thread)


# ---- the real model, through the engine


def distributions(output: RequestOutput) -> list[dict[int, float]]:
    """The reported log-probabilities at every position, of the prompt and after it."""
    assert output.prompt_logprobs is not None
    assert output.outputs[0].logprobs is not None
    positions = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
    return [{token: found.logprob for token, found in position.items()} for position in positions if position]


@pytest.mark.model
@pytest.mark.timeout(900)
def test_real_model_alone_among_others_and_in_chunks(gemma_path: Path) -> None:
    rng = np.random.default_rng(3)
    prompts = [
        TokensPrompt(prompt_token_ids=[2, *rng.integers(4, 262144, length).tolist()])
        for length in (37, 1, 5, 90, 16, 2, 61, 12)
    ]
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True, logprobs=20, prompt_logprobs=20)
    together = LLM(gemma_path, device="cpu", max_model_len=128).generate(prompts, params, use_tqdm=False)
    llm = LLM(gemma_path, device="cpu", max_model_len=128, max_num_batched_tokens=7)
    in_chunks = llm.generate(prompts[:4], params, use_tqdm=False)
    (alone,) = llm.generate(prompts[0], params, use_tqdm=False)
    assert len(distributions(alone)) == 37 + 6
    for got in (together[0], in_chunks[0]):
        assert got.outputs[0].token_ids == alone.outputs[0].token_ids
        assert distributions(got) == distributions(alone)
    for got, expected in zip(in_chunks, together, strict=False):
        assert distributions(got) == distributions(expected)
