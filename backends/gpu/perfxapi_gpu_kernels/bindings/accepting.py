"""What bindings have in common to say of the calls that they take."""

from __future__ import annotations

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.driver import Properties

FLOATS = ("float32", "float16", "bfloat16")


def has_contiguous_rows(view: View) -> bool:
    """Whether elements of the last axis stand side by side and the other axes are one run of rows with equal steps."""
    if not view.shape or (view.strides[-1] != view.dtype.itemsize and view.shape[-1] != 1):
        return False
    for axis in range(len(view.shape) - 2):
        if int(view.strides[axis]) != int(view.strides[axis + 1]) * int(view.shape[axis + 1]):
            return False
    return True


def row_stride(view: View) -> int:
    """Elements from one row to the next, for a view with contiguous rows."""
    return int(view.strides[-2]) // view.dtype.itemsize if len(view.shape) > 1 else int(view.shape[-1])


def num_rows(view: View) -> int:
    """Rows of the last axis."""
    count = 1
    for size in view.shape[:-1]:
        count *= int(size)
    return count


def dtypes_are(call: OpCall, *names: str) -> bool:
    """Whether every operand has one of these dtypes."""
    return all(view.dtype.name in names for view in call.inputs)


def lanes_in_group(properties: Properties, most: int) -> dict[str, int]:
    """GROUP and WIDTH of a kernel that counts by lanes (lanes.h): one work-item with vectors, or up to `most` without.

    Vectors have names in OpenCL alone.
    """
    if properties.is_processor and properties.dialect == "opencl":
        return {"GROUP": 1, "WIDTH": 16}
    return {"GROUP": min(most, properties.max_group_size), "WIDTH": 1}
