"""`python -m bench.gpu_linear`: products with packed weights on an OpenCL device, beside CLBlast and a reading kernel.

Each row takes turns with CLBlast's product of float32 matrices of the same sizes (`libclblast`, on the same queue) and
with a kernel that only reads: so all see the same machine. A figure is the shortest of the runs, from the first kernel
enqueued to the last one done, the rounding of the activations included. "memory" is the speed at which the bytes of the
stored weight went by, as a part of that of the kernel that reads.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyopencl as cl
from cffi import FFI

import perfxapi as px
from bench import machine
from perfxapi.backend import REGISTRY, OpCall
from perfxapi.dtypes import dtype_of
from perfxapi.memory import Buffer, View
from perfxapi.ops.linear import random_weight
from perfxapi.tables import text_table
from perfxapi_gpu_kernels import GpuBackend, Region
from perfxapi_gpu_kernels.bindings import BINDINGS
from perfxapi_gpu_kernels.runtime import Runtime

_READ_BYTES = 128 << 20
_READER = """
kernel void reader(global const uint16* memory, global uint16* sums, int count) {
  size_t group = get_global_id(0);
  uint16 first = 0, second = 0;
  for (int i = 0; i < count; i += 2) {
    first += memory[group * count + i];
    second += memory[group * count + i + 1];
  }
  sums[group] = first + second;
}
"""
_CLBLAST = """
int CLBlastSgemv(int, int, size_t, size_t, float, void*, size_t, size_t, void*, size_t, size_t, float, void*, size_t,
                 size_t, void**, void**);
int CLBlastSgemm(int, int, int, size_t, size_t, size_t, float, void*, size_t, size_t, void*, size_t, size_t, float,
                 void*, size_t, size_t, void**, void**);
"""
_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112
CASES = (
    ("linear", "int4_g128", 1, (4096,), 4096),
    ("linear", "q4_k", 1, (4096,), 4096),
    ("linear", "q8_0", 1, (4096,), 4096),
    ("linear", "float32", 1, (4096,), 4096),
    ("multi_linear", "q5_0", 1, (1024, 256, 256), 640),
    ("gated_linear", "q5_0", 1, (2048, 2048), 640),
    ("vocab_topk", "q8_0", 1, (262144,), 640),
    ("linear", "q8_0", 512, (2048,), 640),
    ("linear", "float32", 512, (2048,), 640),
    ("linear", "q4_k", 512, (4096,), 4096),
)
"""Op, dtype of the weights, tokens, rows of each weight, columns."""


class Timed(NamedTuple):
    """Something to time, what it does, and the memory that it uses, which must live as long."""

    run: Callable[[], None]
    nbytes: int
    flops: int
    memory: object


def seconds_of(runs: list[Callable[[], None]], seconds: float) -> list[float]:
    """The shortest run of each, in turns."""
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def product(runtime: Runtime, op: str, dtype: str, tokens: int, rows: tuple[int, ...], columns: int) -> Timed:
    """A product of ours, bound to memory of its own."""
    rng = np.random.default_rng(0)
    weights = [_weight(rng, dtype, count, columns) for count in rows]
    x = _view(Buffer.from_host(_bytes(rng.standard_normal((tokens, columns)))), "float32", (tokens, columns))
    x.buffer.validate(runtime.memory.name)
    attributes: dict[str, Any] = {"activation_format": "int16" if dtype_of(dtype).is_quantized else "float32"}
    widths = list(rows)
    if op == "vocab_topk":
        attributes |= {"k": 1, "softcap": 0.0}
        widths = [1, 1]
    elif op == "gated_linear":
        attributes["activation"] = "gelu_tanh"
        widths = [rows[0]]
    outputs = tuple(_view(Buffer(4 * tokens * width), "float32", (tokens, width)) for width in widths)
    call = OpCall(op, (x, *weights), outputs, attributes)
    nbytes = BINDINGS[op].workspace(call, runtime.properties)
    scratch = Region(runtime.driver.allocate(nbytes), 0, nbytes)
    bound = [runtime.bind(launch, 1) for launch in runtime.launches(BINDINGS[op], call, scratch)]

    def run() -> None:
        for kernel in bound:
            runtime.driver.enqueue(kernel)
        runtime.driver.finish()

    return Timed(run, sum(weight.nbytes for weight in weights), 2 * tokens * sum(rows) * columns, (call, scratch))


def _bytes(values: Any) -> Any:
    return np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)


def _view(buffer: Buffer, dtype: str, shape: tuple[int, ...]) -> View:
    return View(buffer, dtype_of(dtype), shape)


def _weight(rng: np.random.Generator, dtype: str, rows: int, columns: int) -> View:
    """A constant weight of rows drawn from a few: searching for the scales of all would take minutes."""
    few = random_weight(rng, 8, columns, dtype_of(dtype))
    stored = np.asarray(getattr(few, "raw", few))[rng.integers(0, 8, rows)]
    return _view(Buffer.from_host(stored.view(np.uint8).reshape(-1), constant=True), dtype, (rows, columns))


def reader(queue: cl.CommandQueue) -> Timed:
    """A kernel that reads and adds up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.CompilerWarning)  # compilers of runtimes remark on much
        program = cl.Program(queue.context, _READER).build()
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
    memory = cl.Buffer(queue.context, flags, hostbuf=np.ones(_READ_BYTES, np.uint8))
    count, items = 256, _READ_BYTES // 64 // 256
    kernel = cl.Kernel(program, "reader")
    sums = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 64 * items)

    def run() -> None:
        kernel(queue, (items,), (1,), memory, sums, np.int32(count))
        queue.finish()

    return Timed(run, _READ_BYTES, 0, memory)


