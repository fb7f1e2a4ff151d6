"""Small eager calls: run by the calling thread, from a description that is made once for all calls of a signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perfxapi.allocator import ALIGNMENT
from perfxapi.backend import Block, Launcher, OpCall
from perfxapi.native.calls import NativeKernel
from perfxapi.native.library import NativeLibrary
from perfxapi.ops.spec import TensorSpec, op_spec

_MAX_OPERANDS = 3
"""As many as `perfx_run_small` takes."""
_MAX_FLOPS = 8192
_MAX_BYTES = 65536
"""Past these, waking the pool costs less than what its other threads save."""
_SLAB_BYTES = 1024
"""Small results are cut from slabs of this size. A result that is kept keeps its slab, so it is no larger."""


def small_launcher(
    library: NativeLibrary, kernel: NativeKernel, call: OpCall, struct: Any, keep: Any
) -> Launcher | None:
    """What runs calls like this one. `struct` is its PxCall without addresses; `keep` is what that points to."""
    if len(call.inputs) + len(call.outputs) > _MAX_OPERANDS or not _is_small(call) or kernel.workspace_of(struct):
        return None
    small = library.ffi.new("PxSmallCall*", {"run": kernel.entry.run, "call": struct})
    run, null = library.lib.perfx_run_small, library.ffi.NULL
    free: list[Block] = []
    take, refill = free.pop, _refill(free, call.outputs[0].nbytes, library.ffi.from_buffer)

    # the status of a kernel that went well is 0; what `small` points to is a default, to live as long as the function
    def launch_unary(x: Any, _keep: Any = (struct, keep)) -> Block | None:
        try:
            block = take()
        except IndexError:
            block = refill()
        return None if run(small, x, block[0], null) else block

    def launch_binary(x: Any, y: Any, _keep: Any = (struct, keep)) -> Block | None:
        try:
            block = take()
        except IndexError:
            block = refill()
        return None if run(small, x, y, block[0]) else block

    return launch_unary if len(call.inputs) == 1 else launch_binary


def _refill(free: list[Block], nbytes: int, pointer_to: Callable[[Any], Any]) -> Callable[[], Block]:
    """Cuts a new slab into blocks of `nbytes` bytes: all but the returned one are put into `free`."""
    step = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
    starts = range(0, max(_SLAB_BYTES // step, 1) * step, step)

    def refill() -> Block:
        slab: Any = np.empty(len(starts) * step, np.uint8)
        first = pointer_to(slab)
        blocks = [(first + start, slab, start, nbytes) for start in starts]
        free.extend(blocks[1:])
        return blocks[0]

    return refill


def _is_small(call: OpCall) -> bool:
    spec = op_spec(call.op)
    if spec.cost is None or spec.mutates or spec.state or len(call.outputs) != 1:
        return False
    cost = spec.cost([TensorSpec(view.shape, view.dtype) for view in call.inputs], call.attributes)
    return cost.flops <= _MAX_FLOPS and cost.nbytes <= _MAX_BYTES
