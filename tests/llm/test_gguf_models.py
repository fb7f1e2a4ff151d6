"""The same small models, converted to GGUF, give the logits that Transformers computes for the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import write_gguf
from stepper import Stepper
from test_transformers_parity import TINY, TOLERANCE, Floats, Tokens, golden

from perfxapi.errors import FileFormatError
from perfxlm.fields import UnsupportedModelError
from perfxlm.layers.base import ModelOptions
from perfxlm.weights.loader import open_model

LINEAR = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64}


SOFTCAP = {"final_logit_softcapping": 5.0, "attention.sliding_window_pattern": 2}


def logits(path: Path, tokens: Tokens, options: ModelOptions | None = None) -> Floats:
    """Of one prompt, all in one step, on the NumPy reference."""
    model = open_model(path).build(options)
    (rows,) = Stepper(model, "numpy", num_requests=1, max_len=len(tokens))([(0, tokens)])
    return rows


@pytest.mark.parametrize(
    ("name", "extra"),
    [("llama2", {}), ("llama-linear", LINEAR), ("llama3", {}), ("qwen3-yarn", YARN), ("gemma3", {})],
)
def test_logits(tmp_path: Path, name: str, extra: dict[str, Any]) -> None:
    write_gguf(TINY / name, tmp_path / "model.gguf", extra=extra)
    tokens, expected = golden(name)
    difference = np.abs(logits(tmp_path / "model.gguf", tokens[0]) - expected[0]).max()
    assert difference <= TOLERANCE * np.abs(expected[0]).max()


def test_gemma_keys_beyond_the_usual(tmp_path: Path) -> None:
    """The soft cap and the period of the window, as HuggingFace's configuration of the same model has them."""
    write_gguf(TINY / "gemma3-softcap", tmp_path / "model.gguf", extra=SOFTCAP)
    config = open_model(tmp_path / "model.gguf").config
    assert config.logit_softcap == 5.0
    assert config.windows == open_model(TINY / "gemma3-softcap").config.windows == (24, 0, 24, 0)


def test_quantized_weights_stay_near_the_float_model(tmp_path: Path) -> None:
    """The error of int16 activations is a small part of what rounding the weights to 8 bits costs."""
    write_gguf(TINY / "qwen3-yarn", tmp_path / "model.gguf", extra=YARN, quantize=True)
    tokens, expected = golden("qwen3-yarn")
    exact = logits(tmp_path / "model.gguf", tokens[0], ModelOptions(activation_format="float32"))
    got = logits(tmp_path / "model.gguf", tokens[0], ModelOptions(activation_format="int16"))
    of_weights = np.abs(exact - expected[0]).max()
    assert 1e-3 < of_weights < 0.15 * np.abs(expected[0]).max()
    assert np.abs(got - exact).max() < 0.02 * of_weights


def test_stored_names_and_end_of_text(tmp_path: Path) -> None:
    write_gguf(TINY / "llama2", tmp_path / "model.gguf")
    files = open_model(tmp_path)  # the folder's only model
    assert files.path == tmp_path / "model.gguf"
    assert (files.architecture, files.config.rope_interleaved, files.config.tied_embeddings) == ("llama", True, False)
    assert files.generation.eos_token_ids == (2,)


def test_a_folder_of_several_models_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(TINY / "llama2", tmp_path / name)
    with pytest.raises(FileFormatError, match=r"name one of a\.gguf, b\.gguf"):
        open_model(tmp_path)


def test_a_tensor_that_the_architecture_does_not_know_is_refused(tmp_path: Path) -> None:
    bias = np.ones(32, np.float32)
    write_gguf(TINY / "llama2", tmp_path / "model.gguf", more_tensors={"blk.0.attn_q.bias": bias})
    with pytest.raises(UnsupportedModelError, match=r"blk\.0\.attn_q\.bias"):
        open_model(tmp_path / "model.gguf").build()
