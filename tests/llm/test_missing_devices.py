"""What happens to a request when a backend or a device is not there, is lost, or has a memory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fallback_helpers import (
    DEVICE_LOST,
    PROMPTS,
    Baseline,
    Fault,
    fallback_of,
    make_llm,
    tokens_of,
)
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY, OpCall
from perfxapi.errors import (
    DeviceLostError,
    DeviceUnavailableError,
    FallbackWarning,
    UnknownNameError,
)

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


def test_a_device_that_is_not_there_is_served_by_the_cpu(absent: str, baseline: Baseline, model_path: Path) -> None:
    with pytest.warns(FallbackWarning, match="pip install perfxapi-backend-absent.* The work runs on cpu:0"):
        llm = make_llm(model_path, absent)
    with px.use_device(fallback="allow"):
        baseline.assert_met_by(llm)
    assert str(llm.engine.runner.device) == "cpu:0"
    row = fallback_of("(device)")
    assert (row.device, row.ran_on) == (absent, "cpu:0")
    assert "no backend for 'absent' is installed" in row.reason
    assert {row.ran_on for row in px.explain().rows} == {"cpu:0"}


def test_a_device_that_is_not_there_warns_once(absent: str, model_path: Path) -> None:
    with pytest.warns(FallbackWarning) as caught:
        tokens_of(make_llm(model_path, absent))
    assert len(caught) == 1


def test_with_error_a_device_that_is_not_there_raises(absent: str, model_path: Path) -> None:
    with pytest.raises(DeviceUnavailableError, match="pip install perfxapi-backend-absent"):
        make_llm(model_path, absent, fallback="error")


def test_a_misspelled_device_raises_whatever_the_policy(model_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'riscvv'\. Did you mean 'riscv'\?"):
        make_llm(model_path, "riscvv", fallback="allow")


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
    absent: str, baseline: Baseline, model_path: Path, set_setting: Callable[[str, str], None]
) -> None:
    set_setting("DEVICE", absent)
    with pytest.warns(FallbackWarning, match="device 'absent': .*pip install perfxapi-backend-absent"):
        assert tokens_of(make_llm(model_path, "auto")) == baseline.tokens


# ---- a device is lost


@pytest.fixture
def restore_devices() -> Iterator[None]:
    """Lost devices are lost for the life of the process: this test's are put back."""
    devices = px.all_devices()
    yield
    for device in devices:
        REGISTRY.restore(device)


def test_a_loss_inside_a_command_list_moves_on(
    baseline: Baseline, model_path: Path, inject: Callable[..., Fault], restore_devices: None
) -> None:
    for device in px.all_devices():
        if device.memory_space != "host":
            REGISTRY.mark_lost(device, "for this test")
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
    with pytest.raises(DeviceLostError, match="paged_attention"):
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
