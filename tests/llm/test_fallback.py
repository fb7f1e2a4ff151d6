"""What happens to a request when a kernel, a backend or a device cannot be had, or is lost while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from random_models import write_random_model
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY, Backend, BackendManifest, Kernel, OpCall
from perfxapi.errors import (
    DeviceLostError,
    DeviceUnavailableError,
    FallbackError,
    FallbackWarning,
    KernelError,
    UnknownNameError,
)
from perfxapi.ledger import LedgerRow
from perfxapi.native.calls import NativeKernel
from perfxapi.reference_backend import ReferenceKernel
from perfxlm import LLM, SamplingParams
from perfxlm.inputs import TokensPrompt

Floats = npt.NDArray[np.float32]

PROMPTS = [[5, 6, 7, 200, 11], [300, 4, 17, 17, 90, 31, 8, 250, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70], [9]]
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, detokenize=False)
TOLERANCE = 5e-4
"""Of logits over the largest: two backends round float32 sums differently, and then a 16-bit code here and there."""

PLAIN_OPS = [
    "embedding", "kv_write", "linear", "paged_attention", "rms_norm", "rope_table", "take_rows", "vocab_topk",
]  # fmt: skip
FUSED_OPS = ["gated_linear", "multi_linear", "norm_add_rms_norm", "norm_rope"]
"""Each has plain ops of the same device to fall back to: without it nothing leaves the device."""


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model("gemma3", tmp_path_factory.mktemp("random") / "gemma3.gguf")


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


@pytest.fixture(scope="module")
def baseline(model_path: Path) -> Baseline:
    return Baseline(model_path)


def fallback_of(op: str) -> LedgerRow:
    (row,) = (row for row in px.explain().fallbacks if row.op == op)
    return row


def test_baseline_says_something(baseline: Baseline) -> None:
    """Tokens that hardly vary could agree by chance."""
    assert len({token for tokens in baseline.tokens for token in tokens}) > 12


@pytest.mark.parametrize(("max_num_seqs", "num_requests"), [(1, 1), (3, 3), (8, 7), (32, 20), (70, 66)])
@pytest.mark.parametrize("reported", [{}, {"logprobs": 3}, {"prompt_logprobs": 2}], ids=["none", "output", "prompt"])
def test_no_mixture_of_requests_needs_a_fallback(
    reported: dict[str, int], max_num_seqs: int, num_requests: int, model_path: Path
) -> None:
    llm = make_llm(model_path, fallback="error", max_num_seqs=max_num_seqs)
    prompts = [TokensPrompt(prompt_token_ids=[5, 6, 7 + number]) for number in range(num_requests)]
    params = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=3, ignore_eos=True, detokenize=False, **reported)  # type: ignore[arg-type]
    llm.generate(prompts, params, use_tqdm=False)
    assert {row.ran_on for row in px.explain().rows} == {"cpu:0"}


# ---- a kernel is disabled by a setting


@pytest.mark.parametrize("op", PLAIN_OPS)
def test_a_disabled_kernel_runs_on_numpy(
    op: str, baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    reason = f"cpu:{op} is disabled by PERFXAPI_DISABLE_KERNELS"
    with pytest.warns(FallbackWarning, match=f"device 'cpu:0': {op}: {reason}. The work runs on numpy:0"):
        baseline.assert_met_by(make_llm(model_path))
    row = fallback_of(op)
    assert (row.device, row.ran_on, row.reason) == ("cpu:0", "numpy:0", reason)
    assert row.count >= len(baseline.tokens[0])
    assert row.bytes_moved == 0  # both compute in the memory of the host
    assert reason in str(px.explain())


@pytest.mark.parametrize("op", PLAIN_OPS)
def test_with_error_a_disabled_kernel_raises(
    op: str, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    with pytest.raises(FallbackError, match=f"device 'cpu:0': {op}: .*PERFXAPI_DISABLE_KERNELS"):
        tokens_of(make_llm(model_path, fallback="error"))


@pytest.mark.parametrize("op", FUSED_OPS)
def test_without_a_fused_kernel_its_parts_run_on_the_same_device(
    op: str, baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    baseline.assert_met_by(make_llm(model_path, fallback="error"))
    assert op not in {row.op for row in px.explain().rows}


def test_every_op_of_a_decode_step_is_tried_above(baseline: Baseline, model_path: Path) -> None:
    tokens_of(make_llm(model_path))
    assert {row.op for row in px.explain().rows} == {*PLAIN_OPS, *FUSED_OPS}


def sampled(llm: LLM) -> list[tuple[list[int], list[list[int]]]]:
    """Tokens drawn with every kind of adjustment, and the ids that were reported beside each."""
    params = SamplingParams(
        seed=7, temperature=0.9, top_p=0.95, top_k=50, min_p=0.01, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=0.1, logit_bias={8: 1.5}, logprobs=3, max_tokens=8, ignore_eos=True, detokenize=False,
    )  # fmt: skip
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in PROMPTS]
    completions = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [(one.token_ids, [list(position) for position in one.logprobs or ()]) for one in completions]


@pytest.mark.parametrize("op", ["adjust_logits", "logsumexp", "sample", "take_rows", "topk"])
def test_a_disabled_kernel_of_sampling_runs_on_numpy(
    op: str, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    expected = sampled(make_llm(model_path, fallback="error"))
    px.reset_explain()
    set_setting("DISABLE_KERNELS", f"cpu:{op}")
    assert sampled(make_llm(model_path, fallback="allow")) == expected
    assert {row.op for row in px.explain().fallbacks} == {op}
    assert fallback_of(op).ran_on == "numpy:0"
    with pytest.raises(FallbackError, match=f"device 'cpu:0': {op}: "):
        sampled(make_llm(model_path, fallback="error"))


def test_all_kernels_disabled(baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]) -> None:
    set_setting("DISABLE_KERNELS", "cpu:*")
    baseline.assert_met_by(make_llm(model_path, fallback="allow"))
    assert {row.ran_on for row in px.explain().rows} == {"numpy:0"}


# ---- a kernel fails while it runs


class FailingKernel(ReferenceKernel):
    """Fails at one launch."""

    def __init__(self, op: str, at: int, error: Exception) -> None:
        super().__init__(px.ops.op_spec(op))
        self.at, self.error, self.num_launches = at, error, 0

    def launch(self, call: OpCall) -> None:
        self.num_launches += 1
        if self.num_launches == self.at:
            raise self.error
        super().launch(call)


class Plugin(Backend):
    """A stranger's backend: one kernel for host memory, before that of `cpu`."""

    name = "stranger"

    def __init__(self, kernel: FailingKernel) -> None:
        self.kernel = kernel

    def kernels(self, op: str) -> Sequence[Kernel]:
        return (self.kernel,) if op == self.kernel.op else ()


