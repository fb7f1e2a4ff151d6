"""From logits to tokens: penalties, top k, log-probabilities, sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.ops.linear import top_k
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    InferFn,
    OpSpec,
    Sample,
    TensorSpec,
    float32_of,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)


def _logsumexp(x: Any) -> Any:
    wide = x.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    return (np.log(np.exp(wide - peak).sum(-1)) + peak[..., 0]).astype(np.float32)


def _log_softmax(x: Any) -> Any:
    wide = x.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))).astype(np.float32)


def _softmax(x: Any) -> Any:
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _row_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(16)
    for rows, columns in ((1, 1), (3, 33), (2, 5000), (1, 17)):
        yield Sample(((4 * rng.standard_normal((rows, columns))).astype(np.float32),), {}, f"{rows} x {columns}")
    yield Sample((np.array([[1, -np.inf, 3], [-np.inf, -np.inf, 0]], np.float32),), {}, "minus infinity")


def _infer_same(name: str) -> InferFn:
    def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
        _check_rows(name, inputs[0])
        return (float32_of(inputs[0].shape),)

    return infer


def _check_rows(op: str, x: TensorSpec) -> None:
    require_kind(op, x, "float")
    require(len(x.shape) > 0, op, "x must have at least one dimension")


def _infer_rows(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    _check_rows("logsumexp", inputs[0])
    return (float32_of(inputs[0].shape[:-1]),)


register_op(OpSpec("softmax", ("x",), _infer_same("softmax"), _softmax, _row_samples))
register_op(OpSpec("log_softmax", ("x",), _infer_same("log_softmax"), _log_softmax, _row_samples))
register_op(OpSpec("logsumexp", ("x",), _infer_rows, _logsumexp, _row_samples))


def _infer_topk(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    _check_rows("topk", inputs[0])
    columns, k = inputs[0].shape[-1], attributes["k"]
    require(isinstance(columns, int) and 1 <= k <= columns, "topk", f"k must lie in 1..{columns}; got {k}")
    shape = (*inputs[0].shape[:-1], k)
    return float32_of(shape), TensorSpec(shape, dtypes.int32)


def _topk_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(17)
    for rows, columns, k in ((1, 1, 1), (3, 33, 33), (2, 5000, 20)):
        yield Sample((rng.standard_normal((rows, columns)).astype(np.float32),), {"k": k}, f"{rows} x {columns}, k {k}")
    yield Sample((np.array([[1, 3, 3, 2, 3, 1]], np.float32),), {"k": 4}, "ties")


register_op(OpSpec("topk", ("x",), _infer_topk, top_k, _topk_samples, (Attribute("k", int),)))


def _adjust_logits(
    logits: Any,
    ids: Any,
    starts: Any,
    output_counts: Any,
    repetition: Any,
    frequency: Any,
    presence: Any,
    bias_rows: Any,
    bias_ids: Any,
    bias_values: Any,
) -> None:
    known = [(logits.shape[1], chosen) for chosen in (ids, bias_ids)] + [(len(logits), bias_rows)]
    fits = all(bool(np.all((chosen >= 0) & (chosen < count))) for count, chosen in known)
    require(fits, "adjust_logits", "an id lies outside the vocabulary, or a row outside the logits")
    whole = len(starts) == 0 or (starts[0] == 0 and starts[-1] <= len(ids) and bool(np.all(np.diff(starts) >= 0)))
    require(whole, "adjust_logits", f"starts {starts.tolist()} do not divide {len(ids)} ids")
    for row in range(len(logits)):
        part = slice(int(starts[row]), int(starts[row + 1]))
        chosen, counts = ids[part], output_counts[part]
        values = logits[row, chosen]
        values = np.where(values > 0, values / repetition[row], values * repetition[row])
        values = values - frequency[row] * counts.astype(np.float32)
        logits[row, chosen] = values - np.where(counts > 0, presence[row], np.float32(0))
    np.add.at(logits, (bias_rows, bias_ids), bias_values)


def _infer_adjust(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    logits, ids, starts, counts, repetition, frequency, presence, bias_rows, bias_ids, bias_values = inputs
    op = "adjust_logits"
    require_indices(op, ids=ids, starts=starts, output_counts=counts, bias_rows=bias_rows, bias_ids=bias_ids)
    require_shape(op, "logits", logits, None, None)
    rows = logits.shape[0]
    require_shape(op, "starts", starts, rows + 1 if isinstance(rows, int) else None)
    for name, spec in (("repetition", repetition), ("frequency", frequency), ("presence", presence)):
        require_shape(op, name, spec, rows)
    require_shape(op, "ids", ids, None)
    require_shape(op, "output_counts", counts, ids.shape[0])
    require_shape(op, "bias_rows", bias_rows, None)
    for name, spec in (("bias_ids", bias_ids), ("bias_values", bias_values)):
        require_shape(op, name, spec, bias_rows.shape[0])
    for spec in (logits, repetition, frequency, presence, bias_values):
        require_kind(op, spec, "float")
    return ()


def _adjust_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(18)
    logits = (3 * rng.standard_normal((2, 50))).astype(np.float32)
    ids, starts = np.array([3, 9, 20, 4, 9], np.int32), np.array([0, 3, 5], np.int32)
    penalties = tuple(np.array(pair, np.float32) for pair in ([1.3, 1.0], [0.2, 0.0], [0.5, 1.5]))
    bias = np.array([0, 1, 1], np.int32), np.array([7, 7, 49], np.int32), np.array([2, -np.inf, 1], np.float32)
    yield Sample((logits, ids, starts, np.array([0, 2, 1, 0, 5], np.int32), *penalties, *bias), {}, "two rows")
    empty = np.zeros(0, np.int32)
    none = (logits.copy(), empty, np.zeros(3, np.int32), empty, *penalties, empty, empty, np.zeros(0, np.float32))
    yield Sample(none, {}, "nothing to do")


_ADJUST_INPUTS = (
    "logits", "ids", "starts", "output_counts", "repetition", "frequency", "presence",
    "bias_rows", "bias_ids", "bias_values",
)  # fmt: skip
register_op(OpSpec("adjust_logits", _ADJUST_INPUTS, _infer_adjust, _adjust_logits, _adjust_samples, mutates=(0,)))


def sampling_weights(logits: Any, temperature: float, top_k_limit: int, top_p: float, min_p: float) -> Any:
    """Unnormalized probabilities (float64) of what survives min_p, top_k and top_p, in that order. temperature > 0."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    weights[weights < min_p] = 0
    if 0 < top_k_limit < len(weights):
        weights[weights < np.partition(weights, -top_k_limit)[-top_k_limit]] = 0
    if top_p < 1:
        order = np.argsort(-weights, kind="stable")
        running = np.cumsum(weights[order])
        keep = int(np.searchsorted(running, top_p * running[-1])) + 1
        weights[order[keep:]] = 0
    return weights


