"""Products with weights that may be quantized, embedding lookup, and the vocabulary's top k.

The *activation format* is an attribute: float32, or codes of 8 or 16 bits with a scale for each 32 columns. The
reference rounds the activations to that format and multiplies in float32; `perfxapi.quantization.quantized_linear`
gives the exact order of operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes, quantization
from perfxapi.dims import Dim, Size
from perfxapi.dtypes import DType
from perfxapi.ops.elementwise import ACTIVATION_REFERENCES, ACTIVATIONS, infer_floats
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    BFloat16Array,
    Cost,
    OpSpec,
    QuantizedArray,
    Sample,
    TensorSpec,
    float32_of,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)

ACTIVATION_FORMATS = ("float32", "int8", "int16")
_FORMAT = Attribute("activation_format", str, "float32", ACTIVATION_FORMATS)
_DISTINCT_ROWS = 6  # of weights in samples
_SOFTCAP = Attribute("softcap", float, 0.0)
_QUANTIZED = tuple(dtype for dtype in dtypes.ALL if dtype.is_quantized)


def round_activations(x: Any, activation_format: str) -> Any:
    """`x` [T, K] rounded to what `activation_format` can hold, in float32."""
    wide = np.ascontiguousarray(x, np.float32)
    if activation_format == "float32":
        return wide
    codes, scales = quantization.quantize_activations(wide, activation_format)
    blocks = codes.reshape(*scales.shape, 32).astype(np.float32) * scales[..., None]
    return blocks.reshape(wide.shape)


def weight_values(weight: Any) -> Any:
    """A weight as float32 [N, K]."""
    return weight.values if isinstance(weight, QuantizedArray) else np.asarray(weight, np.float32)


def softcapped(logits: Any, softcap: float) -> Any:
    """softcap * tanh(logits / softcap), or the logits where softcap is 0 (Gemma 2)."""
    return logits if softcap == 0 else np.float32(softcap) * np.tanh(logits / np.float32(softcap))


def _linear(x: Any, weight: Any, activation_format: str) -> Any:
    return round_activations(x, activation_format) @ weight_values(weight).T


def _multi_linear(x: Any, *weights: Any, activation_format: str) -> tuple[Any, ...]:
    return tuple(_linear(x, weight, activation_format) for weight in weights)


def _gated_linear(x: Any, gate: Any, up: Any, activation_format: str, activation: str) -> Any:
    act = ACTIVATION_REFERENCES[activation]
    return act(_linear(x, gate, activation_format)) * _linear(x, up, activation_format)


def _check_product(op: str, x: TensorSpec, weight: TensorSpec, attributes: Attributes) -> None:
    require_kind(op, x, "float")
    require_kind(op, weight, "float", "quantized")
    require_shape(op, "x", x, None, None)
    require_shape(op, "the weight", weight, None, x.shape[1])
    if attributes["activation_format"] != "float32":
        columns = x.shape[1]
        require(isinstance(columns, int) and columns % 32 == 0, op, "quantized activations need columns in 32s")


def _infer_linear(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, *weights = inputs
    for weight in weights:
        _check_product("linear", x, weight, attributes)
    return tuple(float32_of((x.shape[0], weight.shape[0])) for weight in weights)


def _infer_gated(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    gate, up = _infer_linear(inputs, attributes)
    require(gate.shape == up.shape, "gated_linear", f"gate and up differ: {gate.shape}, {up.shape}")
    return (gate,)


def _number(size: Size) -> int:
    return size.factor if isinstance(size, Dim) else size


def weight_bytes(spec: TensorSpec) -> int:
    """Bytes of a concrete weight."""
    return math.prod(_number(size) for size in spec.shape) * spec.dtype.itemsize // spec.dtype.block_size


def _linear_cost(inputs: Sequence[TensorSpec], attributes: Attributes) -> Cost:
    x, *weights = inputs
    rows = _number(x.shape[0])
    nbytes = 4 * rows * _number(x.shape[1]) + sum(weight_bytes(w) + 4 * rows * _number(w.shape[0]) for w in weights)
    return Cost(nbytes, 2 * rows * sum(math.prod(map(_number, w.shape)) for w in weights))


def random_weight(rng: np.random.Generator, rows: int, columns: int, dtype: DType) -> Any:
    """A random weight of any storage dtype, as references take it."""
    values = (rng.standard_normal((rows, columns)) / math.sqrt(columns)).astype(np.float32)
    if dtype.is_quantized:
        return QuantizedArray(quantization.quantize(values, dtype), dtype)
    if dtype is dtypes.bfloat16:
        return BFloat16Array(dtypes.float32_to_bfloat16(values))
    return values.astype(dtype.numpy)


def _repetitive_weight(rng: np.random.Generator, rows: int, columns: int, dtype: DType) -> Any:
    """A random weight whose rows are drawn from a few where it is quantized: searching for scales takes its time."""
    if not dtype.is_quantized:
        return random_weight(rng, rows, columns, dtype)
    few = random_weight(rng, _DISTINCT_ROWS, columns, dtype)
    return QuantizedArray(few.raw[rng.integers(0, _DISTINCT_ROWS, rows)], dtype)


def _activations(rng: np.random.Generator, rows: int, columns: int) -> Any:
    return rng.standard_normal((rows, columns)).astype(np.float32)


def _cases(seed: int) -> Iterable[tuple[np.random.Generator, int, int, int, DType, str]]:
    rng = np.random.default_rng(seed)
    shapes = ((1, 16, 256), (1, 33, 512), (3, 48, 256), (17, 40, 512))
    for dtype in _QUANTIZED:
        for activation_format in ("int8", "int16"):
            for tokens, rows, columns in shapes:
                yield rng, tokens, rows, columns, dtype, activation_format
    for dtype in (dtypes.float32, dtypes.float16, dtypes.bfloat16):
        for tokens, rows, columns in ((1, 16, 64), (5, 33, 100), (20, 7, 33), (0, 16, 32)):
            yield rng, tokens, rows, columns, dtype, "float32"


def _linear_samples() -> Iterable[Sample]:
    for rng, tokens, rows, columns, dtype, activation_format in _cases(8):
        inputs = (_activations(rng, tokens, columns), _repetitive_weight(rng, rows, columns, dtype))
        yield Sample(
            inputs,
            {"activation_format": activation_format},
            f"{dtype.name} {activation_format} {tokens} x {rows} x {columns}",
        )


def _multi_linear_samples() -> Iterable[Sample]:
    for rng, tokens, rows, columns, dtype, activation_format in _cases(9):
        weights = tuple(_repetitive_weight(rng, count, columns, dtype) for count in (rows, 2 * rows + 1))
        yield Sample(
            (_activations(rng, tokens, columns), *weights), {"activation_format": activation_format}, dtype.name
        )


def _gated_linear_samples() -> Iterable[Sample]:
    for rng, tokens, rows, columns, dtype, activation_format in _cases(10):
        weights = tuple(_repetitive_weight(rng, rows, columns, dtype) for _ in range(2))
        for activation in ACTIVATIONS:
            attributes = {"activation_format": activation_format, "activation": activation}
            yield Sample((_activations(rng, tokens, columns), *weights), attributes, f"{dtype.name} {activation}")


LINEAR = register_op(
    OpSpec(
        "linear",
        ("x", "weight"),
        _infer_linear,
        _linear,
        _linear_samples,
        (_FORMAT,),
        cost=_linear_cost,
        weights=(1,),
        tolerance=4e-6,
    )
)
register_op(
    OpSpec(
        "multi_linear",
        ("x", "*weights"),
        _infer_linear,
        _multi_linear,
        _multi_linear_samples,
        (_FORMAT,),
        decompose=lambda ops, x, *weights, activation_format: tuple(
            ops.linear(x, weight, activation_format=activation_format) for weight in weights
        ),
        cost=_linear_cost,
        weights=(1,),
        tolerance=4e-6,
    )
)
register_op(
    OpSpec(
        "gated_linear",
        ("x", "gate", "up"),
        _infer_gated,
        _gated_linear,
        _gated_linear_samples,
        (_FORMAT, Attribute("activation", str, choices=ACTIVATIONS)),
        decompose=lambda ops, x, gate, up, activation_format, activation: ops.gated_activation(
            ops.linear(x, gate, activation_format=activation_format),
            ops.linear(x, up, activation_format=activation_format),
            activation=activation,
        ),
        cost=_linear_cost,
        weights=(1, 2),
        tolerance=4e-6,
    )
)


def top_k(values: Any, k: int) -> tuple[Any, Any]:
    """The k largest of each row, descending; equal values in order of index. Values and int32 indices, [R, k]."""
    order = np.argsort(-values, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(values, order, -1), order.astype(np.int32)


def _vocab_topk(hidden: Any, head: Any, k: int, activation_format: str, softcap: float) -> tuple[Any, Any]:
    return top_k(softcapped(_linear(hidden, head, activation_format), softcap), k)


def _infer_vocab_topk(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    hidden, head = inputs
    _check_product("vocab_topk", hidden, head, attributes)
    k, vocabulary = attributes["k"], _number(head.shape[0])
    require(1 <= k <= vocabulary, "vocab_topk", f"k must lie in 1..{vocabulary}; got {k}")
    return float32_of((hidden.shape[0], k)), TensorSpec((hidden.shape[0], k), dtypes.int32)


def _decompose_vocab_topk(ops: Any, hidden: Any, head: Any, k: int, activation_format: str, softcap: float) -> Any:
    logits = ops.linear(hidden, head, activation_format=activation_format)
    if softcap:
        logits = ops.softcap(logits, softcap=softcap)
    return ops.topk(logits, k=k)


def _vocab_topk_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(11)
    for dtype, columns in ((dtypes.q8_0, 64), (dtypes.q6_k, 256), (dtypes.float32, 32), (dtypes.bfloat16, 32)):
        activation_format = "int16" if dtype.is_quantized else "float32"
        for rows, vocabulary, k, softcap in ((1, 1000, 1, 0.0), (3, 515, 8, 0.0), (2, 64, 64, 30.0)):
            inputs = (_activations(rng, rows, columns), random_weight(rng, vocabulary, columns, dtype))
            attributes = {"k": k, "activation_format": activation_format, "softcap": softcap}
            yield Sample(inputs, attributes, f"{dtype.name} V {vocabulary} k {k}")


register_op(
    OpSpec(
        "vocab_topk",
        ("hidden", "head"),
        _infer_vocab_topk,
        _vocab_topk,
        _vocab_topk_samples,
        (Attribute("k", int), _FORMAT, _SOFTCAP),
        decompose=_decompose_vocab_topk,
        cost=_linear_cost,
        weights=(1,),
        tolerance=4e-6,
    )
)
register_op(
    OpSpec(
        "softcap",
        ("x",),
        infer_floats("softcap"),
        softcapped,
        lambda: [Sample((np.linspace(-90, 90, 77, dtype=np.float32),), {"softcap": 30.0}, "wide range")],
        (Attribute("softcap", float),),
    )
)


def _infer_embedding(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    tokens, table = inputs
    require_indices("embedding", tokens=tokens)
    require_kind("embedding", table, "float", "quantized")
    require_shape("embedding", "tokens", tokens, None)
    require_shape("embedding", "the table", table, None, None)
    return (float32_of((tokens.shape[0], table.shape[1])),)


def _embedding(tokens: Any, table: Any, scale: float) -> Any:
    require(bool(np.all((tokens >= 0) & (tokens < table.shape[0]))), "embedding", "a token id lies outside the table")
    rows = table.rows(tokens) if isinstance(table, QuantizedArray) else np.asarray(table[tokens], np.float32)
    return rows * np.float32(scale)


def _embedding_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(12)
    for dtype in (*_QUANTIZED, dtypes.float32, dtypes.float16, dtypes.bfloat16):
        tokens = rng.integers(0, 50, 9).astype(np.int32)
        yield Sample((tokens, _repetitive_weight(rng, 50, 256, dtype)), {"scale": 25.25}, dtype.name)
    yield Sample((np.zeros(0, np.int32), random_weight(rng, 20, 64, dtypes.q8_0)), {"scale": 1.0}, "no tokens")


register_op(
    OpSpec(
        "embedding",
        ("tokens", "table"),
        _infer_embedding,
        _embedding,
        _embedding_samples,
        (Attribute("scale", float, 1.0),),
        weights=(1,),
    )
)


def _infer_take_rows(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, indices = inputs
    require_indices("take_rows", indices=indices)
    require_shape("take_rows", "indices", indices, None)
    require_shape("take_rows", "x", x, None, None)
    require(not x.dtype.is_quantized, "take_rows", "x is quantized: use embedding")
    return (TensorSpec((indices.shape[0], x.shape[1]), x.dtype),)


def _take_rows(x: Any, indices: Any) -> Any:
    require(bool(np.all((indices >= 0) & (indices < len(x)))), "take_rows", "an index lies outside x")
    return x[indices]


def _take_rows_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(13)
    for rows, columns, count in ((5, 33, 3), (1, 640, 1), (4, 8, 0)):
        yield Sample(
            (_activations(rng, rows, columns), rng.integers(0, rows, count).astype(np.int32)), {}, f"{count} rows"
        )


register_op(
    OpSpec(
        "take_rows",
        ("x", "indices"),
        _infer_take_rows,
        _take_rows,
        _take_rows_samples,
        tolerance=0,
    )
)
