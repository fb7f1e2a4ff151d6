"""Graphs saved as ONNX files: by ONNX's own operators where they say the same, else by ops in a domain of their own.

Core ops without an ONNX operator of the same meaning stand in the domain "perfxapi", ops of a plugin in a domain named
after its distribution. `load` reads both again; other programs need a translation of theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from perfxapi.device import Device
from perfxapi.dims import Dim, Shape, Size
from perfxapi.dtypes import DType
from perfxapi.errors import FileFormatError, InvalidArgumentError
from perfxapi.graph import Graph, Node, Value, trace
from perfxapi.memory import Buffer, View
from perfxapi.onnx.domains import domain_of
from perfxapi.onnx.element_types import code_of_dtype
from perfxapi.onnx.rules import RULES, own
from perfxapi.onnx.views import Layout, operations
from perfxapi.ops.spec import TensorSpec, is_absent

OPSET = 23
"""Version of ONNX's operators that files are written with."""
IR_VERSION = 11


def save(
    source: Graph | Callable[..., Any],
    path: str | os.PathLike[str],
    inputs: Mapping[str, TensorSpec] | None = None,
    *,
    device: Device | str | None = None,
) -> None:
    """Saves a graph, or what a function of arrays computes, as an ONNX file.

    A function is traced with `inputs` (by name, shapes that may begin with a `Dim`, and dtypes) as `graph.trace` does.
    Raises InvalidArgumentError for what a file cannot hold (state that is written in place, quantized weights) and
    FileFormatError where it cannot be written.
    """
    import onnx

    model = to_model(source, inputs, device=device)
    data = ir.to_proto(model).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    whole = f"{os.fspath(path)}.part"
    try:
        Path(whole).write_bytes(data)
        os.replace(whole, path)
    except OSError as error:
        raise FileFormatError(path, "file", f"cannot be written: {error.strerror or error}") from error


def to_model(
    source: Graph | Callable[..., Any],
    inputs: Mapping[str, TensorSpec] | None = None,
    *,
    device: Device | str | None = None,
) -> ir.Model:
    """The same as `save`, as a model of onnx_ir."""
    if not isinstance(source, Graph):
        if inputs is None:
            raise InvalidArgumentError("save: the inputs of a function must be given: name to TensorSpec")
        source = trace(source, inputs, device=device)
    return Writer(source).model()


