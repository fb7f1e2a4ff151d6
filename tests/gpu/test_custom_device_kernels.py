"""Users' kernels in source for OpenCL devices: they run, and what is wrong with them is said with the line at fault."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from opencl_devices import on_each_device

import perfxapi as px
from perfxapi import nn
from perfxapi.backend import REGISTRY
from perfxapi.custom import (
    Attribute,
    DeviceKernel,
    OpSpec,
    PythonKernel,
    Sample,
    add_kernels,
    register_op,
    remove_kernels,
)
from perfxapi.errors import CompileError, FallbackWarning, InvalidArgumentError
from perfxapi.ops import spec as specs

SOURCE = """
KERNEL tripled(CONST_OPERAND(float, x), OPERAND(float, y), float factor, int64_t count) {
  OPEN_CONST(float, x);
  OPEN(float, y);
  int64_t i = GLOBAL_ID(0);
  if (i < count) y[i] = factor * x[i] + 1;
}
"""


@pytest.fixture(autouse=True)
def tripled() -> Iterator[None]:
    """An op that nothing but its reference computes; kernels of these tests go with it."""
    spec = OpSpec(
        "tripled",
        ("x",),
        lambda inputs, attributes: (inputs[0],),
        lambda x, factor: (factor * x + 1).astype(x.dtype),
        lambda: [Sample((np.arange(5, dtype=np.float32),), {"factor": 2.0})],
        attributes=(Attribute("factor", float, 3.0),),
    )
    register_op(spec)
    yield
    for entry in REGISTRY.entries():
        if entry.manifest.name == "mine":
            remove_kernels("mine")
    del specs._REGISTRY["tripled"]
    nn._function.cache_clear()


def kernel(source: str = SOURCE, **options: object) -> DeviceKernel:
    return DeviceKernel("tripled", source, kinds=("opencl",), **options)


def apply(device: str, length: int = 1000) -> None:
    x = np.linspace(-3, 3, length, dtype=np.float32)
    found = px.nn.tripled(px.asarray(x, device=device), factor=3.0)
    assert str(found.device) == device
    np.testing.assert_allclose(np.asarray(found), 3 * x + 1, rtol=1e-6)


@on_each_device
def test_a_kernel_in_the_dialect_runs_on_the_device(device: str) -> None:
    add_kernels("mine", kernel())
    with px.use_device(device, fallback="error"):
        apply(device)
        apply(device, 1)
        graph = px.graph.trace(
            lambda x: px.nn.tripled(px.nn.tripled(x)), {"x": px.TensorSpec((px.Dim("n"),), px.float32)}
        )
        plan = px.graph.compile(graph, device=device, bounds={"n": 100})
        np.testing.assert_allclose(np.asarray(plan(x=np.ones(70, np.float32))["output"]), np.full(70, 13.0))
    assert {place.backend for place in plan.explain()} == {"mine"}


@on_each_device
def test_a_kernel_in_plain_opencl_c_with_sizes_of_its_own(device: str) -> None:
    source = """
    __kernel void triple(__global const float* x, long x0, __global float* y, long y0, float factor, long count) {
      for (long i = get_global_id(0); i < count; i += get_global_size(0))
        y[y0 / 4 + i] = factor * x[x0 / 4 + i] + 1;
    }
    """
    add_kernels("mine", kernel(source, entry="triple", sizes=lambda call: ((2, 1, 1), (16, 1, 1))))
    with px.use_device(device, fallback="error"):
        apply(device)


@on_each_device
def test_a_source_that_does_not_compile_shows_the_line_at_fault(device: str) -> None:
    with pytest.raises(CompileError, match=r"mine\.h:6: .*faktor(.|\n)*y\[i\] = faktor \* x\[i\]"):
        add_kernels("mine", kernel(SOURCE.replace("factor * x[i]", "faktor * x[i]")))
    assert "mine" not in {entry.manifest.name for entry in REGISTRY.entries()}


@on_each_device
def test_a_wrong_number_of_arguments_shows_where_the_kernel_begins(device: str) -> None:
    with pytest.raises(
        CompileError, match=r"mine\.h:2: tripled takes 7 arguments; it is given 6(.|\n)*int64_t count, int"
    ):
        add_kernels("mine", kernel(SOURCE.replace("int64_t count", "int64_t count, int more")))


@on_each_device
def test_a_missing_kernel_is_named(device: str) -> None:
    with pytest.raises(CompileError, match="no kernel other; it has tripled"):
        add_kernels("mine", kernel(entry="other"))


@on_each_device
def test_a_call_that_the_kernel_declines_falls_back_with_its_reason(device: str) -> None:
    add_kernels("mine", kernel(accepts=lambda call: "not today"))
    with pytest.warns(FallbackWarning, match="not today"):
        apply(device)


@on_each_device
def test_sizes_that_are_none_are_refused(device: str) -> None:
    add_kernels("mine", kernel(sizes=lambda call: (0, 1)))
    with pytest.raises(InvalidArgumentError, match="two triples of whole numbers"):
        apply(device)


def test_kernels_for_devices_and_for_the_host_have_different_names() -> None:
    with pytest.raises(InvalidArgumentError, match="a name of their own"):
        add_kernels("mine", kernel(), PythonKernel("tripled", lambda x, factor: x))
