"""ONNX files read into programs: checked, so that a damaged or hostile one ends in an error that names the place.

The bytes of the format are onnx_ir's matter. What it leaves open is decided here: external data is only read from plain
files below the model's own folder, and nodes must have an order in which they can run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from perfxapi.creation import constant
from perfxapi.device import Device
from perfxapi.errors import FileFormatError, GraphError
from perfxapi.onnx.domains import own_operator
from perfxapi.onnx.program import Port, Program, Step
from perfxapi.onnx.registry import (
    OperatorNode,
    Registration,
    UnsupportedOperatorError,
    Value,
    from_host,
    translation_of,
)

_MAX_DEPTH = 64
"""Subgraphs within subgraphs, and functions that call functions."""
_MAX_STEPS = 1_000_000
"""Nodes of a model, those of functions counted for each call."""

_HOW_TO_ADD = "A plugin can bring one: perfxapi.onnx.operator registers it."


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as read: the program, and what the file says of itself."""

    path: str
    program: Program
    opsets: Mapping[str, int]
    producer: str
    ir_version: int


def read_model(source: str | os.PathLike[str] | bytes | Any, device: Device) -> ModelFile:
    """Reads a model: a path, the bytes of a file, or an `onnx.ModelProto`.

    Raises FileFormatError for what is no such file, GraphError for a graph that cannot run, UnsupportedOperatorError
    for an operator without a translation.
    """
    path, model = _parsed(source)
    opsets = dict(model.graph.opset_imports)
    builder = _Builder(path, model, device)
    program = builder.program(model.graph, opsets, 0)
    if program.captured:
        raise GraphError(f"{path}: nothing makes {', '.join(map(repr, sorted(program.captured)))}, which is read")
    if program.size > _MAX_STEPS:
        raise GraphError(f"{path}: its functions expand to {program.size} nodes, more than {_MAX_STEPS}")
    if builder.missing:
        places = ", ".join(f"{name}" + (f" (node {node!r})" if node else "") for name, node in builder.missing.items())
        raise UnsupportedOperatorError(f"{path}: no translation of {places}. {_HOW_TO_ADD}")
    return ModelFile(
        path,
        program,
        opsets,
        " ".join(filter(None, (model.producer_name, model.producer_version))),
        model.ir_version,
    )


def _parsed(source: Any) -> tuple[str, ir.Model]:
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            raise FileFormatError(path, "file", f"cannot be read: {getattr(error, 'strerror', '') or error}") from error
        return str(path), _decoded(str(path), data)
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>", _decoded("<bytes>", bytes(source))
    return "<model>", _deserialized("<model>", source)


def _decoded(path: str, data: bytes) -> ir.Model:
    import onnx

    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:  # of a class that depends on how protobuf was built
        raise FileFormatError(path, "file", f"is no ONNX model: {error}") from error
    if not proto.HasField("graph"):
        raise FileFormatError(path, "graph", "is missing: this is no ONNX model, or an empty one")
    return _deserialized(path, proto)


def _deserialized(path: str, proto: Any) -> ir.Model:
    try:
        return ir.serde.deserialize_model(_without_maps(proto))
    except Exception as error:  # SerdeError and whatever a malformed field leads to
        cause = error.__cause__ or error
        raise FileFormatError(path, "graph", f"{type(cause).__name__}: {cause}") from error


def _without_maps(proto: Any) -> Any:
    """The model, without the types of outputs that are maps (of ZipMap): onnx_ir has no such type."""
    outputs = [place for place, value in enumerate(proto.graph.output) if _is_map(value.type)]
    if not outputs:
        return proto
    copied = type(proto)()
    copied.CopyFrom(proto)
    for place in outputs:
        copied.graph.output[place].ClearField("type")
    return copied


def _is_map(declared: Any) -> bool:
    kind = declared.WhichOneof("value")
    return kind == "map_type" or (kind == "sequence_type" and _is_map(declared.sequence_type.elem_type))


