"""The real Gemma 3 270M on each OpenCL device: its numbers, no fallback in a step, and every op taken away in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from opencl_devices import EACH_DEVICE
from stepper import Stepper

import perfxapi as px
from perfxapi.errors import FallbackWarning
from perfxlm import LLM, SamplingParams, TokensPrompt, evaluation
from perfxlm.layers.base import ModelOptions
from perfxlm.layers.decoder import Decoder
from perfxlm.weights.loader import open_model

DATA = Path(__file__).parent.parent / "data"
PROMPT = np.array([2, 818, 5279, 529, 7001, 563, 9079, 236761], np.int32)
NUM_POSITIONS, CHUNK = 250, 125
NEEDED_KL, NEEDED_TOP1 = 0.0060, 0.959
"""What llama.cpp has on this file."""

Floats = npt.NDArray[np.float32]

pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=EACH_DEVICE)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def llm(gemma_path: Path, device: str) -> LLM:
    return LLM(gemma_path, device=device, max_model_len=256, fallback="error")


def test_divergence_from_float32(llm: LLM) -> None:
    agreement = evaluation.compare(llm, evaluation.read_reference(DATA / "gemma3-270m-reference.npz"))
    assert agreement.num_positions == 489
    assert agreement.mean_kl < 1e-6 < NEEDED_KL
    assert agreement.top1_agreement > 0.99 > NEEDED_TOP1


def test_no_op_of_a_step_runs_elsewhere(llm: LLM, device: str) -> None:
    """Greedy and sampled, from a prompt to text: `llm` forbids fallbacks, and the ledger agrees."""
    for params in (
        SamplingParams(temperature=0, max_tokens=4),
        SamplingParams(temperature=0.8, top_k=40, max_tokens=4, seed=1),
        SamplingParams(temperature=0.8, top_p=0.9, repetition_penalty=1.1, max_tokens=4, seed=1, logprobs=5),
    ):
        llm.generate(["The capital of France is"] * 2, params, use_tqdm=False)
    assert {row.ran_on for row in px.explain().rows} == {device}


def divergence(expected: Floats, found: Floats) -> float:
    """KL(expected || found) of the softmax of two rows of logits, in nats."""
    shift = expected.astype(np.float64) - expected.max()
    other = found.astype(np.float64) - found.max()
    p = np.exp(shift) / np.exp(shift).sum()
    return float((p * (np.log(p) - other + np.log(np.exp(other).sum()))).sum())


@pytest.fixture(scope="module")
def model(gemma_path: Path) -> Decoder:
    return open_model(gemma_path).build(ModelOptions(kv_dtype=px.float16))


def test_device_and_reference_agree_in_the_same_format(model: Decoder, llm: LLM, device: str) -> None:
    text = (DATA / "varied_text.txt").read_text(encoding="utf-8")
    token_ids = np.array(llm.get_tokenizer().encode(text)[:NUM_POSITIONS], np.int32)
    reference, tried = (
        Stepper(model, name, num_requests=1, max_len=NUM_POSITIONS, max_tokens=CHUNK) for name in ("numpy", device)
    )
    kl: list[float] = []
    num_agreed = 0
    for start in range(0, NUM_POSITIONS, CHUNK):
        chunk = token_ids[start : start + CHUNK]
        (expected,), (found,) = reference([(0, chunk)]), tried([(0, chunk)])
        kl += map(divergence, expected, found)
        num_agreed += int((expected.argmax(-1) == found.argmax(-1)).sum())
    assert max(kl) <= 1e-4
    assert num_agreed >= 0.995 * len(kl)


OPS = (
    *("embedding", "rope_table", "linear", "multi_linear", "gated_linear", "rms_norm"),
    *("norm_add_rms_norm", "norm_rope", "kv_write", "paged_attention", "take_rows"),
)
"""The ops of a step, and those that it is made of before it is fused."""


def logits_of(model: Decoder, device: str) -> list[Floats]:
    """Of a prompt, and of three tokens after it, one by one."""
    step = Stepper(model, device, num_requests=1, max_len=32, max_tokens=len(PROMPT))
    rows = [step([(0, PROMPT)])[0]]
    rows += [step([(0, np.array([token], np.int32))])[0] for token in (506, 5279, 529)]
    return rows


@pytest.fixture(scope="module")
def undisturbed(model: Decoder, device: str) -> Iterator[list[Floats]]:
    yield logits_of(model, device)


@pytest.mark.parametrize("op", OPS)
def test_without_one_op_the_step_is_completed_and_the_bytes_are_named(
    op: str, model: Decoder, device: str, undisturbed: list[Floats], set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"opencl:{op}")
    with px.use_device(device, fallback="allow"):
        found = logits_of(model, device)
    for expected, rows in zip(undisturbed, found, strict=True):
        assert max(map(divergence, expected, rows)) <= 1e-4
        np.testing.assert_array_equal(expected.argmax(-1), rows.argmax(-1))
    moved = [row for row in px.explain().fallbacks if row.op == op]
    state_bytes = 18 * 2 * 2 * 256 * 32  # of all layers: keys and values of 32 tokens in float16
    for row in moved:
        assert row.bytes_moved > 0
        assert f"opencl:{op} is disabled" in row.reason
        if op in ("kv_write", "paged_attention"):  # whole caches do not travel: a block of each layer and step does
            assert row.bytes_moved / row.count < state_bytes / 18 * 3
    assert moved or op in ("multi_linear", "gated_linear", "norm_add_rms_norm", "norm_rope", "rms_norm", "linear")


def test_a_removed_op_is_warned_of_once(gemma_path: Path, device: str, set_setting: Callable[[str, str], None]) -> None:
    set_setting("DISABLE_KERNELS", "opencl:paged_attention")
    with pytest.warns(FallbackWarning, match="opencl:paged_attention is disabled") as told:
        llm = LLM(gemma_path, device=device, max_model_len=64, skip_tokenizer_init=True)
        params = SamplingParams(max_tokens=3, detokenize=False)
        llm.generate(TokensPrompt(prompt_token_ids=PROMPT.tolist()), params, use_tqdm=False)
    assert len(told) == 1


def test_layers_on_two_devices(gemma_path: Path, device: str) -> None:
    """Layers 0 to 8 on the device, the rest and the head on the processor, each KV cache beside its layer."""
    split = LLM(gemma_path, device_map={device: "0-8", "cpu": "9-"}, max_model_len=128, fallback="error")
    agreement = evaluation.compare(split, evaluation.read_reference(DATA / "gemma3-270m-reference.npz"))
    assert agreement.mean_kl < 1e-6 < NEEDED_KL
    assert agreement.top1_agreement > 0.99 > NEEDED_TOP1
    assert {row.ran_on for row in px.explain().rows} == {device, "cpu:0"}
