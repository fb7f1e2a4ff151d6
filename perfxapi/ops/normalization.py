"""RMS normalization (Zhang and Sennrich 2019), alone and fused with residual additions; layer normalization (Ba et al.
2016); rotary embedding (Su et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    OpSpec,
    Sample,
    TensorSpec,
    float32_of,
    is_absent,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)

_EPS = Attribute("eps", float, 1e-6)
_INTERLEAVED = Attribute("interleaved", int, 0)


def _rms_norm(x: Any, weight: Any, eps: float) -> Any:
    wide = x.astype(np.float64)
    return (wide / np.sqrt(np.mean(wide * wide, axis=-1, keepdims=True) + eps) * weight).astype(np.float32)


def _infer_rms_norm(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, weight = inputs
    _check_norm("rms_norm", x, weight)
    return (float32_of(x.shape),)


def _check_norm(op: str, x: TensorSpec, weight: TensorSpec) -> None:
    require_kind(op, x, "float")
    require_kind(op, weight, "float")
    require(len(x.shape) > 0, op, "x must have at least one dimension")
    require_shape(op, "the weight", weight, x.shape[-1])


def _infer_sum_and_norm(op: str, x: TensorSpec, y: TensorSpec, *weights: TensorSpec) -> tuple[TensorSpec, ...]:
    require_shape(op, "x", x, None, None)
    require_shape(op, "y", y, *x.shape)
    require_kind(op, y, "float")
    for weight in weights:
        _check_norm(op, x, weight)
    return float32_of(x.shape), float32_of(x.shape)


def _rows(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def _rms_norm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(4)
    for shape in ((1, 640), (3, 64), (5, 33), (2, 4, 256), (0, 8), (7, 1)):
        yield Sample((_rows(rng, *shape), _rows(rng, shape[-1])), {"eps": 1e-6}, f"shape {shape}")
    yield Sample((_rows(rng, 6, 2, 32)[:, 1], _rows(rng, 32)), {"eps": 1e-5}, "strided rows")
    yield Sample((np.zeros((2, 16), np.float32), _rows(rng, 16)), {"eps": 1e-6}, "zeros")
    yield Sample((_with_nan(_rows(rng, 3, 33)), _rows(rng, 33)), {"eps": 1e-6}, "NaN")


def _with_nan(x: Any) -> Any:
    x[1, 2] = np.nan
    return x


register_op(OpSpec("rms_norm", ("x", "weight"), _infer_rms_norm, _rms_norm, _rms_norm_samples, (_EPS,), weights=(1,)))


def _add_rms_norm(x: Any, y: Any, weight: Any, eps: float) -> tuple[Any, Any]:
    total = x + y
    return total, _rms_norm(total, weight, eps)


def _decompose_add_rms_norm(ops: Any, x: Any, y: Any, weight: Any, eps: float) -> tuple[Any, Any]:
    total = ops.add(x, y)
    return total, ops.rms_norm(total, weight, eps=eps)


def _add_rms_norm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(5)
    for rows, columns in ((1, 640), (3, 33), (9, 128), (0, 4)):
        inputs = (_rows(rng, rows, columns), _rows(rng, rows, columns), _rows(rng, columns))
        yield Sample(inputs, {"eps": 1e-6}, f"{rows} x {columns}")


register_op(
    OpSpec(
        "add_rms_norm",
        ("x", "y", "weight"),
        lambda inputs, attributes: _infer_sum_and_norm("add_rms_norm", *inputs),
        _add_rms_norm,
        _add_rms_norm_samples,
        (_EPS,),
        weights=(2,),
        decompose=_decompose_add_rms_norm,
    )
)


def _norm_add_rms_norm(y: Any, post: Any, x: Any, pre: Any, eps: float) -> tuple[Any, Any]:
    total = x + _rms_norm(y, post, eps)
    return total, _rms_norm(total, pre, eps)


def _decompose_norm_add_rms_norm(ops: Any, y: Any, post: Any, x: Any, pre: Any, eps: float) -> tuple[Any, Any]:
    total = ops.add(x, ops.rms_norm(y, post, eps=eps))
    return total, ops.rms_norm(total, pre, eps=eps)


def _norm_add_rms_norm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(6)
    for rows, columns in ((1, 640), (3, 33), (9, 128), (0, 4)):
        inputs = (_rows(rng, rows, columns), _rows(rng, columns), _rows(rng, rows, columns), _rows(rng, columns))
        yield Sample(inputs, {"eps": 1e-6}, f"{rows} x {columns}")


register_op(
    OpSpec(
        "norm_add_rms_norm",
        ("y", "post", "x", "pre"),
        lambda inputs, attributes: _infer_sum_and_norm("norm_add_rms_norm", inputs[2], inputs[0], inputs[1], inputs[3]),
        _norm_add_rms_norm,
        _norm_add_rms_norm_samples,
        (_EPS,),
        weights=(1, 3),
        decompose=_decompose_norm_add_rms_norm,
    )
)


def _layer_norm(x: Any, scale: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(x.ndim - scale.ndim, x.ndim))
    wide = x.astype(np.float64)
    centered = wide - wide.mean(axis=axes, keepdims=True)
    normed = centered / np.sqrt(np.mean(centered * centered, axis=axes, keepdims=True) + eps) * scale
    return (normed if is_absent(bias) else normed + bias).astype(x.dtype)


def _infer_layer_norm(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, scale, bias = inputs
    for spec in (x, scale) if is_absent(bias) else inputs:
        require_kind("layer_norm", spec, "float")
    fits = 0 < len(scale.shape) <= len(x.shape)
    require(fits, "layer_norm", f"scale {list(scale.shape)} must have the last sizes of x {list(x.shape)}")
    require_shape("layer_norm", "the scale", scale, *x.shape[len(x.shape) - len(scale.shape) :])
    if not is_absent(bias):
        require_shape("layer_norm", "the bias", bias, *scale.shape)
    return (TensorSpec(x.shape, x.dtype),)


def _layer_norm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(8)
    absent = np.empty(0, np.float32)
    for shape in ((1, 640), (3, 64), (5, 33), (2, 4, 256), (0, 8), (7, 1), (2, 1000)):
        yield Sample((_rows(rng, *shape), _rows(rng, shape[-1]), _rows(rng, shape[-1])), {"eps": 1e-5}, f"{shape}")
    yield Sample((_rows(rng, 3, 4, 5), _rows(rng, 4, 5), absent), {"eps": 1e-5}, "two axes, no bias")
    yield Sample((_rows(rng, 3, 4, 5), _rows(rng, 3, 4, 5), _rows(rng, 3, 4, 5)), {}, "all axes")
    yield Sample((_rows(rng, 4, 48) + 100, _rows(rng, 48), _rows(rng, 48)), {"eps": 1e-5}, "large mean")
    yield Sample((np.full((2, 16), 3, np.float32), _rows(rng, 16), _rows(rng, 16)), {}, "equal numbers")
    yield Sample((_with_nan(_rows(rng, 3, 33)), _rows(rng, 33), absent), {}, "NaN")
    yield Sample((rng.standard_normal((3, 7)), rng.standard_normal(7), rng.standard_normal(7)), {}, "float64")


register_op(
    OpSpec(
        "layer_norm",
        ("x", "scale", "bias"),
        _infer_layer_norm,
        _layer_norm,
        _layer_norm_samples,
        (Attribute("eps", float, 1e-5),),
        weights=(1, 2),
        optional=(2,),
        domain="neural",
    )
)


def _rope_table(positions: Any, inverse_frequencies: Any, scale: float) -> Any:
    # the angle is rounded to float32 first, as in the frameworks that models were trained with
    angles = (positions.astype(np.float32)[:, None] * inverse_frequencies[None]).astype(np.float64)
    return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * scale).astype(np.float32)


def _infer_rope_table(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    positions, inverse_frequencies = inputs
    require_indices("rope_table", positions=positions)
    require_kind("rope_table", inverse_frequencies, "float")
    require_shape("rope_table", "positions", positions, None)
    require_shape("rope_table", "inverse_frequencies", inverse_frequencies, None)
    return (float32_of((positions.shape[0], inverse_frequencies.shape[0] * 2)),)


def _rope_table_samples() -> Iterable[Sample]:
    for dim in (2, 64, 256):
        inverse = (10000.0 ** (-np.arange(dim // 2) / (dim // 2))).astype(np.float32)
        yield Sample((np.array([0, 1, 5, 2047, 32767], np.int32), inverse), {"scale": 1.0}, f"D {dim}")
    yield Sample((np.arange(3, dtype=np.int32), np.ones(16, np.float32)), {"scale": 1.25}, "scaled")


register_op(
    OpSpec(
        "rope_table",
        ("positions", "inverse_frequencies"),
        _infer_rope_table,
        _rope_table,
        _rope_table_samples,
        (Attribute("scale", float, 1.0),),
        weights=(1,),
        tolerance=4e-6,
    )
)


def _rope(x: Any, table: Any, interleaved: int) -> Any:
    half = table.shape[1] // 2
    cos, sin = table[:, None, :half], table[:, None, half:]
    out = np.array(x, np.float32)
    first = (..., slice(0, 2 * half, 2)) if interleaved else (..., slice(0, half))
    second = (..., slice(1, 2 * half, 2)) if interleaved else (..., slice(half, 2 * half))
    left, right = x[first].copy(), x[second].copy()
    out[first], out[second] = left * cos - right * sin, right * cos + left * sin
    return out


def _check_rope(op: str, x: TensorSpec, table: TensorSpec) -> tuple[TensorSpec, ...]:
    require_kind(op, x, "float")
    require_kind(op, table, "float")
    require_shape(op, "x", x, None, None, None)
    require_shape(op, "the table", table, x.shape[0], None)
    rotary, dim = table.shape[1], x.shape[2]
    fits = isinstance(rotary, int) and isinstance(dim, int) and rotary % 2 == 0 and rotary <= dim
    require(fits, op, f"the table's {rotary!r} columns must be even and no more than the {dim!r} of x")
    return (float32_of(x.shape),)


def _infer_norm_rope(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    x, weight, table = inputs
    _check_norm("norm_rope", x, weight)
    require_shape("norm_rope", "the table", table, None, x.shape[-1])
    return _check_rope("norm_rope", x, table)


def _rope_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(7)
    for tokens, heads, dim, rotary in ((1, 4, 256, 256), (5, 2, 64, 64), (3, 1, 10, 8), (0, 2, 16, 16)):
        angles = rng.standard_normal((tokens, rotary // 2))
        table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        for interleaved in (0, 1):
            yield Sample(
                (_rows(rng, tokens, heads, dim), table), {"interleaved": interleaved}, f"{tokens}x{heads}x{dim}"
            )


register_op(
    OpSpec(
        "rope",
        ("x", "table"),
        lambda inputs, attributes: _check_rope("rope", *inputs),
        _rope,
        _rope_samples,
        (_INTERLEAVED,),
    )
)


def _norm_rope_samples() -> Iterable[Sample]:
    for sample in _rope_samples():
        x, table = sample.inputs
        if table.shape[1] == x.shape[2]:
            weight = np.linspace(0.5, 2, x.shape[2], dtype=np.float32)
            yield Sample((x, weight, table), {"eps": 1e-6, **sample.attributes}, sample.label)


register_op(
    OpSpec(
        "norm_rope",
        ("x", "weight", "table"),
        _infer_norm_rope,
        lambda x, weight, table, eps, interleaved: _rope(_rms_norm(x, weight, eps), table, interleaved),
        _norm_rope_samples,
        (_EPS, _INTERLEAVED),
        weights=(1,),
        decompose=lambda ops, x, weight, table, eps, interleaved: ops.rope(
            ops.rms_norm(x, weight, eps=eps), table, interleaved=interleaved
        ),
    )
)
