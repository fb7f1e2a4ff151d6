"""What is done with the table of a vocabulary: embedding, and the largest logits."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi_gpu_kernels.bindings.activation import softcap_launch
from perfxapi_gpu_kernels.bindings.linear import product_launch
from perfxapi_gpu_kernels.bindings.products import (
    aligned,
    formats_of,
    operands_of,
    packed_weight,
    product_workspace,
    refuse_product,
    split,
)
from perfxapi_gpu_kernels.bindings.rows import num_segments, topk_launches
from perfxapi_gpu_kernels.division import lanes_of
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.packing import FORMATS, padded_columns
from perfxapi_gpu_kernels.sources import program

_GROUP = 64


def _accepts_embedding(call: OpCall, properties: Properties) -> str | None:
    tokens, table = call.inputs
    if tokens.dtype.name != "int32" or not tokens.is_contiguous:
        return f"embedding of tokens that are {tokens.dtype.name} or have gaps"
    if table.dtype.name not in FORMATS:
        return f"embedding out of a table of {table.dtype.name}"
    return None if table.buffer.constant else "embedding out of a table that is not constant"


@bind_op("embedding", accepts=_accepts_embedding)
def _embedding(request: Request) -> list[Launch]:
    tokens, table = request.call.inputs
    count, (rows, columns) = int(tokens.shape[0]), (int(size) for size in table.shape)
    if not count or not rows or not columns:
        return []
    padded = padded_columns(columns)
    words = padded // FORMATS[table.dtype.name].columns_of_word
    division = {"WIDTH": 1, "LANES": lanes_of(request.properties), "TILES": 1, "TOKENS": 1, "SLICES": 1}
    return [
        Launch(
            program("embedding", GROUP=_GROUP, **formats_of([table]), **division),
            "embedding",
            (count, -(-words // _GROUP), 1),
            (_GROUP, 1, 1),
            (
                tokens,
                packed_weight(request, table),
                request.call.outputs[0],
                *(np.int32(size) for size in (rows, columns, padded)),
                np.float32(request.call.attributes["scale"]),
            ),
            checks=True,
        )
    ]


def _topk_bytes(call: OpCall) -> tuple[int, int]:
    """Scratch memory for the logits, and for the largest of each of their segments."""
    rows, vocabulary = int(call.inputs[0].shape[0]), int(call.inputs[1].shape[0])
    return aligned(4 * rows * vocabulary), aligned(8 * rows * num_segments(vocabulary))


def _vocab_topk_workspace(call: OpCall, properties: Properties) -> int:
    logits, bests = _topk_bytes(call)
    return product_workspace(call, properties) + logits * (2 if call.attributes["softcap"] else 1) + bests


@bind_op("vocab_topk", accepts=refuse_product, workspace=_vocab_topk_workspace)
def _vocab_topk(request: Request) -> list[Launch]:
    call, operands = request.call, operands_of(request)
    if operands is None:
        return []
    nbytes = _topk_bytes(call)
    rows, vocabulary, softcap = int(call.inputs[0].shape[0]), int(call.inputs[1].shape[0]), call.attributes["softcap"]
    bests, rest = split(operands.rest, nbytes[1])
    logits, rest = split(rest, nbytes[0])
    launches = [*operands.launches, product_launch(request, operands, [logits], slice(0, 1))]
    if softcap:
        launches.append(softcap_launch(request.properties, logits, rest, rows * vocabulary, softcap))
        logits = rest
    return [*launches, *topk_launches(request.properties, logits, vocabulary, (rows, vocabulary), bests, call.outputs)]
