"""Operators of ONNX, each translated into functions of the op API: what a translation is given and what it gives.

A translation is an ordinary function `(node, *operands) -> value or tuple of values`, registered by `operator`. It runs
on concrete arrays or on traced ones; it need not know which.

Values between nodes are of these kinds. A tensor of a dtype that a device holds is an `Array`. Tensors of strings, of
8-bit floating-point and of 4- and 2-bit types are NumPy arrays (of `str` objects; of `ml_dtypes`). A sequence is a list
of values, a map a dictionary. An optional that is empty is None, as is an operand that a node leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array, is_traced, on_host
from perfxapi.device import Device
from perfxapi.dtypes import bfloat16, dtype_of
from perfxapi.errors import InvalidArgumentError, PerfXError
from perfxapi.policy import get_device

Value: TypeAlias = "Array | npt.NDArray[Any] | list[Any] | dict[Any, Any] | None"
"""What flows between nodes."""

Results: TypeAlias = "Value | tuple[Value, ...]"


class ValueNeeded(PerfXError):  # noqa: N818  no error: the planner answers it
    """A translation needs the values of an array that is traced. The planner makes them known and calls it again.

    Without an array the translation is to be called between plans, with all operands known.
    """

    def __init__(self, array: Array | None = None) -> None:
        super().__init__("the values of a traced array are needed")
        self.array = array


class UnsupportedOperatorError(PerfXError, NotImplementedError):
    """An operator, or a use of one, that has no translation. The message names the node."""


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """A node as its translation sees it.

    `version` is the opset that the model imports of the node's domain. Attributes are Python values: numbers, strings,
    lists of them, NumPy arrays for tensors, `Closure`s for subgraphs. `outputs` are names, "" for one that nothing
    reads. `device` is where the model runs: new arrays are made there.
    """

    op_type: str
    domain: str
    version: int
    name: str
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]
    device: Device = field(default_factory=get_device)

    @property
    def num_outputs(self) -> int:
        """How many outputs the node has, up to the last that is read."""
        return max((index + 1 for index, name in enumerate(self.outputs) if name), default=0)

    def wants(self, index: int) -> bool:
        """Whether output `index` is read by anything."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default where the node does not give it."""
        return self.attributes.get(name, default)

    def required(self, name: str) -> Any:
        """An attribute that the operator demands. Raises InvalidArgumentError."""
        if name not in self.attributes:
            raise InvalidArgumentError(f"{self}: attribute {name!r} is required")
        return self.attributes[name]

    def unsupported(self, what: str) -> UnsupportedOperatorError:
        """The error for a use of the operator that is not translated."""
        return UnsupportedOperatorError(f"{self}: {what} is not supported")

    def __str__(self) -> str:
        domain = f"{self.domain}." if self.domain else ""
        return f"{domain}{self.op_type} (opset {self.version})" + (f", node {self.name!r}" if self.name else "")


Translation: TypeAlias = Callable[..., Results]


BetweenPlans: TypeAlias = bool | Callable[[OperatorNode, Sequence[str]], bool]
"""Whether nodes run between plans: all, none, or those that a function of the node and its inputs' names says so of."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The translation of an operator. One that runs `between_plans` is never part of a plan: each run calls it anew."""

    translation: Translation
    between_plans: BetweenPlans = False


_TRANSLATIONS: dict[tuple[str, str], Registration] = {}


def operator(
    *names: str, domain: str = "", between_plans: BetweenPlans = False
) -> Callable[[Translation], Translation]:
    """Registers a translation under the names of operators of a domain ("" is ONNX's own).

    `between_plans` is for those whose result is not the same each time (random draws).
    """

    def register(translation: Translation) -> Translation:
        for name in names:
            if (domain, name) in _TRANSLATIONS:
                raise InvalidArgumentError(f"the operator {domain or 'ai.onnx'}.{name} is translated already")
            _TRANSLATIONS[domain, name] = Registration(translation, between_plans)
        return translation

    return register


def translation_of(domain: str, op_type: str) -> Registration | None:
    """The translation of an operator; None where it has none."""
    return _TRANSLATIONS.get((domain, op_type))


def translated_operators() -> list[tuple[str, str]]:
    """(domain, operator) of all translations, in order."""
    return sorted(_TRANSLATIONS)


# ---- values


def known(value: Value) -> npt.NDArray[Any]:
    """The values of a tensor. Raises ValueNeeded where it is traced: the planner then makes them known."""
    if isinstance(value, Array) and is_traced(value.view):
        raise ValueNeeded(value)
    return to_host(value)


def known_ints(value: Value) -> list[int]:
    """The values of a tensor of whole numbers, in order, as Python's."""
    return [int(number) for number in known(value).reshape(-1)]


def is_known(value: Value) -> bool:
    """Whether the values are there now: not traced, and no sequence of traced ones."""
    if isinstance(value, list):
        return all(is_known(item) for item in value)
    return not (isinstance(value, Array) and is_traced(value.view))


def to_host(value: Value) -> npt.NDArray[Any]:
    """A concrete tensor as a NumPy array (bfloat16 as `ml_dtypes.bfloat16`)."""
    if isinstance(value, Array):
        if value.dtype is bfloat16:
            import ml_dtypes

            return np.asarray(value).astype(ml_dtypes.bfloat16)
        return np.asarray(value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    raise InvalidArgumentError(f"a tensor is wanted; got {'a sequence' if isinstance(value, list) else value!r}")


def from_host(values: npt.NDArray[Any], device: Device | str | None = None) -> Array | npt.NDArray[Any]:
    """A tensor as it flows between nodes: an Array on `device` where its dtype can be held, else `values`."""
    values = np.asarray(values)
    if values.dtype.name == "bfloat16":
        return on_host(np.array(values, order="C").view(np.uint16), bfloat16, get_device(device))
    if is_plain(values.dtype) and values.dtype.kind in "biufc" and values.dtype.itemsize <= 16:
        return on_host(values, dtype_of(values.dtype), get_device(device))
    return values


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is NumPy's own, and none of `ml_dtypes` (which say of some that they are of kind "f")."""
    return dtype.type.__module__ == "numpy"


def as_sequence(value: Value) -> Sequence[Value]:
    """A sequence's items. Raises InvalidArgumentError for a tensor."""
    if not isinstance(value, list):
        raise InvalidArgumentError("a sequence is wanted; got a tensor")
    return value


__all__ = [
    "OperatorNode",
    "Registration",
    "Results",
    "Translation",
    "UnsupportedOperatorError",
    "Value",
    "ValueNeeded",
    "as_sequence",
    "from_host",
    "is_known",
    "is_plain",
    "known",
    "known_ints",
    "operator",
    "to_host",
    "translated_operators",
    "translation_of",
]
