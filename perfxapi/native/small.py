"""Small eager calls: run from a description that is made once for all calls of a signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perfxapi.allocator import ALIGNMENT
from perfxapi.backend import Block, Launcher, OpCall
from perfxapi.native.calls import NativeKernel
from perfxapi.ops.spec import Cost, TensorSpec, op_spec

_MAX_OPERANDS = 3
"""As many as `perfx_run_small` takes."""
_MAX_COST = Cost(nbytes=1 << 22, flops=1 << 24)
"""Past this, what dispatch costs does not matter, and how the work is done does."""
_MAX_ALONE = Cost(nbytes=1 << 16, flops=1 << 19)
"""Up to this, waking the pool costs more than what its other threads save: the calling thread does it alone."""
_MAX_WORKSPACE = 1 << 22
"""Bytes of scratch memory that a thread of the program may keep for each thread that computes."""
_SLAB_BLOCKS, _SLAB_BYTES = 16, 16384
"""Small results are cut from slabs of so many, of this size at most. A result that is kept keeps its slab."""


def small_launcher(find_pool: Callable[[], Any], kernel: NativeKernel, call: OpCall) -> Launcher | None:
    """What runs calls like this one, on the pool where they are worth it; None for those that are not small."""
    cost = _cost(call)
    if cost is None or len(call.inputs) + len(call.outputs) > _MAX_OPERANDS or not _within(cost, _MAX_COST):
        return None
    library = kernel.backend.library
    struct, keep = kernel.backend.build_call(call, with_data=False)
    alone = _within(cost, _MAX_ALONE)
    num_threads = 1 if alone else kernel.backend.num_threads
    workspace = kernel.workspace_of(struct, num_threads)
    if workspace > num_threads * _MAX_WORKSPACE:
        return None
    pool = library.ffi.NULL if alone else find_pool()
    fields = {"run": kernel.entry.run, "call": struct, "pool": pool, "workspace_bytes": workspace}
    small = library.ffi.new("PxSmallCall*", fields)
    run, null = library.lib.perfx_run_small, library.ffi.NULL
    free: list[Block] = []
    take, refill = free.pop, _refill(free, call.outputs[0].nbytes, library.ffi.from_buffer)

    # the status of a kernel that went well is 0; what `small` points to is a default, to live as long as the function
    def launch_unary(x: Any, _keep: Any = (struct, keep, pool)) -> Block | None:
        try:
            block = take()
        except IndexError:
            block = refill()
        return None if run(small, x, block[0], null) else block

    def launch_binary(x: Any, y: Any, _keep: Any = (struct, keep, pool)) -> Block | None:
        try:
            block = take()
        except IndexError:
            block = refill()
        return None if run(small, x, y, block[0]) else block

    return launch_unary if len(call.inputs) == 1 else launch_binary


def _refill(free: list[Block], nbytes: int, pointer_to: Callable[[Any], Any]) -> Callable[[], Block]:
    """Cuts a new slab into blocks of `nbytes` bytes: all but the returned one are put into `free`."""
    step = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
    starts = range(0, max(min(_SLAB_BYTES // step, _SLAB_BLOCKS), 1) * step, step)

    def refill() -> Block:
        slab: Any = np.empty(len(starts) * step, np.uint8)
        first = pointer_to(slab)
        blocks = [(first + start, slab, start, nbytes) for start in starts]
        free.extend(blocks[1:])
        return blocks[0]

    return refill


def _cost(call: OpCall) -> Cost | None:
    """What a call costs; None where that is not known, or where it does more than make one result."""
    spec = op_spec(call.op)
    if spec.cost is None or spec.mutates or spec.state or len(call.outputs) != 1:
        return None
    return spec.cost([TensorSpec(view.shape, view.dtype) for view in call.inputs], call.attributes)


def _within(cost: Cost, limit: Cost) -> bool:
    return cost.flops <= limit.flops and cost.nbytes <= limit.nbytes
