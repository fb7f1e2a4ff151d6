"""The exact screen of the vocabulary on the real Gemma 3 270M: the same tokens as from full logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from stepper import Stepper

import perfxapi as px
from perfxlm import LLM
from perfxlm.layers.base import ModelOptions
from perfxlm.layers.decoder import Decoder
from perfxlm.weights.loader import open_model

TEXT = Path(__file__).parent.parent / "data" / "varied_text.txt"
NUM_POSITIONS, CHUNK, TOP = 2000, 125, 20

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model(gemma_path: Path) -> Decoder:
    return open_model(gemma_path).build(ModelOptions())


@pytest.fixture(scope="module")
def hidden(gemma_path: Path, model: Decoder) -> Floats:
    """Last hidden states [NUM_POSITIONS, hidden_size] of prose, code and tables in eight languages."""
    tokenizer = LLM(gemma_path, device="cpu", max_model_len=64).get_tokenizer()
    token_ids = np.array(tokenizer.encode(TEXT.read_text(encoding="utf-8"))[:NUM_POSITIONS], np.int32)
    step = Stepper(model, "cpu", num_requests=1, max_len=NUM_POSITIONS, max_tokens=CHUNK, hidden_only=True)
    return np.concatenate([step([(0, chunk)])[0] for chunk in np.split(token_ids, NUM_POSITIONS // CHUNK)])


def compiled(model: Decoder, num_rows: int, k: int) -> px.graph.Executable:
    """The k likeliest tokens of a row (k = 0: its logits)."""

    def run(x: px.Array) -> dict[str, px.Array]:
        if not k:
            return {"logits": px.nn.linear(x, model.head, activation_format="int16")}
        values, indices = px.nn.vocab_topk(x, model.head, k=k, activation_format="int16", softcap=0.0)
        return {"values": values, "indices": indices}

    specs = {"x": px.TensorSpec((px.Dim("num_rows"), model.hidden_size), px.float32)}
    device = px.get_device("cpu")
    return px.graph.compile(px.graph.trace(run, specs, device=device), device=device, bounds={"num_rows": num_rows})


def test_the_same_tokens_as_from_full_logits(model: Decoder, hidden: Floats) -> None:
    all_logits, greedy, likeliest = compiled(model, CHUNK, 0), compiled(model, 1, 1), compiled(model, 4, TOP)
    for start in range(0, NUM_POSITIONS, CHUNK):
        logits = np.asarray(all_logits(x=hidden[start : start + CHUNK])["logits"])
        first = np.argmax(logits, axis=1)
        for row in range(CHUNK):
            found = greedy(x=hidden[start + row : start + row + 1])
            assert int(np.asarray(found["indices"])[0, 0]) == first[row]
            assert np.asarray(found["values"])[0, 0] == logits[row, first[row]]
        for row in range(0, CHUNK, 25):
            found = likeliest(x=hidden[start + row : start + row + 4])
            rows = logits[row : row + 4]
            expected = np.argsort(-rows, axis=1, kind="stable")[:, :TOP]
            assert np.array_equal(np.asarray(found["indices"]), expected)
            assert np.array_equal(np.asarray(found["values"]), np.take_along_axis(rows, expected, axis=1))
