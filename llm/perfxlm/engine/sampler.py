"""The sampler: from a step's last hidden states to its next tokens, as ops of the step's graph.

What those ops are given for each request, its random numbers above all, is made in `sampling_inputs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxlm.engine.request import Request
from perfxlm.layers.decoder import Decoder
from perfxlm.outputs import TokenLogprobs

_SAMPLING_DTYPES = {
    "temperature": px.float32,
    "top_k": px.int32,
    "top_p": px.float32,
    "min_p": px.float32,
    "uniform": px.float32,
    "repetition": px.float32,
    "frequency": px.float32,
    "presence": px.float32,
}
_ADJUST_OPERANDS = (
    "counted_ids", "starts", "output_counts", "repetition", "frequency", "presence",
    "bias_rows", "bias_ids", "bias_values",
)  # fmt: skip
SAMPLE_OPERANDS = ("temperature", "top_k", "top_p", "min_p", "uniform")
"""What the op `sample` takes beside logits."""


class Head(NamedTuple):
    """What follows the last hidden state: the likeliest token alone, or all logits, adjusted and sampled.

    With `num_candidates` only that many of the largest logits are sampled from. With `num_logprobs` the raw logits are
    kept for reports, with that many likeliest tokens.
    """

    is_greedy: bool
    num_logprobs: int | None = None
    num_candidates: int | None = None

    @property
    def has_logits(self) -> bool:
        """Whether all logits are computed."""
        return not self.is_greedy and self.num_candidates is None


GREEDY = Head(is_greedy=True)
SAMPLED = Head(is_greedy=False)


def sample_tokens(model: Decoder, head: Head, rows: px.Array, arrays: Mapping[str, px.Array]) -> dict[str, px.Array]:
    """Traced: from hidden states [num_outputs, hidden_size] to `ids`, and what reports of log-probabilities need."""
    if not head.has_logits:
        activation_format = model.options.activation_format if model.head.dtype.is_quantized else "float32"
        values, ids = px.nn.vocab_topk(
            rows,
            model.head,
            k=head.num_candidates or 1,
            activation_format=activation_format,
            softcap=model.logit_softcap,
        )
        if head.is_greedy:
            return {"ids": ids}
        return {"candidates": ids, "places": px.nn.sample(values, *(arrays[name] for name in SAMPLE_OPERANDS))}
    raw = model.logits(rows)
    outputs: dict[str, px.Array] = {}
    if head.num_logprobs is not None:
        outputs.update(logits=raw, logsumexp=px.nn.logsumexp(raw))
        if head.num_logprobs:
            outputs["top_ids"] = px.nn.topk(raw, k=head.num_logprobs)[1]
    # logits are adjusted in place: where raw ones are reported too, in a copy
    logits = raw if head.num_logprobs is None else px.nn.take_rows(raw, arrays["sample_rows"])
    px.nn.adjust_logits(logits, *(arrays[name] for name in _ADJUST_OPERANDS))
    outputs["ids"] = px.nn.sample(logits, *(arrays[name] for name in SAMPLE_OPERANDS))
    return outputs


def sampled_ids(outputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int32]:
    """The tokens of a step, one for each row."""
    if "ids" in outputs:
        return outputs["ids"].ravel()
    return np.take_along_axis(outputs["candidates"], outputs["places"][:, None], axis=1).ravel()


def sampling_specs(head: Head) -> dict[str, px.TensorSpec]:
    """Operands of the sampling ops. Where no raw logits are reported, every row of logits is sampled."""
    if head.is_greedy:
        return {}
    samples = px.Dim("num_outputs" if head.num_logprobs is None else "num_samples")
    if not head.has_logits:
        return {name: px.TensorSpec((samples,), _SAMPLING_DTYPES[name]) for name in SAMPLE_OPERANDS}
    counted, biases = px.Dim("num_counted"), px.Dim("num_biases")
    specs = {name: px.TensorSpec((samples,), dtype) for name, dtype in _SAMPLING_DTYPES.items()}
    if head.num_logprobs is not None:
        specs["sample_rows"] = px.TensorSpec((samples,), px.int32)
    specs["starts"] = px.TensorSpec((px.Dim("num_samples_plus_one"),), px.int32)
    specs.update({name: px.TensorSpec((counted,), px.int32) for name in ("counted_ids", "output_counts")})
    specs.update({name: px.TensorSpec((biases,), px.int32) for name in ("bias_rows", "bias_ids")})
    specs["bias_values"] = px.TensorSpec((biases,), px.float32)
    return specs


@dataclass(frozen=True, slots=True)
class LogitRows:
    """Raw logits of a step's rows, their log-sum-exp, and the likeliest tokens where a few are wanted."""

    logits: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float32]
    top_ids: npt.NDArray[np.int32] | None

    def logprobs(self, row: int, token_id: int, count: int, request: Request) -> TokenLogprobs:
        """The token at this row and the `count` likeliest ones. The rank counts the tokens that are likelier."""
        logits = self.logits[row]
        rank = int(np.count_nonzero(logits > logits[token_id])) + 1
        ids = np.empty(count + 1, np.int32)
        ids[0], ids[1:] = token_id, self._likeliest(row, count)
        return TokenLogprobs(ids, logits[ids] - self.logsumexp[row], rank, request.decode_token)

    def _likeliest(self, row: int, count: int) -> npt.NDArray[np.int32]:
        if self.top_ids is not None and count <= self.top_ids.shape[1]:
            return self.top_ids[row, :count]
        order: npt.NDArray[np.int32] = np.argsort(-self.logits[row], kind="stable")[:count].astype(np.int32)
        return order
