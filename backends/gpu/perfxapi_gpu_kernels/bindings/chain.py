"""Chains of functions of elements: each is a program of its own."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi.ops.chain import STEPS
from perfxapi.ops.spec import op_spec
from perfxapi_gpu_kernels.bindings.walking import check_walkable, grid, vector_width, walk_of
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import Program, program_with

_Rows = tuple[tuple[int, int, int], ...]


def _accepts(call: OpCall, properties: Properties) -> str | None:
    if not call.inputs[0].buffer.constant:
        return "a chain that is not known when its kernel is made"
    return check_walkable(call)


@bind_op("elementwise_chain", accepts=_accepts)
def _chain(request: Request) -> list[Launch]:
    rows, *operands = request.call.inputs
    (out,), properties = request.call.outputs, request.properties
    if 0 in out.shape:
        return []
    bits = [_constant_bits(view) for view in operands]
    read = [view for view, constant in zip(operands, bits, strict=True) if constant is None] or operands[:1]
    walk, width = walk_of(out.shape, out, *read), vector_width(properties, "float32")
    made = _program(tuple(map(tuple, rows.host().tolist())), tuple(bits), width)
    groups, local, tiles = grid(walk, properties, width)
    numbers = (np.int64(walk.columns), np.int32(walk.rows), np.int32(tiles))
    return [Launch(made, "chain", groups, local, (out, *read, walk.structure_for(1 + len(read)), *numbers))]


def _constant_bits(view: View) -> int | None:
    """The bits of a constant of one element, which become part of the program; None for all else."""
    if not view.buffer.constant or any(size != 1 for size in view.shape):
        return None
    return int(view.host().reshape(-1).view(np.uint32)[0])


@lru_cache(maxsize=1024)
def _program(rows: _Rows, bits: tuple[int | None, ...], width: int) -> Program:
    """The program of a chain; `bits` has a number for each operand that is one."""
    names, steps, count = list[str](), list[str](), 0
    for index, constant in enumerate(bits):
        if constant is None:
            names.append(f"v{count}")
            steps.append(f"READ_OPERAND({count});")
            count += 1
        else:
            names.append(f"c{index}")
            steps.append(f"numbers c{index} = (numbers)AS_FLOAT(0x{constant:08x}u);")
    for index, (step, *places) in enumerate(rows):
        given = ", ".join(names[place] for place in places[: len(op_spec(STEPS[step]).inputs)])
        steps.append(f"numbers s{index} = apply_{STEPS[step]}({given});")
        names.append(f"s{index}")
    count = max(count, 1)
    chain: dict[str, str | int] = {
        "CHAIN_OPERANDS": ", ".join(f"CONST_OPERAND(float, x{index})" for index in range(count)),
        "CHAIN_STEPS": " ".join(steps),
        "CHAIN_RESULT": names[-1],
        "COMPUTE": "float32",
        "MAX_WALKED": count + 1,
        "WIDTH": width,
    }
    return program_with("chain", chain)
