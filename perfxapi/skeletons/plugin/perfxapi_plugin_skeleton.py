"""A custom op, `px.nn.skeleton(x)`, with its NumPy reference, samples, and a kernel in C.

The kernel is compiled when the op is first used; where there is no C compiler the reference runs, with a warning that
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from perfxapi.backend import BackendManifest
from perfxapi.custom import Attributes, OpSpec, Sample, SourceKernels, TensorSpec, kernels_manifest, require_kind
from perfxapi.hookspecs import hookimpl


def infer(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    """The results' shapes and dtypes, here those of x. Raises InvalidArgumentError for what the op does not take."""
    require_kind("skeleton", inputs[0], "float")
    return (inputs[0],)


def reference(x: Any) -> Any:
    """What the op means, in NumPy: the square of what is positive."""
    return np.square(np.maximum(x, 0))


def samples() -> Iterator[Sample]:
    """Inputs on which every kernel must agree with the reference."""
    rng = np.random.default_rng(0)
    for shape in ((), (1,), (3, 5), (2, 3, 33), (0, 4)):
        yield Sample((rng.standard_normal(shape).astype(np.float32),), label=f"shape {shape}")
    yield Sample((np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),), label="not finite")


SPEC = OpSpec("skeleton", ("x",), infer, reference, samples)

SOURCE = """
#include <perfx/kernel.h>

static int32_t accepts(const PxCall* call) { return perfx_accept_dense(call, 1, 1, PX_FLOAT32); }

static int32_t run(const PxCall* call, const PxThread* thread) {
  const float* x = (const float*)call->operands[0].data;
  float* y = (float*)call->operands[1].data;
  const PxRange part = perfx_share(perfx_num_elements(&call->operands[0]), 1024, thread);
  for (int64_t i = part.begin; i < part.end; ++i) y[i] = x[i] < 0 ? 0 : x[i] * x[i];
  return PX_OK;
}

PERFX_LIBRARY("skeleton", {"skeleton", accepts, 0, run})
"""


@hookimpl
def register_ops(register: Callable[[OpSpec], None]) -> None:
    """Makes the op known."""
    register(SPEC)


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Gives it the kernel, on every device that works on the host's memory."""
    register(kernels_manifest("skeleton", SourceKernels((SPEC.name,), SOURCE)))
