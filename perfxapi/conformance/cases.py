"""What is checked: each sample of each op, in several arrangements of its operands in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.backend import OpCall
from perfxapi.conformance.report import PLAIN
from perfxapi.dispatch import infer
from perfxapi.dtypes import DType, dtype_of
from perfxapi.memory import HOST, Buffer, View
from perfxapi.ops.spec import BFloat16Array, OpSpec, QuantizedArray, Sample, all_ops

_PADDING = 3
_HOSTILE_NUMBERS = (-7, 1 << 20, -(1 << 31), (1 << 31) - 1)
Bytes = npt.NDArray[np.uint8]
Place = Callable[[int], Bytes]
"""Gives host memory of so many bytes."""

ARRANGEMENTS = (PLAIN, "variable weights", "padded rows", "reversed rows", "column order")
"""Operands contiguous with constant weights; the same with weights that are not constants; activations with gaps
between their rows; activations with their first axis backwards; activations whose columns are contiguous.
"""
PLANNED = "in a plan"
"""The op as the one node of a compiled graph, with symbolic sizes where its rule for shapes allows them."""
HOSTILE = "hostile indices"
"""One index is far out of range: a kernel must refuse what the reference refuses, before it writes anything."""


@dataclass(frozen=True, slots=True)
class Case:
    """One sample of one op in one arrangement. `number` counts through all cases, in an order that never changes."""

    number: int
    spec: OpSpec
    sample: Sample
    arrangement: str

    @property
    def dtype(self) -> DType:
        """The dtype that tells this sample from others of its op: the first that is neither float32 nor int32."""
        found = [storage_of(value)[0] for value in self.sample.inputs]
        special = [dtype for dtype in found if dtype not in (dtypes.float32, dtypes.int32)]
        return [*special, *(dtype for dtype in found if dtype is dtypes.float32), *found][0]


def all_cases(ops: Sequence[str] | None = None) -> Iterator[Case]:
    """Every case of the named ops (default: of all), in order."""
    number = 0
    for spec in all_ops():
        if ops is not None and spec.name not in ops:
            continue
        for sample, arrangement in _arranged(spec):
            yield Case(number, spec, sample, arrangement)
            number += 1


def _arranged(spec: OpSpec) -> Iterator[tuple[Sample, str]]:
    samples = list(spec.samples())
    for sample in samples:
        yield from ((sample, arrangement) for arrangement in ARRANGEMENTS if _applies(spec, sample, arrangement))
    yield from ((sample, PLANNED) for sample in samples if _can_be_planned(spec, sample))
    yield from ((sample, HOSTILE) for sample in _hostile_samples(spec, samples))


def _hostile_samples(spec: OpSpec, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The largest sample, once for each index operand and wrong number in it."""
    if not samples:
        return
    sample = max(samples, key=lambda s: sum(value.size for value in s.inputs if isinstance(value, np.ndarray)))
    for index, value in enumerate(sample.inputs):
        if isinstance(value, np.ndarray) and value.dtype == np.int32 and value.size and value.ndim:
            for number in _HOSTILE_NUMBERS:
                changed = value.copy()
                changed.reshape(-1)[value.size // 2] = number
                inputs = (*sample.inputs[:index], changed, *sample.inputs[index + 1 :])
                yield Sample(inputs, sample.attributes, f"{spec.input_name(index)} holds {number}")


def _applies(spec: OpSpec, sample: Sample, arrangement: str) -> bool:
    inputs = enumerate(sample.inputs)
    if arrangement == PLAIN:
        return True
    if arrangement == "variable weights":
        weights = [value for index, value in inputs if spec.is_weight(index)]
        return bool(weights) and not any(isinstance(value, QuantizedArray) for value in weights)
    return any(_is_movable(spec, index, value) for index, value in inputs)


def _can_be_planned(spec: OpSpec, sample: Sample) -> bool:
    return any(is_variable(spec, index, value) for index, value in enumerate(sample.inputs))


def is_variable(spec: OpSpec, index: int, value: Any) -> bool:
    """Whether an operand can be an input of a graph: no weight, no state, and NumPy has its dtype."""
    return isinstance(value, np.ndarray) and not spec.is_weight(index) and index not in spec.state


def _is_movable(spec: OpSpec, index: int, value: Any) -> bool:
    """Whether an operand is an activation of two or more dimensions: those may come as parts of larger arrays."""
    plain = isinstance(value, np.ndarray) and value.ndim >= 2 and value.size > 0
    return plain and not spec.is_weight(index) and index not in (*spec.mutates, *spec.state)


def storage_of(value: Any) -> tuple[DType, npt.NDArray[Any], tuple[int, ...]]:
    """The dtype, the elements as they are stored, and the shape of a sample's operand."""
    if isinstance(value, QuantizedArray):
        return value.dtype, value.raw, value.shape
    if isinstance(value, BFloat16Array):
        return dtypes.bfloat16, value.bits, value.bits.shape
    return dtype_of(value.dtype), value, value.shape


def build_call(case: Case, place: Place, space: str = HOST) -> OpCall:
    """The call of a case, its operands in host memory from `place`; state lives in `space`."""
    spec, sample = case.spec, case.sample
    inputs = tuple(_view(case, index, value, place) for index, value in enumerate(sample.inputs))
    inputs = tuple(_as_state(view, space) if index in spec.state else view for index, view in enumerate(inputs))
    attributes = spec.check_attributes(sample.attributes)
    outputs = []
    for result in infer(spec, inputs, attributes):
        view = View(None, result.dtype, result.shape)
        view.buffer = Buffer(view.nbytes)
        view.buffer.adopt(place(view.nbytes))
        outputs.append(view)
    return OpCall(spec.name, inputs, tuple(outputs), attributes)


def _view(case: Case, index: int, value: Any, place: Place) -> View:
    dtype, stored, shape = storage_of(value)
    constant = case.spec.is_weight(index) and case.arrangement != "variable weights"
    if case.arrangement in _REARRANGED and _is_movable(case.spec, index, value):
        return _rearranged(stored, dtype, case.arrangement, place)
    memory = place(stored.nbytes)
    memory[:] = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
    return View(Buffer.from_host(memory, name=case.spec.input_name(index), constant=constant), dtype, shape)


def _as_state(view: View, space: str) -> View:
    """A view of state in `space` with the same contents."""
    contents = view.buffer.readable(HOST)[0]
    buffer = view.buffer
    if space == HOST:
        buffer.home = HOST
    else:
        buffer = Buffer.state(contents.nbytes, space, name=view.buffer.name)
        buffer.store(contents, [(0, contents.nbytes)])
    return View(buffer, view.dtype, view.shape)


def _rearranged(stored: npt.NDArray[Any], dtype: DType, arrangement: str, place: Place) -> View:
    """The same elements with gaps between their rows, backward, or column by column."""
    whole_shape, part_of = _REARRANGED[arrangement]
    shape = whole_shape(stored.shape)
    memory = place(math.prod(shape) * stored.itemsize)
    part = part_of(memory.view(stored.dtype).reshape(shape))
    part[...] = stored
    offset = part.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return View(Buffer.from_host(memory), dtype, part.shape, part.strides, offset)


_Shape = tuple[int, ...]
_REARRANGED: dict[str, tuple[Callable[[_Shape], _Shape], Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]] = {
    "padded rows": (lambda shape: (*shape[:-1], shape[-1] + _PADDING), lambda whole: whole[..., :-_PADDING]),
    "reversed rows": (lambda shape: shape, lambda whole: whole[::-1]),
    "column order": (lambda shape: (*shape[:-2], shape[-1], shape[-2]), lambda whole: whole.swapaxes(-1, -2)),
}
"""For each arrangement: the shape of the whole array in memory, and the part of it that the operand is."""
