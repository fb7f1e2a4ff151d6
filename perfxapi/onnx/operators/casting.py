"""Conversion between element types (the tables stand in ONNX's documentation of `Cast`).

Between dtypes that a device holds it is `astype`. Strings and the types of 8 bits and less are converted on the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.element_types import FLOAT8E8M0, STRING, code_of, code_of_name, device_dtype, host_dtype
from perfxapi.onnx.registry import OperatorNode, Value, from_host, is_plain, known, operator


def cast(value: Value, code: int, attributes: Mapping[str, Any] | None = None, device: Any = None) -> Value:
    """A tensor in another element type. `saturate` and `round_mode` are read from `attributes`, as `Cast` has them."""
    target = device_dtype(code)
    if isinstance(value, Array) and target is not None:
        return px.astype(value, target)
    options = attributes or {}
    source = known(value)
    if code == STRING:
        result: npt.NDArray[Any] = _to_strings(source)
    elif code == FLOAT8E8M0:
        result = _to_powers_of_two(_numbers(source), options)
    else:
        target_type = host_dtype(code)
        numbers = _whole_numbers(source) if source.dtype == object and _is_whole(target_type) else _numbers(source)
        result = _to_numbers(numbers, target_type, saturate=bool(options.get("saturate", 1)))
    return from_host(result, device)


def _numbers(source: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values that NumPy computes with: strings as float64, narrow types as float32."""
    if source.dtype == object:
        return np.array([float(str(text)) for text in source.reshape(-1)], np.float64).reshape(source.shape)
    return source if is_plain(source.dtype) else source.astype(np.float32)


def _is_whole(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("int", "uint"))


def _whole_numbers(texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Strings as int64 or, where one is too large for that, uint64: float64 would lose digits."""

    def number(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            return int(float(text))

    values = [number(str(text)) for text in texts.reshape(-1)]
    dtype = np.uint64 if max(values, default=0) >= 1 << 63 else np.int64
    return np.array(values, dtype).reshape(texts.shape)


def _to_strings(source: npt.NDArray[Any]) -> npt.NDArray[Any]:
    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, bool | np.bool_ | int | np.integer):
            return str(int(value))
        return str(value).upper().replace("NAN", "NaN") if not np.isfinite(value) else _plain(value)

    result = np.empty(source.shape, object)
    values = source if source.dtype == object else _numbers(source)
    result.reshape(-1)[:] = [text(value) for value in values.reshape(-1)]
    return result


def _plain(value: Any) -> str:
    """The shortest digits that give the number back, without an exponent."""
    return np.format_float_positional(value, unique=True, trim="-")


def _to_numbers(source: npt.NDArray[Any], target: np.dtype[Any], *, saturate: bool) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):
        if is_plain(target) or _is_whole(target):
            return source.astype(target)
        wide = source.astype(np.float32)
        if saturate or not target.name.startswith("float8"):
            limit = float(ml_dtypes.finfo(target).max)  # type: ignore[no-untyped-call]
            wide = np.clip(wide, -limit, limit)
        return wide.astype(target)


def _to_powers_of_two(source: npt.NDArray[Any], options: Mapping[str, Any]) -> npt.NDArray[Any]:
    """float8e8m0: an exponent alone, 2**-127 to 2**127, and NaN."""
    mode, saturate = options.get("round_mode", "up"), bool(options.get("saturate", 1))
    if mode not in ("up", "down", "nearest"):
        raise InvalidArgumentError(f"round_mode must be one of 'up', 'down', 'nearest'; got {mode!r}")
    values = source.astype(np.float64)
    mantissa, exponent = np.frexp(values)  # values = mantissa * 2**exponent, mantissa from 0.5 on
    exponent = exponent - 1
    above = mantissa > 0.5
    if mode == "up":
        exponent = exponent + above
    elif mode == "nearest":
        exponent = exponent + (mantissa >= 0.75)
    exponent = np.where(values == 0, -127, np.where(np.isinf(values), 128, exponent))
    undefined = np.isnan(values)
    if not saturate:
        undefined = undefined | (exponent > 127) | (exponent < -127) | (values == 0)
    bits = np.where(undefined, 255, np.clip(exponent, -127, 127) + 127).astype(np.uint8)
    return bits.view(ml_dtypes.float8_e8m0fnu)


@operator("Cast")
def cast_to(node: OperatorNode, x: Value) -> Value:
    """The elements converted to the element type `to`, which before opset 6 is a name."""
    to = node.required("to")
    return cast(x, code_of_name(to) if isinstance(to, str) else to, node.attributes, node.device)


@operator("CastLike")
def cast_like(node: OperatorNode, x: Value, target: Value) -> Value:
    """The elements converted to the element type of another tensor."""
    return cast(x, code_of(target), node.attributes, node.device)


def _bits(name: str) -> int:
    """The bits of an element of a type of that name."""
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 8


@operator("BitCast")
def bit_cast(node: OperatorNode, x: Value) -> Value:
    """The same bits, read as another element type of the same size. Raises InvalidArgumentError for one of another."""
    code = node.required("to")
    target = device_dtype(code)
    names = x.dtype.name if isinstance(x, Array) else known(x).dtype.name, host_dtype(code).name
    if _bits(names[0]) != _bits(names[1]) or "object" in names:
        raise InvalidArgumentError(f"{node}: the types must be of one size, and no strings; got {' and '.join(names)}")
    if isinstance(x, Array) and target is not None:
        view = x.view
        return x.viewed(view.shape, view.strides, view.offset, target)
    return from_host(np.ascontiguousarray(known(x)).view(host_dtype(code)), node.device)
