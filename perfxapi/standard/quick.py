"""Functions of one or two arrays, one for an op: what was computed once is ready the next time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfxapi.array import Array, apply, is_traced, promote
from perfxapi.backend import REGISTRY
from perfxapi.memory import layout_of
from perfxapi.ops.spec import OpSpec, op_spec
from perfxapi.ready import Known, ReadyCall
from perfxapi.settings import settings

Unary = Callable[[Any], Array]
Binary = Callable[[Any, Any], Array]


def unary(name: str, meaning: str) -> Unary:
    """The function of one array that computes the op of that name."""
    spec, known = op_spec(name), Known()
    quick = known.quick

    def function(x: Any, /) -> Array:
        try:
            ready = quick[x._layout]
        except (AttributeError, KeyError):
            return _computed(spec, known, x)
        if x.device is ready.device and ready.generation == REGISTRY.generation and ready.settings is settings():
            pointer = x._block[0] if x._view is None else x._view.buffer.pointer
            if pointer is not None:
                block = ready.launch(pointer)
                if block is not None:
                    return _finished(ready, block)
        return _computed(spec, known, x)

    return _described(function, spec, meaning)


def binary(name: str, meaning: str) -> Binary:
    """The function of two arrays that computes the op of that name."""
    spec, known = op_spec(name), Known()
    quick = known.quick

    def function(x1: Any, x2: Any, /) -> Array:
        try:
            ready = quick[x1._layout, x2._layout]
        except AttributeError:
            return _with_number(function, spec, x1, x2)
        except KeyError:
            return _computed(spec, known, x1, x2)
        if (
            x1.device is ready.device is x2.device
            and ready.generation == REGISTRY.generation
            and ready.settings is settings()
        ):
            first = x1._block[0] if x1._view is None else x1._view.buffer.pointer
            second = x2._block[0] if x2._view is None else x2._view.buffer.pointer
            if first is not None and second is not None:
                block = ready.launch(first, second)
                if block is not None:
                    return _finished(ready, block)
        return _computed(spec, known, x1, x2)

    return _described(function, spec, meaning)


def _finished(ready: ReadyCall, block: Any) -> Array:
    """Counts a launched call; its result."""
    ready.row.count += 1
    return Array(None, ready.device, ready.layout, block)


def _described(function: Callable[..., Array], spec: OpSpec, meaning: str) -> Callable[..., Array]:
    function.__name__ = function.__qualname__ = spec.name
    function.__doc__ = (
        f"{meaning}, element by element (array API standard).\n\n"
        "Operands are Arrays, or what `asarray` takes; a plain number takes the dtype of the Array beside it. Raises\n"
        "InvalidArgumentError where shapes do not broadcast or dtypes do not fit."
    )
    return function


def _computed(spec: OpSpec, known: Known, *arrays: Any) -> Array:
    """Runs a call that is not ready: its pointers are missing, or it is the first of its kind, or dispatch must."""
    if any(type(a) is not Array or a.device is not arrays[0].device or is_traced(a.view) for a in arrays):
        return apply(spec, *arrays)  # type: ignore[no-any-return]
    views, device = [array.view for array in arrays], arrays[0].device
    for array in arrays:
        array._layout = layout_of(array.view)
    ready = known.find(views, device)
    if ready is not None:
        block = ready.run(views)
        return Array(None, device, ready.layout, block) if block is not None else apply(spec, *arrays)
    result: Array = apply(spec, *arrays)
    if result.device is device:
        known.add(spec, views, result.view, device)
    return result


_MAX_NUMBERS = 256
_numbers: dict[Any, Array] = {}


def _with_number(function: Callable[[Any, Any], Array], spec: OpSpec, x1: Any, x2: Any) -> Array:
    """A call of which one operand is no Array. For a plain number there is one array beside each layout."""
    number, like = (x2, x1) if type(x1) is Array else (x1, x2)
    if type(like) is not Array or type(number) not in (int, float):
        return apply(spec, x1, x2)  # type: ignore[no-any-return]
    array = _numbers.get((number, type(number), like._layout))
    if array is None or array.device is not like.device:
        if not number or like.dtype.is_quantized:  # 0.0 and -0.0 would be one key
            return apply(spec, x1, x2)  # type: ignore[no-any-return]
        array = _remembered(number, like)
    return function(like, array) if number is x2 else function(array, like)


def _remembered(number: Any, like: Array) -> Array:
    array = promote(number, like)
    like._layout = layout_of(like.view)
    if len(_numbers) >= _MAX_NUMBERS:
        _numbers.clear()
    _numbers[number, type(number), like._layout] = array
    return array