class Writer:
    """Writes one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: list[ir.Node] = []
        self._values: dict[Value, ir.Value] = {}
        self._views: dict[tuple[Any, ...], ir.Value] = {}
        self._constants: dict[str, ir.Value] = {}
        self._domains: set[str] = set()
        self._last: dict[str, int] = {}
        self._names = {*graph.inputs, *graph.outputs}

    def model(self) -> ir.Model:
        """The whole model."""
        for name, value in self._graph.inputs.items():
            self._values[value] = _value(name, value.spec.dtype, value.spec.shape)
        inputs = list(self._values.values())
        for node in self._graph.nodes:
            self._add_node(node)
        outputs = [self._output(name, view) for name, view in self._graph.outputs.items()]
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=list(self._constants.values()),
            opset_imports={"": OPSET, **dict.fromkeys(sorted(self._domains), 1)},
            name="graph",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="perfxapi")

    def _output(self, name: str, view: View) -> ir.Value:
        made = self.node("Identity", [self.read(view)])
        made.name, made.type, made.shape = name, ir.TensorType(onnx_dtype(view.dtype)), _onnx_shape(view.shape)
        return made

    # ---- pieces

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Adds a node with one output."""
        return self.nodes(op_type, inputs, 1, attributes, domain)[0]

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        num_outputs: int,
        attributes: Mapping[str, Any] | None,
        domain: str,
    ) -> Sequence[ir.Value]:
        """Adds a node with some outputs."""
        described = [ir.node(op_type, [], attributes=attributes).attributes[name] for name in attributes or ()]
        made = ir.Node(domain, op_type, inputs, described, num_outputs=num_outputs)
        for value in made.outputs:
            value.name = self._unused(op_type)
        self._nodes.append(made)
        return made.outputs

    def _unused(self, stem: str) -> str:
        """A name that nothing has."""
        numbers = (f"{stem}_{number}" for number in count(self._last.setdefault(stem, 0)))
        name = next(name for name in numbers if name not in self._names)
        self._last[stem] = int(name.rpartition("_")[2]) + 1
        self._names.add(name)
        return name

    def constant(self, values: npt.NDArray[Any], dtype: DType | None = None) -> ir.Value:
        """An initializer."""
        kind = onnx_dtype(dtype) if dtype is not None else None
        name = self._unused("constant")
        tensor = ir.Tensor(values, dtype=kind, name=name)
        value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._constants[name] = value
        return value

    def read(self, view: View) -> ir.Value:
        """A view of a value or of captured memory as a whole tensor; what was read once is read again from there."""
        key = (id(view.buffer), view.shape, view.strides, view.offset)
        if key not in self._views:
            self._views[key] = self._made(view) if isinstance(view.buffer, Value) else self._captured(view)
        return self._views[key]

    def _made(self, view: View) -> ir.Value:
        """A view of a value of the graph."""
        whole = self._values[view.buffer]
        if any(isinstance(size, Dim) for size in (*view.shape, *view.buffer.spec.shape)):
            return self._symbolic(whole, view)
        size = view.dtype.itemsize
        strides = tuple(int(stride) // size for stride in view.strides)
        layout = Layout(tuple(int(n) for n in view.shape), strides, view.offset // size)
        for operation, arguments in operations(tuple(int(n) for n in view.buffer.spec.shape), layout):
            whole = self._view_step(whole, operation, arguments)
        return whole

    def _view_step(self, x: ir.Value, operation: str, arguments: Mapping[str, Any]) -> ir.Value:
        if operation == "Transpose":
            return self.node("Transpose", [x], arguments)
        if operation == "Gather":
            return self.node("Gather", [x, self.constant(arguments["indices"])], {"axis": 0})
        if operation == "Slice":
            starts, ends, steps = (np.array(arguments[name], np.int64) for name in ("starts", "ends", "steps"))
            ends[ends < 0] = np.iinfo(np.int64).min  # backwards to the first: -1 would be the last
            axes = np.arange(len(starts), dtype=np.int64)
            return self.node("Slice", [x, *map(self.constant, (starts, ends, axes, steps))])
        return self.node(operation, [x, self.constant(np.array(arguments["shape"], np.int64))])

    def _symbolic(self, whole: ir.Value, view: View) -> ir.Value:
        """A view of a value with sizes that are not known: the whole of it, in its shape or another."""
        if view.offset or not view.is_contiguous:
            raise InvalidArgumentError(
                f"save: a part of {view.buffer!r}, whose sizes are symbolic, is read: give it a fixed shape"
            )
        if view.shape == view.buffer.spec.shape:
            return whole
        sizes = [-1 if isinstance(size, Dim) else size for size in view.shape]
        return self.node("Reshape", [whole, self.constant(np.array(sizes, np.int64))])

    def _captured(self, view: View) -> ir.Value:
        """What the traced function took from outside: a constant of the file."""
        if not isinstance(view.buffer, Buffer) or view.buffer.home is not None:
            raise InvalidArgumentError("save: state that is written in place cannot be saved")
        return self.constant(np.ascontiguousarray(view.host()), view.dtype)

    # ---- nodes

    def _add_node(self, node: Node) -> None:
        if node.spec.mutates:
            raise InvalidArgumentError(f"save: {node.spec.name} writes in place, which ONNX cannot say")
        optional = node.spec.optional
        inputs = [
            None if index in optional and is_absent(view) else self.read(view) for index, view in enumerate(node.inputs)
        ]
        rule = RULES.get(node.spec.name, own)
        results = rule(self, node, inputs)
        for value, made in zip(node.outputs, results, strict=True):
            self._values[value] = made

    @staticmethod
    def takes(op_type: str, dtype: DType) -> bool:
        """Whether ONNX's operator takes tensors of a dtype as its first operand."""
        return onnx_dtype(dtype) in _first_operand(op_type)

    def cast(self, x: ir.Value, have: DType, want: DType) -> ir.Value:
        """x in another dtype."""
        return x if have is want else self.node("Cast", [x], {"to": int(onnx_dtype(want))})

    def own(self, node: Node, inputs: Sequence[ir.Value | None]) -> Sequence[ir.Value]:
        """A node of the op's own domain, attributes by their names."""
        domain = domain_of(node.spec.name)
        self._domains.add(domain)
        attributes = {name: list(v) if isinstance(v, tuple) else v for name, v in node.attributes.items()}
        made = self.nodes(node.spec.name, inputs, len(node.outputs), _not_empty(attributes), domain)
        for value, result in zip(made, node.outputs, strict=True):
            value.type, value.shape = ir.TensorType(onnx_dtype(result.spec.dtype)), _onnx_shape(result.spec.shape)
        return made


@cache
def _first_operand(op_type: str) -> frozenset[ir.DataType]:
    """The element types that an operator's first operand may have."""
    from onnx import defs

    schema = defs.get_schema(op_type, OPSET)
    types = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    allowed = types.get(schema.inputs[0].type_str, [schema.inputs[0].type_str])
    names = (text.removeprefix("tensor(").removesuffix(")").upper() for text in allowed if text.startswith("tensor("))
    return frozenset(ir.DataType[name] for name in names if name in ir.DataType.__members__)


def _not_empty(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that ONNX can hold: an empty list has no type there, and means the same as none."""
    return {name: value for name, value in attributes.items() if value != []}


def onnx_dtype(dtype: DType) -> ir.DataType:
    """ONNX's element type of a dtype. Raises InvalidArgumentError for those that it lacks."""
    return ir.DataType(code_of_dtype(dtype))


def _size(size: Size) -> int | str | None:
    if isinstance(size, Dim):
        return size.name if size.factor == 1 else None
    return size


def _onnx_shape(shape: Shape) -> ir.Shape:
    return ir.Shape([_size(size) for size in shape])


def _value(name: str, dtype: DType, shape: Shape) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(onnx_dtype(dtype)), shape=_onnx_shape(shape))
