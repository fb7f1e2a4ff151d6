"""What products with packed weights have in common: which are taken, and what kernels are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi.quantization.products import ACTIVATION_BLOCK, ACTIVATION_LEVELS
from perfxapi_gpu_kernels.division import lanes_of
from perfxapi_gpu_kernels.driver import Properties, Region
from perfxapi_gpu_kernels.launches import Launch, Request
from perfxapi_gpu_kernels.packing import FORMATS, pack, padded_columns
from perfxapi_gpu_kernels.sources import program

_ALIGNMENT = 256
_SUM_COLUMNS = 16


def refuse_product(call: OpCall, properties: Properties) -> str | None:
    """None, or why a product of the first operand with the others does not run here."""
    x, *weights = call.inputs
    if x.dtype.name != "float32":
        return f"{call.op} of {x.dtype.name}"
    for weight in weights:
        if weight.dtype.name not in FORMATS:
            return f"{call.op} with a weight of {weight.dtype.name}"
        if weight.dtype.is_quantized and not weight.buffer.constant:
            return f"{call.op} with a quantized weight that is not constant"
    return None


def product_workspace(call: OpCall, properties: Properties) -> int:
    """Scratch memory: prepared activations, their sums, and the packed forms of weights that are not constant."""
    variable = (weight for weight in call.inputs[1:] if not weight.buffer.constant)
    return sum(_activation_bytes(call.inputs[0])) + sum(_packed_bytes(weight, properties) for weight in variable)


class Operands(NamedTuple):
    """Operands in device memory as kernels take them, the launches that make them so, and the scratch memory left."""

    rounded: Region
    sums: Region
    tokens: int
    columns: int
    weights: tuple[Region, ...]
    launches: tuple[Launch, ...]
    rest: Region

    @property
    def activations(self) -> tuple[Region, Region, np.int32, np.int32]:
        """The first arguments of each product."""
        return self.rounded, self.sums, np.int32(self.tokens), np.int32(self.columns)


def operands_of(request: Request) -> Operands | None:
    """The operands of a call; None where it has nothing to compute."""
    x, *weights = request.call.inputs
    if request.workspace is None or any(0 in view.shape for view in request.call.outputs):
        return None
    rounded, rest = split(request.workspace, _activation_bytes(x)[0])
    sums, rest = split(rest, _activation_bytes(x)[1])
    packed, launches = [], [_preparation(request, rounded, sums)]
    for weight in weights:
        if weight.buffer.constant:
            packed.append(packed_weight(request, weight))
        else:
            region, rest = split(rest, _packed_bytes(weight, request.properties))
            packed.append(region)
            launches.append(_packing(weight, region, request.properties))
    sizes = int(x.shape[0]), padded_columns(int(x.shape[1]))
    return Operands(rounded, sums, *sizes, tuple(packed), tuple(launches), rest)


def packed_weight(request: Request, weight: View) -> Region:
    """A constant weight in the device's form, made once."""
    lanes = lanes_of(request.properties)
    region: Region = request.packed(weight, ("linear", lanes), lambda: [pack(weight, lanes)])[0]
    return region


def formats_of(weights: Sequence[View]) -> dict[str, str]:
    """The formats of weights as defines."""
    return {f"FORMAT{index}": FORMATS[weight.dtype.name].arguments for index, weight in enumerate(weights)}


def split(region: Region, nbytes: int) -> tuple[Region, Region]:
    """The first bytes of a region, and the rest."""
    rest = Region(region.memory, region.offset + nbytes, region.nbytes - nbytes)
    return Region(region.memory, region.offset, nbytes), rest


def aligned(nbytes: int) -> int:
    """Bytes of scratch memory, so that what follows is aligned."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _activation_bytes(x: View) -> tuple[int, int]:
    """Scratch memory for the prepared activations and for their sums."""
    count = int(x.shape[0]) * padded_columns(int(x.shape[1]))
    return aligned(4 * count), aligned(4 * count // _SUM_COLUMNS)


def _packed_bytes(weight: View, properties: Properties) -> int:
    rows, columns = (int(size) for size in weight.shape)
    return aligned(FORMATS[weight.dtype.name].nbytes(rows, padded_columns(columns), lanes_of(properties)))


def _element_strides(view: View) -> tuple[np.int64, ...]:
    return tuple(np.int64(int(stride) // view.dtype.itemsize) for stride in view.strides)


def _preparation(request: Request, rounded: Region, sums: Region) -> Launch:
    """The launch that rounds the activations and sums them."""
    x = request.call.inputs[0]
    tokens, columns = (int(size) for size in x.shape)
    padded, on_vectors = padded_columns(columns), request.properties.is_processor
    levels = ACTIVATION_LEVELS.get(request.call.attributes["activation_format"], 0)
    blocks = tokens * padded // ACTIVATION_BLOCK
    group = 4 if on_vectors else 8
    return Launch(
        program("linear_activations", GROUP=group, LEVELS=levels, WIDTH=16 if on_vectors else 1),
        "prepare_activations",
        (-(-blocks // group), 1, 1),
        (1, 1, 1) if on_vectors else (ACTIVATION_BLOCK, group, 1),
        (x, rounded, sums, np.int32(tokens), np.int32(columns), np.int32(padded), *_element_strides(x)),
    )


def _packing(weight: View, packed: Region, properties: Properties) -> Launch:
    """The launch that packs a weight that is not constant."""
    rows, columns = (int(size) for size in weight.shape)
    lanes = lanes_of(properties)
    words = padded_columns(columns) // FORMATS[weight.dtype.name].columns_of_word
    return Launch(
        program("linear_packing", LANES=lanes, ELEMENT="uint32_t" if weight.dtype.itemsize == 4 else "uint16_t"),
        "pack_floats",
        (words, -(-rows // lanes), 1),
        (lanes, 1, 1),
        (weight, packed, np.int32(rows), np.int32(columns), np.int32(words), *_element_strides(weight)),
    )
