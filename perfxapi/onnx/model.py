"""An ONNX model that runs: loaded once for a device, called with arrays."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from perfxapi.array import Array, is_traced
from perfxapi.device import Device
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx import control_flow as control_flow
from perfxapi.onnx import operators as operators
from perfxapi.onnx.element_types import code_of, name_of
from perfxapi.onnx.program import Port
from perfxapi.onnx.reading import read_model
from perfxapi.onnx.registry import Value, from_host
from perfxapi.onnx.segments import Planned, Runner, copied
from perfxapi.policy import get_device


class Model:
    """A model on a device.

    `inputs` and `outputs` are its ports. For each set of input shapes that it meets, it makes plans and keeps them.
    Threads that call one model take turns.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes | Any, device: Device | str | None = None) -> None:
        self.device = get_device(device)
        file = read_model(source, self.device)
        self.path, self.opsets, self.producer, self.ir_version = file.path, file.opsets, file.producer, file.ir_version
        self.program = file.program
        initialized = set(self.program.constants)
        self.inputs = self.program.inputs
        self.outputs = self.program.outputs
        self.required_inputs = tuple(p for p in self.inputs if p.name not in initialized and p.kind != "optional")
        self._runner = Runner(self.program, self.device)
        self._turn = threading.Lock()

    def __call__(self, *operands: Any, **named: Any) -> dict[str, Value]:
        """Runs the model: inputs by position, those with defaults last, or by name (`run` takes any name).

        Inputs are Arrays or what NumPy takes; outputs are Arrays on the model's device, by name. Raises
        InvalidArgumentError for inputs that are missing, unknown, or not as the model declares them.
        """
        given = self.named(operands)
        if twice := given.keys() & named.keys():
            raise InvalidArgumentError(f"{self.path}: input {min(twice)!r} is given twice")
        return self.run({**given, **named})

    def named(self, operands: Sequence[Any]) -> dict[str, Any]:
        """Inputs by name, for inputs by position, those with defaults last."""
        if len(operands) > len(self.inputs):
            raise InvalidArgumentError(f"{self.path}: takes {len(self.inputs)} inputs; got {len(operands)}")
        ordered = sorted(self.inputs, key=lambda port: port.name in self.program.constants)
        return dict(zip((port.name for port in ordered), operands, strict=False))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Value]:
        """The outputs by name, for inputs by name. They are memory of their own, which no later run changes."""
        return {port.name: value for port, value in zip(self.outputs, self.results(inputs), strict=True)}

    def results(self, inputs: Mapping[str, Any]) -> tuple[Value, ...]:
        """The outputs in order: `run` has one of several of one name."""
        names = [port.name for port in self.inputs]
        for name in inputs:
            if name not in names:
                raise InvalidArgumentError(f"{self.path}: has no input {name!r}; its inputs: {', '.join(names)}")
        for port in self.required_inputs:
            if port.name not in inputs:
                raise InvalidArgumentError(f"{self.path}: input {port.name!r} is missing: {describe(port)}")
        symbols: dict[str, int] = {}
        operands = [self._operand(port, inputs, symbols) for port in self.inputs]
        with self._turn:
            results = self._runner.run({}, operands)
        taken = {id(item.view.buffer) for value in operands for item in _arrays(value)}
        return tuple(_owned(value, taken) for value in results)

    def planned(self) -> list[Planned]:
        """What runs how, of all plans made so far."""
        return self._runner.planned()

    def operators(self) -> Counter[str]:
        """How many nodes of each operator there are, subgraphs included."""
        nodes = (step.node for step in self.program.all_steps())
        return Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)

    def _operand(self, port: Port, inputs: Mapping[str, Any], symbols: dict[str, int]) -> Value:
        if port.name not in inputs:
            return self.program.constants.get(port.name)
        try:
            value = as_value(inputs[port.name], self.device, port.kind)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"{self.path}: input {port.name!r}: {error}") from error
        if isinstance(value, Array | np.ndarray):
            self._check(port, value, symbols)
        elif value is None and port.kind != "optional":
            raise InvalidArgumentError(f"{self.path}: input {port.name!r} is None; wanted: {describe(port)}")
        return value

    def _check(self, port: Port, value: Any, symbols: dict[str, int]) -> None:
        """Raises InvalidArgumentError where a tensor is not as its port is declared."""
        fits = port.kind != "sequence" and (not port.code or code_of(value) == port.code)
        if port.shape is not None:
            fits = fits and len(value.shape) == len(port.shape)
            for want, size in zip(port.shape, value.shape, strict=False):
                expected = symbols.setdefault(want, int(size)) if isinstance(want, str) else want
                fits = fits and (expected is None or expected == size)
        if not fits:
            known = ", ".join(f"{name}={size}" for name, size in symbols.items())
            got = f"{name_of(code_of(value))} of {list(value.shape)}" + (f" (with {known})" if known else "")
            raise InvalidArgumentError(f"{self.path}: input {port.name!r} must be {describe(port)}; got {got}")


def describe(port: Port) -> str:
    """A port as text: "float32[1, channels, ?]"."""
    sizes = "" if port.shape is None else str(["?" if size is None else size for size in port.shape]).replace("'", "")
    return f"{'' if port.kind == 'tensor' else port.kind + ' of '}{name_of(port.code)}{sizes}"


def as_value(given: Any, device: Device, kind: str = "tensor") -> Value:
    """What a user gives as an input of some kind, as it flows between nodes."""
    if given is None:
        return None
    if kind == "sequence" or (kind == "optional" and isinstance(given, list)):
        return [as_value(item, device) for item in given]
    if isinstance(given, Array):
        if is_traced(given.view):
            raise InvalidArgumentError("a traced array: a model has plans of its own, and is no part of another graph")
        return given.to_device(device)
    values = np.asarray(given)
    if values.dtype.kind in "USO":
        return np.array([_text(item) for item in values.reshape(-1)], object).reshape(values.shape)
    return from_host(values, device)


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _arrays(value: Value) -> Iterator[Array]:
    """The arrays that a value is or holds."""
    if isinstance(value, list):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, Array):
        yield value


def _owned(value: Value, taken: set[int]) -> Value:
    """A result in memory that neither the caller's inputs (`taken`) nor the model's constants share."""
    if isinstance(value, list):
        return [_owned(item, taken) for item in value]
    if isinstance(value, Array):
        return copied(value) if value.view.buffer.constant or id(value.view.buffer) in taken else value
    return None if value is None else value.copy()


def load(source: str | os.PathLike[str] | bytes | Any, device: Device | str | None = None) -> Model:
    """Loads an ONNX model (a path, the bytes of a file, or an `onnx.ModelProto`) for a device.

    Raises FileFormatError for what is no such file, UnsupportedOperatorError where an operator has no translation.
    """
    return Model(source, device)
