"""What Python's operators do on arrays: the functions of the standard, by one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfxapi.array import Array, is_traced
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError
from perfxapi.standard import elementwise, exchange, indexing, linalg
from perfxapi.standard.quick import Binary

ARITHMETIC: dict[str, Binary] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "pow": elementwise.pow,
    "matmul": linalg.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
    "lshift": elementwise.bitwise_left_shift,
    "rshift": elementwise.bitwise_right_shift,
}
"""Operators that have a reflected form (`1 + x`) and one in place (`x += 1`)."""

OTHERS: dict[str, Callable[..., Any]] = {
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
    "neg": elementwise.negative,
    "pos": elementwise.positive,
    "abs": elementwise.abs,
    "invert": elementwise.bitwise_invert,
    "getitem": indexing.getitem,
    "setitem": indexing.setitem,
    "dlpack": exchange.dlpack,
    "dlpack_device": exchange.dlpack_device,
}


def _reflected(function: Binary) -> Binary:
    def operator(self: Array, other: Any, /) -> Array:
        return function(other, self)

    return operator


def _in_place(symbol: str, function: Binary) -> Binary:
    def operator(self: Array, other: Any, /) -> Array:
        if is_traced(self.view):
            return function(
                self, other
            )  # a traced array has no memory yet: the name stands for the result from here on
        indexing.require_writable(f"in place {symbol}", self)
        result = function(self, other)
        if result.dtype is not self.dtype:
            raise InvalidDTypeError(f"in place {symbol}: {result.dtype.name} does not fit {self.dtype.name}")
        if result.shape != self.shape:
            raise InvalidArgumentError(f"in place {symbol}: {list(result.shape)} does not fit {list(self.shape)}")
        indexing.assign(self, result)
        return self

    return operator


def _comparison(function: Binary) -> Callable[[Array, Any], Any]:
    """`==` and `!=`: what is no number and no array is not comparable, and so different, as for any object."""

    def operator(self: Array, other: Any, /) -> Any:
        if not isinstance(other, Array | int | float | complex) and not hasattr(other, "__array__"):
            return NotImplemented
        return function(self, other)

    return operator


def _bind(name: str, function: Callable[..., Any]) -> None:
    setattr(Array, f"__{name}__", function)


def bind_operators() -> None:
    """Makes the functions methods of Array."""
    for name, function in ARITHMETIC.items():
        _bind(name, function)
        _bind(f"r{name}", _reflected(function))
        _bind(f"i{name}", _in_place(name, function))
    for name, other in OTHERS.items():
        _bind(name, other)
    _bind("eq", _comparison(elementwise.equal))
    _bind("ne", _comparison(elementwise.not_equal))
