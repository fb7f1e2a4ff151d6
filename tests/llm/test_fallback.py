"""A request completes whatever is missing, with the same tokens, and what stood in is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import greedy, prompt, tokens_of

import perfxapi as px
from perfxlm import LLM, TokensPrompt

# Each runs in a process of its own: settings are read once.
PROGRAM = """
import json, sys, warnings
import perfxapi as px
from perfxlm import LLM, SamplingParams
options = json.loads(sys.argv[2])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    llm = LLM(sys.argv[1], max_model_len=64, **options)
    params = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=0)
    (output,) = llm.generate("some text", params)
print(json.dumps({
    "tokens": output.outputs[0].token_ids,
    "logprob": output.outputs[0].cumulative_logprob,
    "device": str(llm.engine.runner.device),
    "explain": json.loads(px.explain().to_json()),
    "warnings": [str(each.message) for each in caught if issubclass(each.category, px.errors.FallbackWarning)],
}))
"""


def generate(model: Path, settings: dict[str, str], **options: Any) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PERFXAPI_")}
    command = [sys.executable, "-c", PROGRAM, str(model), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **settings}, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> dict[str, Any]:
    result = generate(tiny_model, {}, device="cpu")
    assert result["device"] == "cpu:0"
    assert result["warnings"] == []
    return result


def assert_same_answer(result: dict[str, Any], expected: dict[str, Any]) -> None:
    assert result["tokens"] == expected["tokens"]
    assert result["logprob"] == pytest.approx(expected["logprob"], abs=1e-3)


@pytest.mark.parametrize("op", ["paged_attention", "kv_write", "linear", "rms_norm", "sample"])
def test_disabled_kernel_runs_on_the_reference(tiny_model: Path, expected: dict[str, Any], op: str) -> None:
    result = generate(tiny_model, {"PERFXAPI_DISABLE_KERNELS": f"cpu:{op}"}, device="cpu")
    assert_same_answer(result, expected)
    rows = [row for row in result["explain"] if row["op"] == op]
    assert any("numpy" in json.dumps(row) and "disable" in json.dumps(row).lower() for row in rows)
    assert any(op in warning for warning in result["warnings"])


def test_fallback_can_be_forbidden(tiny_model: Path) -> None:
    environment = {**os.environ, "PERFXAPI_DISABLE_KERNELS": "cpu:paged_attention"}
    command = [sys.executable, "-m", "perfxlm", "run", str(tiny_model), "ab", "--device", "cpu", "--fallback", "error"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert "paged_attention" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_native_backends(tiny_model: Path, expected: dict[str, Any]) -> None:
    """An empty allow-list of plugins leaves the reference backend alone."""
    result = generate(tiny_model, {"PERFXAPI_PLUGINS": ""}, device="auto")
    assert_same_answer(result, expected)
    assert result["device"] == "numpy:0"


def test_missing_device_is_named_with_its_remedy(tiny_model: Path, expected: dict[str, Any]) -> None:
    result = generate(tiny_model, {}, device="opencl")
    assert_same_answer(result, expected)
    assert result["device"] == "cpu:0"
    assert any("pip install perfxapi-backend-opencl" in warning for warning in result["warnings"])


def test_policy_of_the_caller_holds(tiny_model: Path) -> None:
    with px.use_device(fallback="error"), pytest.raises(px.errors.DeviceUnavailableError, match="opencl"):
        LLM(tiny_model, device="opencl")
    # where fallback is allowed, warnings (errors in these tests) are not given
    allowed = LLM(tiny_model, device="opencl", fallback="allow")
    given = TokensPrompt(prompt_token_ids=prompt(5)[0])
    native = LLM(tiny_model, device="cpu")
    assert tokens_of(allowed.generate(given, greedy())) == tokens_of(native.generate(given, greedy()))
