"""AWQ checkpoints: the matrices against a plain reading of the format, and a model against its float32 twin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from awq_folder import CONFIG, HIDDEN, INTERMEDIATE, QUANTIZATION, dequantized, random_awq, write_folders
from safetensors.numpy import load_file, save_file

import perfxapi as px
from perfxapi import quantization
from perfxlm import LLM, SamplingParams
from perfxlm.fields import ConfigError, UnsupportedModelError
from perfxlm.weights import SafetensorsFile
from perfxlm.weights.awq import AWQTensor, awq_tensors
from perfxlm.weights.loader import open_model

GATE = "model.layers.0.mlp.gate_proj"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(("rows", "columns"), [(8, 128), (24, 256), (264, 384), (520, 128)])
def test_rows_are_the_weights_without_loss(tmp_path: Path, rows: int, columns: int) -> None:
    parts = random_awq(np.random.default_rng(rows), rows, columns)
    parts = {kind: np.ascontiguousarray(part) for kind, part in parts.items()}
    save_file(
        {f"m.{kind}": part for kind, part in parts.items()} | {"m.other": np.zeros(3)}, tmp_path / "x.safetensors"
    )
    stored = awq_tensors("x", SafetensorsFile.open(tmp_path / "x.safetensors").tensors)
    assert sorted(stored) == ["m.other", "m.weight"]
    tensor = stored["m.weight"]
    assert isinstance(tensor, AWQTensor)
    assert (tensor.shape, tensor.dtype) == ((rows, columns), px.int4_g128)
    np.testing.assert_array_equal(quantization.dequantize(tensor.raw_rows(), tensor.dtype), dequantized(parts))


def test_a_model_gives_the_logprobs_of_its_float32_twin(folders: tuple[Path, Path]) -> None:
    prompt = {"prompt_token_ids": [5, 17, 99, 3, 140, 22, 8]}
    params = SamplingParams(temperature=0, max_tokens=5, logprobs=5, ignore_eos=True, detokenize=False)
    results = []
    for folder in folders:
        llm = LLM(str(folder), skip_tokenizer_init=True, max_model_len=64)
        [output] = llm.generate([prompt], params, use_tqdm=False)
        results.append(output.outputs[0])
        assert llm.plan.options.kv_dtype is (px.float16 if folder == folders[0] else px.float32)
    assert results[0].token_ids == results[1].token_ids
    for ours, expected in zip(results[0].logprobs or [], results[1].logprobs or [], strict=True):
        assert ours.keys() == expected.keys()
        for token, entry in ours.items():
            assert abs(entry.logprob - expected[token].logprob) < 2e-3


@pytest.mark.parametrize(
    "change", [{"bits": 8}, {"group_size": 64}, {"group_size": -1}, {"zero_point": False}, {"version": "gemv"}]
)
def test_other_quantization_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": QUANTIZATION | change}))
    with pytest.raises(UnsupportedModelError, match=next(iter(change))):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("scales", None, "missing"),
        ("scales", np.ones((2, INTERMEDIATE), np.float32), r"float16 \(2, 384\) is expected; got float32"),
        ("qzeros", np.zeros((1, INTERMEDIATE // 8), np.int32), r"\(2, 48\) is expected; got int32 \(1, 48\)"),
        ("qweight", np.zeros((HIDDEN - 1, INTERMEDIATE // 8), np.int32), "columns in 128s"),
        ("qweight", np.zeros((HIDDEN, INTERMEDIATE // 8), np.int16), "int32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, folders: tuple[Path, Path], kind: str, values: np.ndarray | None, problem: str
) -> None:
    tensors = load_file(folders[0] / "model.safetensors")
    del tensors[f"{GATE}.{kind}"]
    if values is not None:
        tensors[f"{GATE}.{kind}"] = values
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders[0] / "config.json").read_text())
    with pytest.raises(ConfigError, match=rf"{GATE}\.{kind}: .*{problem}"):
        open_model(tmp_path)
