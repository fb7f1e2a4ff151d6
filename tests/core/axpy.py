"""A custom op's kernel in C, which is C++ as well, for the tests of custom ops."""

from __future__ import annotations

import shutil

import pytest

HAS_COMPILER = all(map(shutil.which, ("cc", "c++")))
compiled = pytest.mark.skipif(not HAS_COMPILER, reason="no C and C++ compiler is installed")

SOURCE = """
#include <perfx/kernel.h>

static int32_t accepts(const PxCall* call) { return perfx_accept_dense(call, 2, 1, PX_FLOAT32); }

static int32_t run(const PxCall* call, const PxThread* thread) {
  const float *x = (const float*)call->operands[0].data, *y = (const float*)call->operands[1].data;
  float* z = (float*)call->operands[2].data;
  const PxRange part = perfx_share(perfx_num_elements(&call->operands[0]), 1, thread);
  for (int64_t i = part.begin; i < part.end; ++i) z[i] = (float)(call->attrs[0].f * x[i] + y[i]);
  return PX_OK;
}

PERFX_LIBRARY("axpy", {"axpy", accepts, 0, run})
"""
