"""Functions of elements: arithmetic, comparisons, conversions, choices and copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.dtypes import DType, dtype_of, result_type
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.walking import Walk, check_walkable, grid, in_large_blocks, vector_width, walk_of
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_REAL_FUNCTIONS = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "exp", "expm1", "floor"),
    *("log", "log10", "log1p", "log2", "round", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"),
    *("atan2", "copysign", "divide", "hypot", "logaddexp"),
)
_WHOLE_FUNCTIONS = ("bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor")
_COMPARISONS = ("equal", "less", "less_equal")
_FUNCTIONS = (
    *("abs", "sign", "add", "subtract", "multiply", "floor_divide", "remainder", "pow", "maximum", "minimum"),
    *_COMPARISONS,
)
_MIXED = {"float16": "float32", "bfloat16": "float32"}
_NARROW = {"bool", "int8", "int16", "uint8", "uint16"}
_TILE, _TILE_HEIGHT = 32, 8
"""A tile that is transposed has so many columns and rows; as many columns and fewer rows of work-items share it."""
_SPECIALIZED = ("float32", "copy4")
"""What has programs of its own for numbers beside rows."""


def computed_in(dtype: DType) -> str:
    """The dtype in which kernels compute with elements of a dtype (COMPUTE of elements.h)."""
    return "int32" if dtype.name in _NARROW else _MIXED.get(dtype.name, dtype.name)


def check_computable(dtype: DType, properties: Properties) -> str | None:
    """None, or why kernels do not compute with a dtype."""
    if dtype.kind in ("complex", "quantized"):
        return f"no arithmetic of {dtype.name}"
    if dtype.name == "float64" and not properties.has_double:
        return "the device has no float64"
    return None


def copied_as(dtype: DType) -> str:
    """What an element is called where only its bytes are moved."""
    return f"copy{dtype.itemsize}"


def launch_elementwise(
    properties: Properties, out: View, inputs: tuple[View, ...], function: str, compute: str, **dtypes: str
) -> list[Launch]:
    """`out = function(*inputs)`, the operands broadcast to the shape of `out`.

    `dtypes` says what elements are taken as, where that is not by their own dtypes: RESULT, A, B, C.
    """
    if 0 in out.shape:
        return []
    walk = walk_of(out.shape, out, *inputs)
    taken = [dtypes.get(letter, view.dtype.name) for letter, view in zip("ABC", inputs, strict=False)]
    fits = out.dtype.name == ("bool" if function in _COMPARISONS else "float32")
    width = vector_width(properties, *taken) if fits else 1
    groups, local, tiles = grid(walk, properties, width)
    steps = walk.steps if compute in _SPECIALIZED else walk.plain_steps
    checked = function == "pow" and inputs[1].dtype.kind == "int"
    defines: dict[str, Any] = {"RESULT": out.dtype.name, "OUT_STEP": steps[0]}
    for letter, view, step in zip("ABC", inputs, steps[1:], strict=False):
        defines |= {letter: view.dtype.name, f"{letter}_STEP": step}
    defines |= {
        "FUNCTION": f"apply_{function}",
        "OPERANDS": len(inputs),
        "COMPUTE": compute,
        "CHECKED": int(checked),
        "WIDTH": width,
        **dtypes,
    }
    arguments = (walk.structure, np.int64(walk.columns), np.int32(walk.rows), np.int32(tiles))
    made = program("elementwise", **defines)
    return [Launch(made, "elementwise", groups, local, (out, *inputs, *arguments), checks=checked)]


def launch_copy(properties: Properties, out: View, source: View) -> list[Launch]:
    """`out[...] = source`, of one dtype."""
    if 0 in out.shape:
        return []
    walk, itemsize = in_large_blocks(walk_of(out.shape, out, source), out, source)
    across = _transposed_axis(walk)
    if across and itemsize < 16:
        return [_transposition(walk, across, itemsize, out, source)]
    groups, local, tiles = grid(walk, properties)
    kind, (out_step, step) = f"copy{itemsize}", walk.steps
    defines: dict[str, Any] = {"RESULT": kind, "A": kind, "COMPUTE": kind, "OUT_STEP": out_step, "A_STEP": step}
    made = program("elementwise", FUNCTION="apply_copy", OPERANDS=1, CHECKED=0, WIDTH=1, **defines)
    arguments = (out, source, walk.structure, np.int64(walk.columns), np.int32(walk.rows), np.int32(tiles))
    return [Launch(made, "elementwise", groups, local, arguments)]


def _transposed_axis(walk: Walk) -> int | None:
    """The axis along which the source is contiguous, where the result is along another and both are long."""
    target, source = walk.strides
    if target[0] != 1 or walk.columns < _TILE or 1 not in source[1:]:
        return None
    axis = source.index(1, 1)
    return axis if walk.sizes[axis] >= _TILE else None


def _transposition(walk: Walk, axis: int, itemsize: int, out: View, source: View) -> Launch:
    """A copy by way of tiles in local memory, so that reading and writing are both along memory."""
    order = [0, axis, *(other for other in range(1, len(walk.sizes)) if other != axis)]
    turned = Walk(
        tuple(walk.sizes[place] for place in order),
        tuple(tuple(strides[place] for place in order) for strides in walk.strides),
    )
    columns, rows = (-(-turned.sizes[place] // _TILE) for place in (0, 1))
    others = turned.rows // turned.sizes[1]
    made = program("transpose", KIND=f"copy{itemsize}", COMPUTE=f"copy{itemsize}", TILE=_TILE, TILE_HEIGHT=_TILE_HEIGHT)
    arguments = (out, source, turned.structure, np.int32(columns), np.int32(rows))
    return Launch(made, "transpose", (columns * rows * others, 1, 1), (_TILE, _TILE_HEIGHT, 1), arguments)


def _common_dtype(call: OpCall) -> DType:
    first, *others = call.inputs
    return result_type(first.dtype, others[0].dtype) if others else first.dtype


def _accepts(call: OpCall, properties: Properties) -> str | None:
    common = _common_dtype(call)
    problem = check_computable(common, properties) or check_walkable(call)
    if problem is None and call.op == "nextafter" and common.itemsize < 4:
        return f"no nextafter of {common.name}"
    return problem


@bind_op(*_FUNCTIONS, *_REAL_FUNCTIONS, *_WHOLE_FUNCTIONS, "nextafter", accepts=_accepts)
def _function(request: Request) -> list[Launch]:
    call = request.call
    compute = computed_in(_common_dtype(call))
    return launch_elementwise(request.properties, call.outputs[0], call.inputs, call.op, compute)


def _accepts_conversion(call: OpCall, properties: Properties) -> str | None:
    source, target = call.inputs[0].dtype, dtype_of(call.attributes["dtype"])
    if source is target:
        return check_walkable(call)
    return check_computable(source, properties) or check_computable(target, properties) or check_walkable(call)


@bind_op("astype", accepts=_accepts_conversion)
def _astype(request: Request) -> list[Launch]:
    (x,), (out,) = request.call.inputs, request.call.outputs
    if x.dtype is out.dtype:
        return launch_copy(request.properties, out, x)
    return launch_elementwise(request.properties, out, (x,), "copy", computed_in(x.dtype))


def _accepts_choice(call: OpCall, properties: Properties) -> str | None:
    _, a, b = call.inputs
    if a.dtype is b.dtype:
        return check_walkable(call)
    return check_computable(result_type(a.dtype, b.dtype), properties) or check_walkable(call)


@bind_op("where", accepts=_accepts_choice)
def _where(request: Request) -> list[Launch]:
    _, a, b = request.call.inputs
    (out,) = request.call.outputs
    if a.dtype is b.dtype:
        kind = copied_as(a.dtype)
        same = {"RESULT": kind, "B": kind, "C": kind}
        return launch_elementwise(request.properties, out, request.call.inputs, "copy", kind, **same)
    return launch_elementwise(request.properties, out, request.call.inputs, "copy", computed_in(out.dtype))


def _accepts_copy(call: OpCall, properties: Properties) -> str | None:
    return check_walkable(call)


@bind_op("assign", accepts=_accepts_copy)
def _assign(request: Request) -> list[Launch]:
    target, values = request.call.inputs
    return launch_copy(request.properties, target, values)


@bind_op("concat", accepts=_accepts_copy)
def _concat(request: Request) -> list[Launch]:
    (out,), axis = request.call.outputs, int(request.call.attributes["axis"])
    launches, place = [], 0
    for part in request.call.inputs:
        offset = out.offset + place * int(out.strides[axis])
        launches += launch_copy(request.properties, View(out.buffer, out.dtype, part.shape, out.strides, offset), part)
        place += int(part.shape[axis])
    return launches