@pytest.fixture
def stranger() -> Iterator[Callable[[FailingKernel], None]]:
    def install(kernel: FailingKernel) -> None:
        backend = Plugin(kernel)
        REGISTRY.entries()
        manifest = BackendManifest("stranger", lambda: backend, priority=200, joins="host")
        REGISTRY.register(manifest, "perfxapi-backend-stranger")

    yield install
    REGISTRY.unregister("stranger")


@pytest.mark.parametrize("error", [KernelError("out of registers"), ZeroDivisionError("oops")])
@pytest.mark.parametrize("op", ["linear", "paged_attention", "kv_write"])
def test_a_plugins_kernel_raises_in_mid_run(
    op: str,
    error: Exception,
    baseline: Baseline,
    model_path: Path,
    stranger: Callable[[FailingKernel], None],
) -> None:
    kernel = FailingKernel(op, at=10, error=error)
    stranger(kernel)
    with pytest.warns(FallbackWarning, match=f"{op}: .*{error}. The work runs on cpu:0"):
        assert tokens_of(make_llm(model_path)) == baseline.tokens
    assert kernel.num_launches > 10, "it is tried again: one failure says nothing of the next call"
    row = fallback_of(op)
    assert (row.device, row.ran_on, row.count) == ("cpu:0", "cpu:0", 1)
    assert str(error) in row.reason


def test_with_error_a_plugins_kernel_that_raises_ends_the_request(
    baseline: Baseline, model_path: Path, stranger: Callable[[FailingKernel], None]
) -> None:
    stranger(FailingKernel("linear", at=10, error=KernelError("out of registers")))
    llm = make_llm(model_path, fallback="error")
    with pytest.raises(FallbackError, match="linear: out of registers"):
        tokens_of(llm)
    assert not llm.engine.has_unfinished
    assert llm.engine.scheduler.pool.usage == 0
    assert tokens_of(llm) == baseline.tokens, "the engine serves the next request"


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


OUT_OF_MEMORY, KERNEL_ERROR, DEVICE_LOST = 3, 4, 5


@pytest.fixture
def inject() -> Iterator[Callable[..., Fault]]:
    faults: list[Fault] = []

    def make(op: str, status: int, at: Sequence[int]) -> Fault:
        faults.append(Fault(op, status, at))
        return faults[-1]

    yield make
    for fault in faults:
        fault.remove()


