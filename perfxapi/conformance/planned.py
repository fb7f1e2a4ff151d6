"""A sample as a plan runs it: symbolic sizes where the op allows them, values in an arena, a compiled segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.array import Array, apply
from perfxapi.conformance.cases import Case, is_variable, storage_of
from perfxapi.creation import constant
from perfxapi.device import Device
from perfxapi.dims import Dim
from perfxapi.dtypes import DType, dtype_of
from perfxapi.errors import InvalidArgumentError, TraceError
from perfxapi.graph import Executable, Graph, compile, trace
from perfxapi.memory import Buffer, View
from perfxapi.ops.spec import TensorSpec

_ROWS = "rows"


class PlannedCase:
    """A case compiled for a device. Raises FallbackError where the policy is "error" and a kernel is lacking."""

    def __init__(self, case: Case, device: Device) -> None:
        self._case, self._device = case, device
        stored = {index: storage_of(value) for index, value in enumerate(case.sample.inputs)}
        variable = {i for i, value in enumerate(case.sample.inputs) if is_variable(case.spec, i, value)}
        self._fixed = {i: self._fixed_operand(i, *stored[i]) for i in stored if i not in variable}
        self._values = {_name(i): stored[i][1] for i in variable}
        self._symbolic: list[str] = []
        self.plan: Executable = self._compiled()

    def _fixed_operand(self, index: int, dtype: DType, stored: npt.NDArray[Any], shape: tuple[int, ...]) -> Array:
        if index not in self._case.spec.state:
            return constant(stored, dtype, shape, device=self._device)
        buffer = Buffer.state(stored.nbytes, self._device.memory_space)
        buffer.store(np.ascontiguousarray(stored).reshape(-1).view(np.uint8), [(0, stored.nbytes)])
        return Array(View(buffer, dtype, shape), self._device)

    def _compiled(self) -> Executable:
        """The plan with the most symbolic sizes that the op's rule for shapes allows."""
        for symbolic in self._attempts():
            try:
                graph = self._traced(symbolic)
            except (InvalidArgumentError, TraceError):
                if symbolic:
                    continue
                raise
            self._symbolic = symbolic
            break
        bounds = {_ROWS: 2 * self._values[self._symbolic[0]].shape[0]} if self._symbolic else {}
        return compile(graph, device=self._device, bounds=bounds)

    def _attempts(self) -> Iterator[list[str]]:
        """Inputs whose first size is symbolic: all that are as long as the first, the first alone, none."""
        long = [name for name, values in self._values.items() if values.ndim and values.shape[0] > 1]
        alike = [name for name in long if self._values[name].shape[0] == self._values[long[0]].shape[0]]
        if len(alike) > 1:
            yield alike
        if alike:
            yield alike[:1]
        yield []

    def _traced(self, symbolic: list[str]) -> Graph:
        specs = {}
        for name, values in self._values.items():
            first = (Dim(_ROWS),) if name in symbolic else values.shape[:1]
            specs[name] = TensorSpec((*first, *values.shape[1:]), dtype_of(values.dtype))
        return trace(self._function, specs, device=self._device)

    def _function(self, **variables: Array) -> Mapping[str, Array]:
        count = len(self._case.sample.inputs)
        operands = [self._fixed[i] if i in self._fixed else variables[_name(i)] for i in range(count)]
        results = apply(self._case.spec, *operands, **self._case.sample.attributes)
        found = results if isinstance(results, tuple) else () if results is None else (results,)
        return {f"output {index}": array for index, array in enumerate(found)}

    def run(self) -> dict[str, tuple[npt.NDArray[Any], DType]]:
        """Runs the plan. Returns what its results and operands hold then, by what the kit calls them."""
        graph, spec = self.plan.graph, self._case.spec
        bound = self.plan.bind(**({_ROWS: self._values[self._symbolic[0]].shape[0]} if self._symbolic else {}))
        for name, values in self._values.items():
            bound.inputs[name][...] = values
        bound.run()
        found = {name: (values, graph.outputs[name].dtype) for name, values in bound.outputs.items()}
        for index in range(len(self._case.sample.inputs)):
            if (name := _name(index)) in self._values:
                found[spec.input_name(index)] = bound.inputs[name], graph.inputs[name].spec.dtype
            elif index in spec.mutates:
                view = self._fixed[index].view
                found[spec.input_name(index)] = view.over(view.buffer.fetch([view.extent])[0]), view.dtype
        return found


def _name(index: int) -> str:
    return f"operand_{index}"
