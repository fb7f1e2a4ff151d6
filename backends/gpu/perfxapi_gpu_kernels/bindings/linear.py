"""Products with weights of any storage dtype: `linear`, `multi_linear`, `gated_linear`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi.quantization.products import ACTIVATION_LEVELS
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.packing import FORMATS, pack, padded_columns
from perfxapi_gpu_kernels.sources import program

_ALIGNMENT = 256
_SUM_COLUMNS = 16
_MAX_WEIGHTS = 3
"""Weights that one launch multiplies with."""


class Shape(NamedTuple):
    """How work is divided: see `linear_tile.h`. `lanes` and `slices` hold for all products of a device and weight."""

    width: int
    lanes: int
    tiles: int
    tokens: int
    slices: int


def lanes_of(properties: Properties) -> int:
    """Rows of a tile."""
    return 16 if properties.is_processor else 32


def shape_of(properties: Properties, tokens: int, rows: int, columns: int) -> Shape:
    """How a product of so many tokens with a weight is divided."""
    many = 8 if tokens >= 6 else 4 if tokens > 2 else tokens
    if properties.is_processor:
        return Shape(16, 16, 4 if many <= 2 else 2, many, 1)
    return Shape(1, 32, 2 if many > 1 else 1, many, 4)


class Activations(NamedTuple):
    """Prepared activations in scratch memory, and the launch that prepares them."""

    rounded: Region
    sums: Region
    launch: Launch


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def activation_bytes(x: View) -> tuple[int, int]:
    """Scratch memory for the prepared activations and for their sums."""
    count = int(x.shape[0]) * padded_columns(int(x.shape[1]))
    return _aligned(4 * count), _aligned(4 * count // _SUM_COLUMNS)


def prepare(request: Request, scratch: Region) -> Activations:
    """The activations of a product, the first operand of its call, as kernels take them."""
    x, properties = request.call.inputs[0], request.properties
    nbytes, sum_bytes = activation_bytes(x)
    rounded = Region(scratch.memory, scratch.offset, nbytes)
    sums = Region(scratch.memory, scratch.offset + nbytes, sum_bytes)
    tokens, columns = (int(size) for size in x.shape)
    group = 16 if properties.is_processor else 64
    strides = (np.int64(int(stride) // x.dtype.itemsize) for stride in x.strides)
    padded = padded_columns(columns)
    sizes = (np.int32(tokens), np.int32(columns), np.int32(padded))
    launch = Launch(
        program(
            "linear_activations",
            GROUP=group,
            LEVELS=ACTIVATION_LEVELS.get(request.call.attributes["activation_format"], 0),
        ),
        "prepare_activations",
        (-(-tokens * padded // 32 // group), 1, 1),
        (group, 1, 1),
        (x, rounded, sums, *sizes, *strides),
    )
    return Activations(rounded, sums, launch)


def refuse_product(call: OpCall, weights: Sequence[View]) -> str | None:
    """None, or why a product with these weights does not run here."""
    x = call.inputs[0]
    if x.dtype.name != "float32":
        return f"{call.op} of {x.dtype.name}"
    for weight in weights:
        if weight.dtype.name not in FORMATS:
            return f"{call.op} with a weight of {weight.dtype.name}"
        if weight.dtype.is_quantized and not weight.buffer.constant:
            return f"{call.op} with a quantized weight that is not constant"
    return None


def packed_weight(request: Request, weight: View) -> Region:
    """A constant weight in the device's form, made once."""
    lanes = lanes_of(request.properties)
    (region,) = request.packed(weight, ("linear", lanes), lambda: [pack(weight, lanes)])
    packed: Region = region
    return packed


def variable_bytes(weights: Sequence[View], properties: Properties) -> int:
    """Scratch memory for the packed forms of weights that are not constant."""
    return sum(_packed_bytes(weight, properties) for weight in weights if not weight.buffer.constant)


def _packed_bytes(weight: View, properties: Properties) -> int:
    rows, columns = (int(size) for size in weight.shape)
    return _aligned(FORMATS[weight.dtype.name].nbytes(rows, padded_columns(columns), lanes_of(properties)))


def packed_weights(request: Request, weights: Sequence[View], scratch: Region) -> tuple[list[Region], list[Launch]]:
    """Weights in the device's form; those that are not constant are packed into scratch memory by the launches."""
    regions, launches, offset = [], [], scratch.offset
    for weight in weights:
        if weight.buffer.constant:
            regions.append(packed_weight(request, weight))
            continue
        nbytes = _packed_bytes(weight, request.properties)
        regions.append(Region(scratch.memory, offset, nbytes))
        launches.append(_packing(weight, regions[-1], request.properties))
        offset += nbytes
    return regions, launches