@pytest.mark.parametrize("status", [OUT_OF_MEMORY, KERNEL_ERROR])
@pytest.mark.parametrize("op", ["linear", "paged_attention", "kv_write", "norm_add_rms_norm", "vocab_topk"])
def test_a_native_kernel_fails_inside_a_command_list(
    op: str, status: int, baseline: Baseline, model_path: Path, inject: Callable[..., Fault]
) -> None:
    """The list stops at the node, dispatch runs it, the list goes on; twice in one step, and once later."""
    fault = inject(op, status, at=[2, 3, 6] if op != "vocab_topk" else [2, 3])
    text = {OUT_OF_MEMORY: "out of memory", KERNEL_ERROR: "kernel error"}[status]
    with pytest.warns(FallbackWarning, match=f"device 'cpu:0': {op}: .*{text}. The work runs on numpy:0"):
        assert tokens_of(make_llm(model_path)) == baseline.tokens
    assert fault.num_runs > 10
    row = fallback_of(op)
    assert (row.ran_on, row.count, row.bytes_moved) == ("numpy:0", len(fault.at), 0)
    assert text in row.reason


def test_with_error_a_native_kernel_that_fails_ends_the_request(
    baseline: Baseline, model_path: Path, inject: Callable[..., Fault]
) -> None:
    inject("linear", KERNEL_ERROR, at=[8])
    llm = make_llm(model_path, fallback="error")
    with pytest.raises(FallbackError, match=r"device 'cpu:0': linear: .*kernel error"):
        tokens_of(llm)
    assert tokens_of(llm) == baseline.tokens


# ---- a backend or device that is not there

SCRIPT = """
import json, sys, warnings
import perfxapi as px
from perfxlm import LLM, SamplingParams
path, device, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, detokenize=False)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    llm = LLM(path, device=device, skip_tokenizer_init=True, max_model_len=64)
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
print(json.dumps({
    "tokens": [output.outputs[0].token_ids for output in outputs],
    "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
    "rows": json.loads(px.explain().to_json()),
}))
"""


