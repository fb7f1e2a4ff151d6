"""The real Gemma 3 270M against Transformers in float32 on the same weights (tests/golden/make_gemma3_goldens.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from stepper import Stepper

from perfxlm.layers.base import ModelOptions
from perfxlm.weights.loader import open_model

GOLDEN = Path(__file__).parent.parent / "data" / "gemma3-270m-f32.npz"
SMALLEST = 1e-12

Floats = npt.NDArray[np.float64]


def divergence(logits: npt.NDArray[np.float32], top_ids: npt.NDArray[np.int32], top_logprobs: Floats) -> Floats:
    """KL divergence from the reference at each position, over the stored tokens and one bucket for all others."""
    shifted = logits - logits.max(-1, keepdims=True).astype(np.float64)
    logprobs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    got = np.take_along_axis(logprobs, top_ids, -1)
    rest, rest_got = (np.maximum(1 - np.exp(values).sum(-1), SMALLEST) for values in (top_logprobs, got))
    kl: Floats = (np.exp(top_logprobs) * (top_logprobs - got)).sum(-1) + rest * np.log(rest / rest_got)
    return kl


@pytest.mark.model
@pytest.mark.parametrize(("activation_format", "mean", "largest"), [("int16", 1e-6, 1e-5), ("int8", 2e-2, 2e-1)])
def test_divergence_from_float32(gemma_path: Path, activation_format: str, mean: float, largest: float) -> None:
    """int16 activations are as good as float32; int8 may cost what they cost elsewhere."""
    model = open_model(gemma_path).build(ModelOptions(activation_format=activation_format))
    step = Stepper(model, "cpu", num_requests=2, max_len=64)
    with np.load(GOLDEN) as golden:
        names = ["story", "code"]
        chunks = [(request, golden[f"{name}_ids"]) for request, name in enumerate(names)]
        for name, logits in zip(names, step(chunks), strict=True):
            top_ids = golden[f"{name}_top_ids"]
            kl = divergence(logits, top_ids, golden[f"{name}_top_logprobs"].astype(np.float64))
            assert kl.mean() < mean
            assert kl.max() < largest
            if activation_format == "int16":
                np.testing.assert_array_equal(logits.argmax(-1), top_ids[:, 0])