def sampling_order(logits: Any, top_k_limit: int) -> Any:
    """The order in which the tokens of a row share the interval [0, 1) that `uniform` points into.

    With top_k it is that of `topk`, likeliest first, so that sampling from a row's k largest logits alone gives the
    same token; else that of the ids.
    """
    if 0 < top_k_limit < len(logits):
        return np.argsort(-logits, kind="stable")
    return np.arange(len(logits))


def _sample(logits: Any, temperature: Any, limits: Any, top_p: Any, min_p: Any, uniform: Any) -> Any:
    require(bool(np.all(limits >= 0)), "sample", "top_k must not be negative")
    ids = np.zeros(len(logits), np.int32)
    for row in range(len(logits)):
        if temperature[row] == 0:
            ids[row] = np.argmax(logits[row])
            continue
        order = sampling_order(logits[row], int(limits[row]))
        weights = sampling_weights(logits[row][order], temperature[row], int(limits[row]), top_p[row], min_p[row])
        running = np.cumsum(weights)
        ids[row] = order[np.searchsorted(running, float(uniform[row]) * running[-1], side="right")]
    return ids


_SAMPLE_INPUTS = ("logits", "temperature", "top_k", "top_p", "min_p", "uniform")


def _infer_sample(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    logits, *settings = inputs
    require_shape("sample", "logits", logits, None, None)
    for name, spec in zip(_SAMPLE_INPUTS[1:], settings, strict=True):
        require_shape("sample", name, spec, logits.shape[0])
    require_indices("sample", top_k=inputs[2])
    for spec in (logits, inputs[1], *inputs[3:]):
        require_kind("sample", spec, "float")
    return (TensorSpec((logits.shape[0],), dtypes.int32),)


def _sample_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(19)
    rows = 24
    logits = (2 * rng.standard_normal((rows, 3000))).astype(np.float32)
    temperature = rng.choice(np.array([0, 0.5, 1, 2], np.float32), rows)
    limits = rng.choice(np.array([0, 1, 5, 100], np.int32), rows)
    top_p, min_p = (
        rng.choice(np.array([0.1, 0.9, 1], np.float32), rows),
        rng.choice(np.array([0, 0.02, 0.5], np.float32), rows),
    )
    uniform = np.zeros(rows, np.float32)
    for row in np.flatnonzero(temperature):
        # in the middle of a token's share: at an edge, sums in float32 and float64 may disagree
        order = sampling_order(logits[row], int(limits[row]))
        weights = sampling_weights(logits[row][order], temperature[row], int(limits[row]), top_p[row], min_p[row])
        running = np.concatenate([[0], np.cumsum(weights)]) / weights.sum()
        chosen = rng.choice(np.flatnonzero(weights > weights.max() * 0.01))
        uniform[row] = running[chosen : chosen + 2].mean()
    yield Sample((logits, temperature, limits, top_p, min_p, uniform), {}, "mixed settings")


register_op(
    OpSpec(
        "sample",
        _SAMPLE_INPUTS,
        _infer_sample,
        _sample,
        _sample_samples,
    )
)
