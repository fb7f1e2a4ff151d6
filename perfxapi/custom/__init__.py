"""Custom ops: an OpSpec of your own, and kernels for it in Python, in C or C++ compiled here, or in a prebuilt library.

An op is declared by `register_op(OpSpec(...))`; from then on it is `px.nn.<name>`, runs by its NumPy reference
wherever it has no kernel, can be traced, and is checked by `perfxapi verify`. Kernels are given by `add_kernels` in a
program, and by a `kernels_manifest` in a plugin (docs/adding-an-op.md). Native ones meet `perfx/abi.h`: they run on
the threads of the native host backend and enter its command lists (docs/adr/0006-joined-kernels.md).
"""

from perfxapi.custom.compiler import compile_library
from perfxapi.custom.device_kernels import DeviceKernel, DeviceKernels, argument_error, compile_error
from perfxapi.custom.kernels import (
    THIS_PROGRAM,
    CustomKernels,
    LibraryKernels,
    PythonKernel,
    SourceKernels,
    add_kernels,
    check_signature,
    kernels_manifest,
    remove_kernels,
)
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    Cost,
    OpSpec,
    Sample,
    TensorSpec,
    is_absent,
    register_op,
    require,
    require_kind,
)

__all__ = [
    "THIS_PROGRAM",
    "Attribute",
    "Attributes",
    "Cost",
    "CustomKernels",
    "DeviceKernel",
    "DeviceKernels",
    "LibraryKernels",
    "OpSpec",
    "PythonKernel",
    "Sample",
    "SourceKernels",
    "TensorSpec",
    "add_kernels",
    "argument_error",
    "check_signature",
    "compile_error",
    "compile_library",
    "is_absent",
    "kernels_manifest",
    "register_op",
    "remove_kernels",
    "require",
    "require_kind",
]