def _packing(weight: View, packed: Region, properties: Properties) -> Launch:
    rows, columns = (int(size) for size in weight.shape)
    lanes, padded = lanes_of(properties), padded_columns(columns)
    strides = (np.int64(int(stride) // weight.dtype.itemsize) for stride in weight.strides)
    words = padded // FORMATS[weight.dtype.name].columns_of_word
    return Launch(
        program("linear_packing", LANES=lanes, ELEMENT="uint32_t" if weight.dtype.itemsize == 4 else "uint16_t"),
        "pack_floats",
        (words, -(-rows // lanes), 1),
        (lanes, 1, 1),
        (weight, packed, np.int32(rows), np.int32(columns), np.int32(words), *strides),
    )


def _is_empty(call: OpCall) -> bool:
    return any(0 in view.shape for view in call.outputs)


def _shape_defines(shape: Shape) -> dict[str, int]:
    names = ("WIDTH", "LANES", "TILES", "TOKENS", "SLICES")
    return dict(zip(names, shape, strict=True))


def _accepts(call: OpCall, properties: Properties) -> str | None:
    return refuse_product(call, call.inputs[1:])


def product_workspace(call: OpCall, properties: Properties) -> int:
    """Scratch memory of a product: prepared activations, and weights that are not constant."""
    return sum(activation_bytes(call.inputs[0])) + variable_bytes(call.inputs[1:], properties)


def _scratch_after(scratch: Region, nbytes: int) -> Region:
    return Region(scratch.memory, scratch.offset + nbytes, scratch.nbytes - nbytes)


def products(
    request: Request,
    activations: Activations,
    weights: Sequence[View],
    packed: Sequence[Region],
    outputs: Sequence[View],
) -> list[Launch]:
    """The products of prepared activations with packed weights, some weights a launch."""
    return [
        _product(request, activations, weights[i : i + _MAX_WEIGHTS], packed[i:], outputs[i:])
        for i in range(0, len(weights), _MAX_WEIGHTS)
    ]


def _product(
    request: Request,
    activations: Activations,
    weights: Sequence[View],
    packed: Sequence[Region],
    outputs: Sequence[View],
) -> Launch:
    tokens, columns = (int(size) for size in request.call.inputs[0].shape)
    shape = shape_of(request.properties, tokens, max(int(weight.shape[0]) for weight in weights), columns)
    formats = {f"FORMAT{i}": FORMATS[weight.dtype.name].arguments for i, weight in enumerate(weights)}
    arguments: list[object] = []
    groups = 0
    for weight, region, output in zip(weights, packed, outputs, strict=False):
        rows = int(weight.shape[0])
        arguments += [region, output, np.int32(rows)]
        groups += -(-rows // (shape.lanes * shape.tiles))
    sizes = (np.int32(tokens), np.int32(padded_columns(columns)))
    return Launch(
        program("linear", WEIGHTS=len(weights), **formats, **_shape_defines(shape)),
        "linear",
        (-(-tokens // shape.tokens), groups, 1),
        (shape.lanes // shape.width, shape.slices, 1),
        (activations.rounded, activations.sums, *sizes, *arguments),
    )


@bind_op("linear", "multi_linear", accepts=_accepts, workspace=product_workspace)
def _linear(request: Request) -> list[Launch]:
    call = request.call
    x, *weights = call.inputs
    if _is_empty(call) or request.workspace is None:
        return []
    activations = prepare(request, request.workspace)
    scratch = _scratch_after(request.workspace, sum(activation_bytes(x)))
    packed, packing = packed_weights(request, weights, scratch)
    return [*packing, activations.launch, *products(request, activations, weights, packed, call.outputs)]


@bind_op("gated_linear", accepts=_accepts, workspace=product_workspace)
def _gated_linear(request: Request) -> list[Launch]:
    call = request.call
    x, *weights = call.inputs
    if _is_empty(call) or request.workspace is None:
        return []
    activations = prepare(request, request.workspace)
    scratch = _scratch_after(request.workspace, sum(activation_bytes(x)))
    packed, packing = packed_weights(request, weights, scratch)
    tokens, columns = (int(size) for size in x.shape)
    rows = int(weights[0].shape[0])
    shape = shape_of(request.properties, tokens, rows, columns)
    formats = {f"FORMAT{i}": FORMATS[weight.dtype.name].arguments for i, weight in enumerate(weights)}
    sizes = (np.int32(tokens), np.int32(padded_columns(columns)))
    launch = Launch(
        program("gated_linear", ACTIVATION=call.attributes["activation"], **formats, **_shape_defines(shape)),
        "gated_linear",
        (-(-tokens // shape.tokens), -(-rows // (shape.lanes * shape.tiles)), 1),
        (shape.lanes // shape.width, shape.slices, 1),
        (activations.rounded, activations.sums, *sizes, *packed, call.outputs[0], np.int32(rows)),
    )
    return [*packing, activations.launch, launch]
