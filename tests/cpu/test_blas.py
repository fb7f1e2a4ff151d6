"""NumPy's BLAS as a kernel: what it accepts, the threads it runs on, what `px.explain()` calls it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import perfxapi as px
from perfxapi.backend import OpCall
from perfxapi.memory import Buffer, View
from perfxapi.tuning import TUNER
from perfxapi_backend_cpu import blas
from perfxapi_backend_cpu.blas import BlasMatmul


def call_of(kind: str) -> OpCall:
    a, b = (np.random.default_rng(seed).standard_normal((40, 40)).astype(kind) for seed in (1, 2))
    views = tuple(px.asarray(x).view for x in (a, b.T))
    result = View(Buffer(a.nbytes), px.dtype_of(kind), a.shape)
    result.buffer.overwrite()
    return OpCall("matmul", views, (result,), {})


@pytest.mark.skipif(blas._openblas() is None, reason="this NumPy carries no OpenBLAS")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_it_multiplies_with_the_pools_threads_and_restores_the_programs(kind: str) -> None:
    functions = blas._openblas()
    assert functions is not None
    get, set_ = functions
    before, seen = get(), []
    set_(1)

    def wanted() -> int:
        seen.append(get())
        return 2

    call = call_of(kind)
    assert BlasMatmul(wanted).accepts(call) is None
    BlasMatmul(wanted).launch(call)
    assert seen == [1]
    assert get() == 1
    set_(before)
    a, b = (view.host() for view in call.inputs)
    assert np.allclose(call.outputs[0].host(), a.astype(np.float64) @ b, rtol=1e-4, atol=1e-4)


def test_it_declines_other_numbers() -> None:
    assert "float32" in str(BlasMatmul(lambda: 1).accepts(call_of("int32")))


def test_explain_names_the_kernel_that_ran(set_setting: Callable[[str, str], None], tmp_path: object) -> None:
    set_setting("TUNE", "1")
    set_setting("TUNING_FILE", f"{tmp_path}/tuning.json")
    TUNER.forget()
    x = px.asarray(np.ones((300, 300), np.float32), device="cpu")
    assert (np.asarray(x @ x) == 300).all()
    assert {row.ran_on for row in px.explain().rows} <= {"cpu:0", "cpu:0 (openblas)"}
    assert TUNER.known() == 1
    TUNER.forget()