class _Builder:
    """Makes programs of the graphs of one model."""

    def __init__(self, path: str, model: ir.Model, device: Device) -> None:
        self._path, self._device = path, device
        self._programs: dict[Any, Program] = {}
        self._functions = model.functions
        self.missing: dict[str, str] = {}

    def program(
        self,
        graph: ir.Graph | ir.Function,
        opsets: Mapping[str, int],
        depth: int,
        given: Mapping[str, ir.Attr] | None = None,
    ) -> Program:
        """The program of a graph; `given` are the attributes of the function that it stands in."""
        name = graph.name or "graph"
        if depth > _MAX_DEPTH:
            raise FileFormatError(self._path, f"graph {name!r}", f"stands in more than {_MAX_DEPTH} others")
        constants: dict[str, Value] = {}
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                constants[value.name or ""] = self._constant(value.name or "", value.const_value)
        steps = []
        for node in self._in_order(graph, name):
            if node.op_type == "Constant" and not node.domain:
                constants[node.outputs[0].name or ""] = self._constant_node(node, given or {})
            else:
                steps.append(self._step(node, opsets, depth, given or {}))
        ports = [tuple(_port(value) for value in values) for values in (graph.inputs, graph.outputs)]
        return Program(name, ports[0], ports[1], constants, tuple(steps))

    def _in_order(self, graph: ir.Graph | ir.Function, name: str) -> list[ir.Node]:
        """The nodes in an order in which they can run. Raises GraphError."""
        nodes = list(graph)
        place = {id(value): index for index, node in enumerate(nodes) for value in node.outputs}
        reads = (
            (index, place[id(value)])
            for index, node in enumerate(nodes)
            for value in _all_inputs(node)
            if id(value) in place
        )
        if all(made < index for index, made in reads):
            return nodes
        try:
            graph.sort()
        except ValueError as error:
            raise GraphError(f"{self._path}: graph {name!r}: its nodes form a cycle: none of them can run") from error
        return list(graph)

    def _step(self, node: ir.Node, opsets: Mapping[str, int], depth: int, given: Mapping[str, ir.Attr]) -> Step:
        domain = "" if node.domain == "ai.onnx" else node.domain
        attributes: dict[str, Any] = {}
        programs: dict[str, Program] = {}
        for name, attribute in self._attributes(node, given).items():
            if attribute.type == ir.AttributeType.GRAPH:
                programs[name] = self.program(attribute.value, opsets, depth + 1, given)
            else:
                attributes[name] = self._attribute_value(f"{node.op_type}.{name}", attribute)
        function = self._functions.get(node.op_identifier())
        translation = None if function is not None else _translation(domain, node.op_type)
        if function is not None:
            defaults = {
                name: attribute for name, attribute in function.attributes.items() if attribute.value is not None
            }
            body = {**defaults, **self._attributes(node, given)}
            programs = {"function": self._function(function, depth, body)}
        elif translation is None:
            self.missing.setdefault(f"{domain or 'ai.onnx'}.{node.op_type}", node.name or "")
        outputs = tuple(value.name or "" for value in node.outputs)
        inputs = tuple((value.name or "") if value is not None else "" for value in node.inputs)
        version = opsets.get(domain, opsets.get("ai.onnx", 1) if not domain else 1)
        described = OperatorNode(node.op_type, domain, version, node.name or "", attributes, outputs, self._device)
        return Step(described, translation, inputs, programs)

    def _function(self, function: ir.Function, depth: int, given: Mapping[str, ir.Attr]) -> Program:
        """The program of a function for the attributes that are given to it: one for all calls that give the same."""
        plain = all(isinstance(attribute.value, int | float | str) for attribute in given.values())
        key = (function.identifier(), *sorted((name, attribute.value) for name, attribute in given.items() if plain))
        if not plain or key not in self._programs:
            program = self.program(function, function.opset_imports, depth + 1, given)
            if not plain:
                return program
            self._programs[key] = program
        return self._programs[key]

    def _attributes(self, node: ir.Node, given: Mapping[str, ir.Attr]) -> dict[str, ir.Attr]:
        """The attributes of a node, those that refer to the function's replaced by what was given to it."""
        found = {}
        for name, attribute in node.attributes.items():
            if not attribute.is_ref():
                found[name] = attribute
            elif (outer := given.get(attribute.ref_attr_name or "")) is not None:
                found[name] = outer
        return found

    def _attribute_value(self, where: str, attribute: ir.Attr) -> Any:
        kind, value = attribute.type, attribute.value
        if kind == ir.AttributeType.TENSOR:
            return self._values(where, value)
        if kind == ir.AttributeType.TENSORS:
            return [self._values(where, item) for item in value]
        if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
            return list(value)
        return value

    # ---- constants

    def _constant_node(self, node: ir.Node, given: Mapping[str, ir.Attr]) -> Value:
        name = node.outputs[0].name or ""
        attributes = self._attributes(node, given)
        if len(attributes) != 1:
            raise FileFormatError(self._path, f"Constant {name!r}", f"has {len(attributes)} attributes instead of 1")
        ((kind, attribute),) = attributes.items()
        if kind == "value":
            return self._constant(name, attribute.value)
        dtypes = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
        if kind in dtypes:
            return from_host(np.array(attribute.value, dtypes[kind]), self._device)
        if kind in ("value_string", "value_strings"):
            return np.array(attribute.value, object)
        raise UnsupportedOperatorError(f"{self._path}: Constant {name!r}: {kind} is not supported")

    def _constant(self, name: str, tensor: Any) -> Value:
        values = self._values(f"tensor {name!r}", tensor)
        held = from_host(values, self._device)
        if isinstance(held, np.ndarray):
            return held
        raw = values.view(np.uint16) if values.dtype.name == "bfloat16" else values
        return constant(np.ascontiguousarray(raw), held.dtype, values.shape, name=name, device=self._device)

    def _values(self, where: str, tensor: Any) -> npt.NDArray[Any]:
        """The values of a tensor of the file. Raises FileFormatError."""
        if tensor is None:
            raise FileFormatError(self._path, where, "has no values")
        if isinstance(tensor, ir.ExternalTensor):
            self._check_external(where, tensor)
        sizes = [size if isinstance(size, int) else -1 for size in tensor.shape]
        if any(size < 0 for size in sizes):
            raise FileFormatError(self._path, where, f"has the shape {sizes}: sizes are whole numbers from 0 on")
        try:
            values = np.asarray(tensor.numpy())
        except Exception as error:
            raise FileFormatError(self._path, where, f"its values cannot be read: {error}") from error
        if values.dtype.kind in "OS":
            values = np.array([_text(item) for item in values.reshape(-1)], object).reshape(values.shape)
        if list(values.shape) != sizes:
            raise FileFormatError(self._path, where, f"has the shape {sizes}, but values for {list(values.shape)}")
        return values

    def _check_external(self, where: str, tensor: ir.ExternalTensor) -> None:
        """External data must be a plain file below the model's folder. Raises FileFormatError."""
        location, folder = str(tensor.location), Path(self._path).absolute().parent
        try:
            problem = self._external_problem(folder.resolve(), location, tensor.offset or 0, tensor.length or 0)
        except (OSError, ValueError, RuntimeError) as error:  # no name of a file, a circle of links
            problem = str(error)
        if problem:
            raise FileFormatError(self._path, f"{where}, external data {location[:200]!r}", problem)
        tensor.base_dir = folder  # wherever in the model it stands

    def _external_problem(self, folder: Path, location: str, offset: int, length: int) -> str:
        """What is wrong with a place of external data; "" if nothing."""
        place = folder / location
        if self._path.startswith("<"):
            return "a model that is not read from a file has no folder to find it in: load it by its path"
        if os.path.isabs(location) or ".." in Path(location).parts or "\\" in location:
            return "it must be a relative path below the model's folder"
        if place.resolve() != place:
            return "it goes over a symbolic link"
        if not place.exists():
            return "there is no such file"
        if not stat.S_ISREG(place.stat().st_mode) or place.stat().st_nlink != 1:
            return "it must be a plain file with one name (no hard link)"
        if offset < 0 or offset + length > place.stat().st_size:
            return f"offset {offset} and length {length} go past its {place.stat().st_size} bytes"
        return ""


def _translation(domain: str, op_type: str) -> Registration | None:
    return translation_of(domain, op_type) or (own_operator(domain, op_type) if domain else None)


def _all_inputs(node: ir.Node) -> Iterable[ir.Value]:
    """What a node and its subgraphs read."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            for inner in attribute.value:
                yield from _all_inputs(inner)
            yield from attribute.value.outputs


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _port(value: ir.Value) -> Port:
    kind, inner = "tensor", value.type
    if isinstance(inner, ir.OptionalType):
        kind, inner = "optional", inner.elem_type
    if isinstance(inner, ir.SequenceType):
        kind, inner = kind if kind == "optional" else "sequence", inner.elem_type
    code = int(inner.dtype) if isinstance(inner, ir.TensorType) else 0
    if value.shape is None or kind != "tensor":
        return Port(value.name or "", kind, code)
    return Port(value.name or "", kind, code, tuple(map(_size, value.shape)))


def _size(size: Any) -> int | str | None:
    """A size as declared; those that exporters write where they know none ("?", -1) are unknown."""
    found = size if isinstance(size, int) else size.value
    unknown = found in ("", "?", "-1") or (isinstance(found, int) and found < 0)
    return None if unknown else found
