"""A custom op in C: declared with its reference, compiled here, verified, part of a plan like any op of the core."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import perfxapi as px
from perfxapi.conformance import verify
from perfxapi.custom import Attribute, OpSpec, Sample, SourceKernels, add_kernels, register_op

SOURCE = """
#include <perfx/kernel.h>

static int32_t accepts(const PxCall* call) {
  return call->operands[0].ndim > 0 ? perfx_accept_dense(call, 1, 1, PX_FLOAT32) : PX_UNSUPPORTED;
}

/* y[n] = decay * y[n - 1] + (1 - decay) * x[n] along the last axis; each thread takes some of the rows. */
static int32_t run(const PxCall* call, const PxThread* thread) {
  const PxTensor* x = &call->operands[0];
  const int64_t length = x->shape[x->ndim - 1];
  const PxRange rows = perfx_share(length > 0 ? perfx_num_elements(x) / length : 0, 1, thread);
  const double decay = call->attrs[0].f;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* in = (const float*)x->data + row * length;
    float* out = (float*)call->operands[1].data + row * length;
    double state = 0;
    for (int64_t n = 0; n < length; ++n) out[n] = (float)(state = decay * state + (1 - decay) * in[n]);
  }
  return PX_OK;
}

PERFX_LIBRARY("smooth", {"smooth", accepts, 0, run})
"""


def smooth(x: np.ndarray, decay: float) -> np.ndarray:
    y, state = np.empty_like(x), np.zeros(x.shape[:-1])
    for n in range(x.shape[-1]):
        state = decay * state + (1 - decay) * x[..., n]
        y[..., n] = state
    return y


def samples() -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((1,), (3, 50), (2, 3, 17), (0, 4), (4, 0)):
        yield Sample((rng.standard_normal(shape).astype(np.float32),), {"decay": 0.9}, f"shape {shape}")


register_op(
    OpSpec("smooth", ("x",), lambda inputs, _: (inputs[0],), smooth, samples, attributes=(Attribute("decay", float),))
)
add_kernels("smooth", SourceKernels(("smooth",), SOURCE))

print(verify("smooth", ["smooth"], isolated=False))
signal = np.sin(np.linspace(0, 60, 4096, dtype=np.float32)).reshape(4, 1024)
graph = px.graph.trace(
    lambda x: px.exp(px.nn.smooth(x + x, decay=0.9)), {"x": px.TensorSpec((px.Dim("rows"), 1024), px.float32)}
)
plan = px.graph.compile(graph, bounds={"rows": 4})
error = np.abs(np.asarray(plan(x=signal)["output"]) - np.exp(smooth(2 * signal, 0.9))).max()
print(f"largest difference to NumPy: {error:.1e}")
print(px.explain())
