"""TokenLogprobs: what a dict of Logprob objects would hold, from two arrays."""

from __future__ import annotations

import numpy as np
import pytest

from perfxlm.outputs import Logprob, TokenLogprobs


def make(ids: list[int], logprobs: list[float], rank: int) -> TokenLogprobs:
    return TokenLogprobs(np.array(ids, np.int32), np.array(logprobs, np.float32), rank, lambda token: f"<{token}>")


def test_own_token_comes_first_and_once() -> None:
    among = make([7, 3, 7, 9], [-1.0, -0.5, -1.0, -2.0], rank=2)
    assert list(among) == [7, 3, 9]
    assert among == {7: Logprob(-1.0, 2, "<7>"), 3: Logprob(-0.5, 1, "<3>"), 9: Logprob(-2.0, 3, "<9>")}


def test_own_token_beyond_the_likeliest() -> None:
    beyond = make([7, 3, 9], [-8.0, -0.5, -2.0], rank=100)
    assert {token: entry.rank for token, entry in beyond.items()} == {7: 100, 3: 1, 9: 2}
    assert len(beyond) == 3
    assert 3 in beyond
    assert 4 not in beyond
    with pytest.raises(KeyError):
        _ = beyond[4]


def test_likeliest_token_is_its_own() -> None:
    assert {token: entry.rank for token, entry in make([3, 3, 9], [-0.1, -0.1, -3.0], rank=1).items()} == {3: 1, 9: 2}


def test_alone_and_without_text() -> None:
    alone = TokenLogprobs(np.array([5], np.int32), np.array([-0.25], np.float32), 4)
    assert dict(alone) == {5: Logprob(-0.25, 4, None)}
    assert repr(alone) == "{5: Logprob(logprob=-0.25, rank=4, decoded_token=None)}"
    assert alone != {5: Logprob(-0.25, 3, None)}
