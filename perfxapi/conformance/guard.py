"""Memory with an inaccessible page right before or right after it: what runs over an end is stopped there."""

from __future__ import annotations

import mmap
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_PROT_NONE = 0


@cache
def _libc() -> tuple[Any, Any] | None:
    """cffi and the C library; None where there is no mprotect (Windows)."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int mprotect(void* address, size_t length, int protection);")
    try:
        library = ffi.dlopen(None)
        _ = library.mprotect
    except (OSError, AttributeError):
        return None
    return ffi, library


def guarded(nbytes: int, *, guard_after: bool) -> npt.NDArray[np.uint8]:
    """Host memory of `nbytes` bytes that ends where an inaccessible page begins, or begins where one ends.

    Plain memory where the system has no page protection. The memory lives as long as the array.
    """
    page = mmap.PAGESIZE
    length = -(-max(nbytes, 1) // page) * page
    region = mmap.mmap(-1, length + page)
    whole = np.frombuffer(region, np.uint8)
    protection = _libc()
    if protection is not None:
        ffi, library = protection
        start = whole.__array_interface__["data"][0] + (length if guard_after else 0)
        if library.mprotect(ffi.cast("void*", start), page, _PROT_NONE) != 0:
            raise OSError("mprotect failed")
    return whole[length - nbytes : length] if guard_after else whole[page : page + nbytes]
