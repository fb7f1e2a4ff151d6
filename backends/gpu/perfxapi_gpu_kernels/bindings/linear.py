"""Products with weights of any storage dtype: `linear`, `multi_linear`, `gated_linear`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perfxapi_gpu_kernels.bindings.products import (
    Operands,
    formats_of,
    operands_of,
    product_workspace,
    refuse_product,
)
from perfxapi_gpu_kernels.division import division_of
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import program

_MAX_WEIGHTS = 3
"""Weights that one launch multiplies with."""


@bind_op("linear", "multi_linear", accepts=refuse_product, workspace=product_workspace)
def _linear(request: Request) -> list[Launch]:
    operands = operands_of(request)
    if operands is None:
        return []
    count = len(operands.weights)
    parts = (slice(i, i + _MAX_WEIGHTS) for i in range(0, count, _MAX_WEIGHTS))
    products = [product_launch(request, operands, request.call.outputs[part], part) for part in parts]
    return [*operands.launches, *products]


def product_launch(request: Request, operands: Operands, outputs: Sequence[Argument], part: slice) -> Launch:
    """The products with a part of the weights."""
    weights = request.call.inputs[1:][part]
    division = division_of(request.properties, operands.tokens)
    arguments: list[Argument] = []
    groups = 0
    for weight, packed, output in zip(weights, operands.weights[part], outputs, strict=True):
        rows = int(weight.shape[0])
        arguments += [packed, output, np.int32(rows)]
        groups += division.groups(rows)
    return Launch(
        program("linear", WEIGHTS=len(weights), **formats_of(weights), **division.defines),
        "linear",
        (-(-operands.tokens // division.tokens), groups, 1),
        division.local,
        (*operands.activations, *arguments),
    )


@bind_op("gated_linear", accepts=refuse_product, workspace=product_workspace)
def _gated_linear(request: Request) -> list[Launch]:
    operands = operands_of(request)
    if operands is None:
        return []
    _, gate, up = request.call.inputs
    rows, division = int(gate.shape[0]), division_of(request.properties, operands.tokens)
    activation = request.call.attributes["activation"]
    product = Launch(
        program("gated_linear", ACTIVATION=activation, **formats_of((gate, up)), **division.defines),
        "gated_linear",
        (-(-operands.tokens // division.tokens), division.groups(rows), 1),
        division.local,
        (*operands.activations, *operands.weights, request.call.outputs[0], np.int32(rows)),
    )
    return [*operands.launches, product]