def run_apart(path: Path, device: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that generates, and prints what came of it."""
    command = [sys.executable, "-c", SCRIPT, str(path), device, json.dumps(PROMPTS)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_the_cpu_backend_the_reference_serves(device: str, baseline: Baseline, model_path: Path) -> None:
    done = run_apart(model_path, device, PERFXAPI_PLUGINS="")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tokens"] == baseline.tokens
    (warning,) = found["warnings"]
    assert warning.startswith(f"FallbackWarning: device {device!r}: PERFXAPI_PLUGINS does not name its plugin")
    assert {row["ran_on"] for row in found["rows"]} == {"numpy:0"}
    (row,) = (row for row in found["rows"] if row["reason"])
    assert (row["op"], row["device"], row["reason"]) == (
        "(device)",
        device,
        "PERFXAPI_PLUGINS does not name its plugin",
    )


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_with_error_a_missing_backend_raises(device: str, model_path: Path) -> None:
    done = run_apart(model_path, device, PERFXAPI_PLUGINS="", PERFXAPI_FALLBACK="error")
    assert done.returncode != 0
    assert f"DeviceUnavailableError: device {device!r}: PERFXAPI_PLUGINS does not name its plugin" in done.stderr


def test_a_device_that_is_not_there_is_served_by_the_cpu(baseline: Baseline, model_path: Path) -> None:
    with pytest.warns(FallbackWarning, match="pip install perfxapi-backend-opencl.* The work runs on cpu:0"):
        llm = make_llm(model_path, "opencl")
    with px.use_device(fallback="allow"):
        baseline.assert_met_by(llm)
    assert str(llm.engine.runner.device) == "cpu:0"
    row = fallback_of("(device)")
    assert (row.device, row.ran_on) == ("opencl", "cpu:0")
    assert "no backend for 'opencl' is installed" in row.reason
    assert {row.ran_on for row in px.explain().rows} == {"cpu:0"}


def test_a_device_that_is_not_there_warns_once(model_path: Path) -> None:
    with pytest.warns(FallbackWarning) as caught:
        tokens_of(make_llm(model_path, "opencl"))
    assert len(caught) == 1


def test_with_error_a_device_that_is_not_there_raises(model_path: Path) -> None:
    with pytest.raises(DeviceUnavailableError, match="pip install perfxapi-backend-opencl"):
        make_llm(model_path, "opencl", fallback="error")


def test_a_misspelled_device_raises_whatever_the_policy(model_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'opencll'\. Did you mean 'opencl'\?"):
        make_llm(model_path, "opencll", fallback="allow")


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_the_device_of_the_environment_or_of_a_context_is_used(
    name: str, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DEVICE", name)
    assert str(make_llm(model_path, "auto").engine.runner.device) == f"{name}:0"
    set_setting("DEVICE", "auto")
    with px.use_device(name):
        assert str(make_llm(model_path, "auto").engine.runner.device) == f"{name}:0"


def test_a_device_that_the_environment_names_is_not_there(
    baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DEVICE", "opencl")
    with pytest.warns(FallbackWarning, match="device 'opencl': .*pip install perfxapi-backend-opencl"):
        assert tokens_of(make_llm(model_path, "auto")) == baseline.tokens


# ---- a device is lost


@pytest.fixture
def restore_devices() -> Iterator[None]:
    """Lost devices are lost for the life of the process: this test's are put back."""
    device = px.get_device("cpu")
    yield
    REGISTRY.restore(device)


def test_a_loss_inside_a_command_list_moves_on(
    baseline: Baseline, model_path: Path, inject: Callable[..., Fault], restore_devices: None
) -> None:
    inject("paged_attention", DEVICE_LOST, at=[14])
    llm = make_llm(model_path)
    with pytest.warns(FallbackWarning, match=r"device 'cpu:0': cpu:0 was lost .* The work runs on numpy:0"):
        assert tokens_of(llm) == baseline.tokens
    assert llm.engine.metrics.num_device_losses == 1
    assert str(llm.engine.runner.device) == "numpy:0"
    row = fallback_of("(device)")
    assert (row.device, row.ran_on) == ("cpu:0", "numpy:0")
    assert "paged_attention" in row.reason


def test_with_error_a_loss_raises(model_path: Path, inject: Callable[..., Fault], restore_devices: None) -> None:
    inject("paged_attention", DEVICE_LOST, at=[14])
    with pytest.raises(DeviceUnavailableError, match="cpu:0 was lost"):
        tokens_of(make_llm(model_path, fallback="error"))


# ---- a device with memory of its own


def test_a_simulated_device_serves_the_model(baseline: Baseline, model_path: Path, sim: SimulatedBackend) -> None:
    baseline.assert_met_by(make_llm(model_path, "sim", fallback="error"))
    assert {row.ran_on for row in px.explain().rows} == {"sim:0"}


@pytest.mark.parametrize("op", ["linear", "paged_attention", "kv_write", "rms_norm"])
def test_bytes_that_a_fallback_moves_are_named(
    op: str, baseline: Baseline, model_path: Path, sim: SimulatedBackend
) -> None:
    del sim.table[op]
    with pytest.warns(FallbackWarning, match=f"device 'sim:0': {op}: sim has no kernel for {op}. The work runs on"):
        assert tokens_of(make_llm(model_path, "sim")) == baseline.tokens
    row = fallback_of(op)
    assert row.bytes_moved > 0
    assert f" {row.bytes_moved} " in str(px.explain())


def test_a_device_with_its_own_memory_is_lost(baseline: Baseline, model_path: Path, sim: SimulatedBackend) -> None:
    """The KV cache is gone with it: the tokens so far are computed again elsewhere, and the rest follows."""
    kernel = sim.kernel("gated_linear")
    llm = make_llm(model_path, "sim", fallback="allow")
    original = kernel.launch

    def launch(call: OpCall) -> None:
        if kernel.num_launches == 16:
            kernel.raises = DeviceLostError("the bus is gone")
        original(call)

    kernel.launch = launch  # type: ignore[method-assign]
    assert tokens_of(llm) == baseline.tokens
    assert llm.engine.metrics.num_device_losses == 1
    assert str(llm.engine.runner.device) == str(px.get_device("auto"))
    assert "the bus is gone" in fallback_of("(device)").reason


# ---- the real model


@pytest.mark.model
def test_the_real_model_goes_on(
    gemma_path: Path, inject: Callable[..., Fault], set_setting: Callable[[str, str], None]
) -> None:
    """Attention on NumPy throughout, and a product that fails in mid-run: the text is that of Transformers."""
    data = Path(__file__).parent.parent / "data" / "gemma3-270m-reference.json"
    stored = json.loads(data.read_text(encoding="utf-8"))[0]
    set_setting("DISABLE_KERNELS", "cpu:paged_attention")
    inject("gated_linear", KERNEL_ERROR, at=[100])
    params = SamplingParams(temperature=0.0, max_tokens=40)
    with pytest.warns(FallbackWarning, match="paged_attention.*DISABLE_KERNELS|gated_linear.*kernel error"):
        llm = LLM(gemma_path, device="cpu", max_model_len=64)
        (output,) = llm.generate(stored["prompt"], params, use_tqdm=False)
    assert output.outputs[0].text == stored["continuation"]
    rows = {row.op: row for row in px.explain().fallbacks}
    assert rows.keys() == {"paged_attention", "gated_linear"}
    assert rows["paged_attention"].count == 18 * 40
    assert rows["gated_linear"].count == 1