def clblast(queue: cl.CommandQueue, tokens: int, rows: int, columns: int) -> Timed | None:
    """CLBlast's product of float32 matrices; None where it is not installed."""
    ffi = FFI()
    ffi.cdef(_CLBLAST)
    try:
        library = ffi.dlopen("libclblast.so.1")
    except OSError:
        return None
    sizes = (rows * columns, tokens * columns, tokens * rows)
    buffers = [cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4 * size) for size in sizes]
    for buffer, size in zip(buffers, sizes, strict=True):
        cl.enqueue_fill_buffer(queue, buffer, np.float32(0.5), 0, 4 * size)
    pointers = ffi.new("void*[]", [ffi.cast("void*", buffer.int_ptr) for buffer in buffers])
    held = ffi.new("void**", ffi.cast("void*", queue.int_ptr))

    def run() -> None:
        w, x, y = pointers
        if tokens == 1:
            arguments = (_ROW_MAJOR, _AS_IT_IS, rows, columns, 1.0, w, 0, columns, x, 0, 1, 0.0, y, 0, 1)
            status = library.CLBlastSgemv(*arguments, held, ffi.NULL)
        else:
            shape = (_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED, tokens, rows, columns)
            status = library.CLBlastSgemm(*shape, 1.0, x, 0, columns, w, 0, columns, 0.0, y, 0, rows, held, ffi.NULL)
        if status:
            raise RuntimeError(f"CLBlast: status {status}")
        queue.finish()

    return Timed(run, 4 * rows * columns, 2 * tokens * rows * columns, buffers)


def row(runtime: Runtime, case: tuple[str, str, int, tuple[int, ...], int], seconds: float) -> list[str]:
    """A line of the table."""
    op, dtype, tokens, rows, columns = case
    ours, reads = product(runtime, *case), reader(runtime.driver.queue)  # type: ignore[attr-defined]
    theirs = clblast(runtime.driver.queue, tokens, sum(rows), columns)  # type: ignore[attr-defined]
    timed = [ours, reads, *([theirs] if theirs else [])]
    best = seconds_of([one.run for one in timed], seconds)
    speed, reading = ours.nbytes / best[0], reads.nbytes / best[1]
    size = f"{tokens} x {' + '.join(map(str, rows))} x {columns}"
    found = [f"{op} {dtype}", size, f"{1e3 * best[0]:.3f}", f"{ours.flops / best[0] / 1e9:.1f}"]
    found += [f"{speed / 1e9:.1f}", f"{speed / reading:.0%}"]
    return [*found, *([f"{1e3 * best[2]:.3f}", f"{best[2] / best[0]:.1f}"] if theirs else ["", ""])]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="opencl:0", help="an OpenCL device (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (default: %(default)s)")
    parser.add_argument("--only", default="", help="rows whose op and dtype hold this text")
    arguments = parser.parse_args()
    device = px.get_device(arguments.device)
    backend = REGISTRY.of_device(device).backend
    if not isinstance(backend, GpuBackend) or device.kind != "opencl":
        parser.error(f"{device} is no OpenCL device")
    facts = machine.describe()
    print(f"{device.description}; {facts['usable_processors']} processors, load {facts['load_average']}")
    headings = [
        "op, weights",
        "tokens x rows x columns",
        "ms",
        "GFLOP/s",
        "GB/s",
        "memory",
        "CLBlast float32 ms",
        "times",
    ]
    chosen = [case for case in CASES if arguments.only in f"{case[0]} {case[1]}"]
    print(text_table(headings, [row(backend.runtimes[device], case, arguments.seconds) for case in chosen]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
