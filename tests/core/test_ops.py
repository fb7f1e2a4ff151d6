"""The references themselves, against formulas written another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfxapi as px
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.attention import paged_case
from perfxapi.ops.sampling import sampling_weights
from perfxapi.ops.spec import OpSpec, Sample, all_ops, op_spec, register_op

RNG = np.random.default_rng


def run(op: str, *operands: Any, **attributes: Any) -> Any:
    """The op's reference with defaults filled in."""
    spec = op_spec(op)
    return spec.reference(*operands, **spec.check_attributes(attributes))


# ---- specs


@pytest.mark.parametrize("spec", all_ops(), ids=lambda spec: spec.name)
def test_samples_fit_their_own_shape_rule(spec: OpSpec) -> None:
    from perfxapi.conformance.cases import storage_of
    from perfxapi.conformance.check import reference_copy

    labels = [sample.label for sample in spec.samples()]
    assert labels
    for sample in list(spec.samples())[:: max(1, len(labels) // 6)]:
        kinds = [storage_of(value) for value in sample.inputs]
        attributes = spec.check_attributes(sample.attributes)
        inferred = spec.infer([px.TensorSpec(shape, dtype) for dtype, _, shape in kinds], attributes)
        with np.errstate(all="ignore"):
            results = spec.reference(*map(reference_copy, sample.inputs), **attributes)
        found = results if isinstance(results, tuple) else () if results is None else (results,)
        assert [value.shape for value in found] == [result.shape for result in inferred]
        assert bool(found) != bool(spec.mutates)


@pytest.mark.parametrize("spec", [spec for spec in all_ops() if spec.cost], ids=lambda spec: spec.name)
def test_costs_count_at_least_the_operands(spec: OpSpec) -> None:
    from perfxapi.conformance.cases import storage_of

    assert spec.cost is not None
    for sample in list(spec.samples())[:4]:
        kinds = [storage_of(value) for value in sample.inputs]
        cost = spec.cost(
            [px.TensorSpec(shape, dtype) for dtype, _, shape in kinds], spec.check_attributes(sample.attributes)
        )
        weights = sum(stored.nbytes for index, (_, stored, _) in enumerate(kinds) if spec.is_weight(index))
        assert cost.nbytes >= weights
        assert cost.flops >= 0


def test_names_are_taken_once() -> None:
    add = op_spec("add")
    assert register_op(add) is add
    other = OpSpec("add", ("a",), add.infer, add.reference, lambda: [Sample(())])
    with pytest.raises(InvalidArgumentError, match="an op named 'add' is registered already"):
        register_op(other)


def test_a_variadic_op_numbers_its_operands() -> None:
    spec = op_spec("multi_linear")
    assert [spec.input_name(index) for index in range(3)] == ["x", "weights[0]", "weights[1]"]
    assert [spec.is_weight(index) for index in range(4)] == [False, True, True, True]
    spec.check_inputs(5)
    with pytest.raises(InvalidArgumentError, match="takes 2 inputs"):
        spec.check_inputs(1)


# ---- attention


def attend_naively(case: tuple[Any, ...], scale: float, window: int, softcap: float) -> np.ndarray[Any, Any]:
    """One query, one head, one key at a time, as the definition says."""
    q, k_cache, v_cache, query_start, kv_len, table = case
    block_size, group = v_cache.shape[2], q.shape[1] // k_cache.shape[1]
    out = np.zeros(q.shape)
    for request, length in enumerate(kv_len):
        for i in range(query_start[request], query_start[request + 1]):
            position = length - (query_start[request + 1] - i)
            first = max(0, position - window + 1) if window else 0
            places = [(table[request, p // block_size], p % block_size) for p in range(first, position + 1)]
            for head in range(q.shape[1]):
                keys = [k_cache[b, head // group, :, place].astype(float) for b, place in places]
                scores = [float(q[i, head].astype(float) @ key) * scale for key in keys]
                if softcap:
                    scores = [softcap * math.tanh(score / softcap) for score in scores]
                weights = [math.exp(score - max(scores)) for score in scores]
                values = [v_cache[b, head // group, place].astype(float) for b, place in places]
                out[i, head] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    return out


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), min_size=1, max_size=3),
    st.sampled_from([(1, 1), (4, 2), (3, 3)]),
    st.sampled_from([0, 1, 7, 100]),
    st.sampled_from([0.0, 2.0]),
)
@settings(max_examples=25)
def test_paged_attention(requests: list[tuple[int, int]], heads: tuple[int, int], window: int, softcap: float) -> None:
    lengths = [(queries, queries + past) for queries, past in requests]
    case = paged_case(RNG(0), lengths, heads, 8)
    got = run("paged_attention", *case, scale=0.4, window=window, softcap=softcap)
    assert np.abs(got - attend_naively(case, 0.4, window, softcap)).max() < 1e-6


def test_tokens_after_the_last_request_get_zeros() -> None:
    q, *rest = paged_case(RNG(1), [(2, 5)], (2, 1), 8)
    padded = np.concatenate([q, np.ones((3, 2, 8), np.float32)])
    got = run("paged_attention", padded, *rest, scale=1.0)
    assert np.array_equal(got[2:], np.zeros((3, 2, 8)))
    assert np.array_equal(got[:2], run("paged_attention", q, *rest, scale=1.0))


@pytest.mark.parametrize(
    ("operand", "value", "problem"),
    [
        (3, [0, 9], "does not divide"),
        (3, [1, 2], "does not divide"),
        (4, [1], "more queries than keys"),
        (4, [999], "more keys than its block table holds"),
        (5, [[99]], "a block lies outside the cache"),
    ],
)
def test_requests_that_reach_too_far_are_refused(operand: int, value: Any, problem: str) -> None:
    case = list(paged_case(RNG(2), [(2, 5)], (2, 1), 8))
    case[operand] = np.array(value, np.int32)
    with pytest.raises(InvalidArgumentError, match=problem):
        run("paged_attention", *case, scale=1.0)


def test_what_is_written_is_what_is_attended_to() -> None:
    """A prompt written in one go, and token by token, attends alike."""
    rng = RNG(3)
    k, v, q = (rng.standard_normal((20, 2, 8)).astype(np.float32) for _ in range(3))
    table = np.array([[3, 1]], np.int32)
    slots = (table[0, np.arange(20) // 16] * 16 + np.arange(20) % 16).astype(np.int32)
    whole = [np.zeros((4, 2, 8, 16), np.float32), np.zeros((4, 2, 16, 8), np.float32)]
    run("kv_write", k, v, slots, *whole)
    once = run("paged_attention", q, *whole, np.int32([0, 20]), np.int32([20]), table, scale=0.3)
    stepwise = [np.zeros_like(cache) for cache in whole]
    for token in range(20):
        run("kv_write", k[token : token + 1], v[token : token + 1], slots[token : token + 1], *stepwise)
        one = q[token : token + 1]
        got = run("paged_attention", one, *stepwise, np.int32([0, 1]), np.int32([token + 1]), table, scale=0.3)
        assert np.allclose(got[0], once[token], atol=1e-6)


# ---- norms, rotation, activations


def test_rms_norm_has_unit_mean_square() -> None:
    x = RNG(4).standard_normal((5, 64)).astype(np.float32) * 100
    got = run("rms_norm", x, np.ones(64, np.float32))
    assert np.allclose((got.astype(float) ** 2).mean(-1), 1, atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotation_is_a_product_of_complex_numbers(interleaved: int) -> None:
    x = RNG(5).standard_normal((3, 2, 8)).astype(np.float32)
    frequencies = np.array([1, 0.5, 0.25], np.float32)
    positions = np.array([0, 7, 1000], np.int32)
    table = run("rope_table", positions, frequencies)
    got = run("rope", x, table, interleaved=interleaved)
    turn = np.exp(1j * np.outer(positions, frequencies))[:, None]
    if interleaved:
        pairs, rotated = x[..., 0:6:2] + 1j * x[..., 1:6:2], got[..., 0:6:2] + 1j * got[..., 1:6:2]
    else:
        pairs, rotated = x[..., 0:3] + 1j * x[..., 3:6], got[..., 0:3] + 1j * got[..., 3:6]
    assert np.abs(rotated - pairs * turn).max() < 1e-5
    assert np.array_equal(got[..., 6:], x[..., 6:]), "what lies beyond the table is copied"


def test_activations() -> None:
    x = np.linspace(-6, 6, 101)
    normal = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    assert np.abs(run("gelu_tanh", x) - x * normal).max() < 1e-3, "the tanh form is an approximation"
    assert np.allclose(run("silu", x), x / (1 + np.exp(-x)))
    assert np.allclose(run("sigmoid", np.array([-800.0, 0, 800])), [0, 0.5, 1])


# ---- from logits to tokens


def test_softmax_and_its_logarithm() -> None:
    x = RNG(6).standard_normal((4, 9)).astype(np.float32) * 10 + 1000
    probabilities = run("softmax", x)
    assert np.allclose(probabilities.sum(-1), 1)
    assert np.allclose(run("log_softmax", x), np.log(probabilities), atol=1e-4)
    assert np.allclose(run("logsumexp", x), x.max(-1) + np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)), rtol=1e-6)


@given(st.lists(st.sampled_from([-1.0, 0.0, 2.5, 7.0]), min_size=1, max_size=12), st.data())
def test_top_k_prefers_the_lower_index(row: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(row)))
    values, indices = run("topk", np.array([row], np.float32), k=k)
    expected = sorted(range(len(row)), key=lambda index: (-row[index], index))[:k]
    assert indices[0].tolist() == expected
    assert values[0].tolist() == [row[index] for index in expected]
    assert indices.dtype == np.int32


def test_penalties_follow_their_definition() -> None:
    logits = np.array([[2.0, -2, 1, 0]], np.float32)
    empty = np.zeros(0, np.int32)
    bias = empty, empty, np.zeros(0, np.float32)
    penalties = [np.array([value], np.float32) for value in (2, 0.25, 0.125)]
    run("adjust_logits", logits, np.int32([0, 1]), np.int32([0, 2]), np.int32([2, 0]), *penalties, *bias)
    # 0: 2 / 2 - 0.25 * 2 - 0.125 (it was put out twice); 1: -2 * 2 (only in the prompt)
    assert logits.tolist() == [[0.375, -4, 1, 0]]


@given(st.floats(0.1, 3), st.integers(0, 12), st.floats(0.05, 1), st.floats(0, 0.5), st.integers(0, 1000))
def test_what_survives_the_filters(temperature: float, top_k: int, top_p: float, min_p: float, seed: int) -> None:
    logits = RNG(seed).standard_normal(10).astype(np.float32)
    kept = sampling_weights(logits, temperature, top_k, top_p, min_p) > 0
    probabilities = np.exp(logits.astype(float) / temperature)
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    assert kept[order[0]], "the best is never filtered"
    assert np.array_equal(np.sort(order[: kept.sum()]), np.flatnonzero(kept)), "the best are kept"
    assert top_k == 0 or kept.sum() <= top_k
    assert (probabilities[kept] >= min_p * probabilities.max() * (1 - 1e-9)).all()
    survivors = sampling_weights(logits, temperature, top_k, 1.0, min_p)
    best = np.sort(survivors)[::-1].cumsum() / survivors.sum()
    assert kept.sum() == 1 or best[kept.sum() - 2] < top_p + 1e-9


def test_samples_have_the_frequencies_of_their_probabilities() -> None:
    rows = 20_000
    logits = np.tile(np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32)), (rows, 1))
    one, zero = np.ones(rows, np.float32), np.zeros(rows, np.int32)
    uniform = RNG(7).random(rows).astype(np.float32)
    ids = run("sample", logits, one, zero, one, 0 * one, uniform)
    assert np.allclose(np.bincount(ids, minlength=4) / rows, [0.5, 0.3, 0.15, 0.05], atol=0.01)
    greedy = run("sample", logits, 0 * one, zero, one, 0 * one, uniform)
    assert not greedy.any()


# ---- products


def test_embedding_and_rows() -> None:
    table = RNG(8).standard_normal((6, 4)).astype(np.float32)
    ids = np.array([5, 0, 5], np.int32)
    assert np.array_equal(run("embedding", ids, table, scale=2.0), 2 * table[[5, 0, 5]])
    assert np.array_equal(run("take_rows", table, ids), table[[5, 0, 5]])


def test_vocab_topk_is_the_top_of_the_product() -> None:
    hidden, head = RNG(9).standard_normal((2, 32)), RNG(10).standard_normal((50, 32))
    values, indices = run("vocab_topk", hidden.astype(np.float32), head.astype(np.float32), k=3, softcap=5.0)
    logits = 5 * np.tanh(hidden @ head.T / 5)
    order = np.argsort(-logits, axis=-1)[:, :3]
    assert np.array_equal(indices, order)
    assert np.allclose(values, np.take_along_axis(logits, order, -1), atol=1e-5)
