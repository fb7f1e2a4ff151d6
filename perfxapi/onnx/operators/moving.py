"""Operators that only move elements, on tensors that no device holds (strings, float8, int4, ...).

Their translation is run on the elements' positions, which are int64 and so can be held; then the elements are taken
from those positions on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.registry import OperatorNode, Results, Translation, from_host, known


def moves(*operands: int, every: bool = False) -> Callable[[Translation], Translation]:
    """Lets a translation take host tensors as its data operands: those at these places, or with `every` all of them."""

    def wrap(translation: Translation) -> Translation:
        @wraps(translation)
        def moved(node: OperatorNode, *values: Any) -> Results:
            places = range(len(values)) if every else operands
            data = [place for place in places if place < len(values)]
            if not any(isinstance(values[place], np.ndarray) for place in data):
                return translation(node, *values)
            return _by_positions(translation, node, list(values), data)

        return moved

    return wrap


def _by_positions(translation: Translation, node: OperatorNode, values: list[Any], data: list[int]) -> Results:
    tensors = [known(values[place]) for place in data]
    pool = np.concatenate([tensor.reshape(-1) for tensor in tensors])
    start = 0
    for place, tensor in zip(data, tensors, strict=True):
        positions = np.arange(start, start + tensor.size).reshape(tensor.shape)
        values[place] = px.asarray(positions, device=node.device)
        start += tensor.size
    results = translation(node, *values)

    def taken(result: Any) -> Any:
        if isinstance(result, list | tuple):
            return type(result)(map(taken, result))
        return from_host(pool[known(result)], node.device) if isinstance(result, Array) else result

    found: Results = taken(results)
    return found
