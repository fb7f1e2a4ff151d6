"""Memory whose surroundings are watched: what runs over an end is stopped there, or leaves a mark that is found.

An inaccessible page lies right behind or right before the bytes of an operand; a zone of known bytes lies on the other
side, and is compared after the call. The zone does without the system's help, and finds a write that a page would miss.
Where the process runs under AddressSanitizer the zone is poisoned: an instrumented kernel stops at the line,
even if it only reads.
"""

from __future__ import annotations

import mmap
from functools import cache
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from perfxapi.memory import View

Bytes = npt.NDArray[np.uint8]
ZONE = 256
"""Bytes of known contents on the side that has no inaccessible page; more, up to the end of its page."""
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


@cache
def _sanitizer() -> tuple[Any, Any] | None:
    """cffi and AddressSanitizer's run time; None where the process does not run under it."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(
        "void __asan_poison_memory_region(const void* address, size_t size);"
        "void __asan_unpoison_memory_region(const void* address, size_t size);"
    )
    try:
        library = ffi.dlopen(None)
        _ = library.__asan_poison_memory_region
    except (OSError, AttributeError):
        return None
    return ffi, library


def mark(nbytes: int, number: int) -> Bytes:
    """Bytes that nobody writes by chance: a NaN in every floating-point type, and another one for another number."""
    return np.full(-(-nbytes // 2), 0xFFF8 + number % 8, "<u2").view(np.uint8)[:nbytes]


class GuardedMemory:
    """Host memory of `nbytes` bytes, `data`, that ends where an inaccessible page begins, or begins where one ends.

    The rest of its pages, and `data` itself until something is put there, hold the mark of `number`. Where the system
    has no page protection the zone is all there is. The memory lives as long as `data`.
    """

    def __init__(self, nbytes: int, *, guard_after: bool, number: int = 0) -> None:
        page = mmap.PAGESIZE
        length = -(-(nbytes + ZONE) // page) * page
        region = np.frombuffer(mmap.mmap(-1, length + page), np.uint8)
        pages = region[:length] if guard_after else region[page:]
        _protect(region, length if guard_after else 0)
        pages[:] = mark(length, number)
        # no slice: those of no bytes begin at the start of what they are cut from
        self.data: Bytes = np.ndarray(nbytes, np.uint8, region, length - nbytes if guard_after else page)
        self._zone = pages[: length - nbytes] if guard_after else pages[nbytes:]
        _poison(self._zone, region)
        self._where = "before its start" if guard_after else "past its end"
        self._guard_after, self._number = guard_after, number
        self._gaps: npt.NDArray[np.intp] = np.empty(0, np.intp)

    def watch_gaps(self, view: View) -> None:
        """Also compares the bytes of `data` that lie between the elements of `view`, as they are now."""
        if view.is_contiguous:
            return
        taken = np.zeros(self.data.nbytes, np.bool_)
        shape, strides = (*view.shape, view.dtype.itemsize), (*view.strides, 1)
        np.ndarray(shape, np.bool_, taken, view.offset, strides)[...] = True
        self._gaps = np.flatnonzero(~taken)
        self._in_gaps = self.data[self._gaps]

    def damage(self) -> str | None:
        """What was written outside of the elements, if anything was."""
        phase = 0 if self._guard_after else self.data.nbytes % 2
        changed = np.flatnonzero(self._zone != mark(phase + self._zone.nbytes, self._number)[phase:])
        if changed.size:
            nearest = self._zone.nbytes - int(changed[-1]) if self._guard_after else int(changed[0]) + 1
            return f"{self._where}: {changed.size} bytes, the nearest {nearest} away"
        if self._gaps.size and (count := np.count_nonzero(self.data[self._gaps] != self._in_gaps)):
            return f"between its rows: {count} bytes"
        return None


def _protect(region: Bytes, start: int) -> None:
    protection = _libc()
    if protection is not None:
        ffi, library = protection
        address = ffi.cast("void*", region.__array_interface__["data"][0] + start)
        if library.mprotect(address, mmap.PAGESIZE, _PROT_NONE) != 0:
            raise OSError("mprotect failed")


def _poison(zone: Bytes, region: Bytes) -> None:
    """Tells AddressSanitizer that nobody may touch the zone while its region lives."""
    sanitizer = _sanitizer()
    if sanitizer is not None:
        ffi, library = sanitizer
        address = ffi.cast("void*", zone.__array_interface__["data"][0])
        library.__asan_poison_memory_region(address, zone.nbytes)
        finalize(region, library.__asan_unpoison_memory_region, address, zone.nbytes)
