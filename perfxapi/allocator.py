"""Allocators: one plain allocator a memory space, and decorators that wrap another (the pattern of RAPIDS' rmm)."""

from __future__ import annotations

import mmap
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from perfxapi.errors import OutOfMemoryError

ALIGNMENT = 64
"""Bytes. A cache line, and the widest vector register."""
_LARGE_PAGE = 2 << 20
"""Bytes of a large page of x86-64, and of most others that have them."""

# A forked child gets a copy, as with all other memory.
_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Allocator(Protocol):
    """Hands out storage of a memory space.

    Storage is opaque to all but its backend; on the host it is a uint8 NumPy array.
    """

    def allocate(self, nbytes: int) -> Any:
        """Storage of at least `nbytes` bytes. Raises OutOfMemoryError."""

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Takes back what `allocate(nbytes)` gave."""


class HostAllocator:
    """Plain host memory, 64-byte aligned, untouched (so untouched pages cost nothing)."""

    def allocate(self, nbytes: int) -> Any:
        """A uint8 array of `nbytes` bytes. Raises OutOfMemoryError."""
        try:
            raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        except (MemoryError, ValueError) as error:
            raise OutOfMemoryError(f"host memory: cannot allocate {nbytes} bytes ({error})") from error
        start = -raw.__array_interface__["data"][0] % ALIGNMENT
        return raw[start : start + nbytes]

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Nothing to do: NumPy frees an array when its last view goes."""


class LargePageAllocator:
    """Host memory that starts on a large page and that the operating system is asked to put on large pages.

    For what is read from end to end (weights): with small pages, reading is a fifth slower here. The rest that does not
    fill a large page lies on small ones; untouched pages cost nothing.
    """

    def allocate(self, nbytes: int) -> Any:
        """A uint8 array of `nbytes` bytes. Raises OutOfMemoryError."""
        pages = _private_pages(nbytes + _LARGE_PAGE)
        storage: Any = np.frombuffer(pages, np.uint8)
        start = -storage.__array_interface__["data"][0] % _LARGE_PAGE
        _advise(pages, "MADV_HUGEPAGE", start, nbytes // _LARGE_PAGE * _LARGE_PAGE)
        return storage[start : start + nbytes]

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Nothing to do: the pages go when the last view of the array does."""


def untouched_zeros(nbytes: int) -> Any:
    """A uint8 array of zeros in host memory of its own, of which only the small pages that are written cost memory.

    For what is filled bit by bit, like a KV cache: with large pages, which NumPy asks for, a first byte costs 2 MB.
    Raises OutOfMemoryError.
    """
    pages = _private_pages(nbytes)
    _advise(pages, "MADV_NOHUGEPAGE", 0, nbytes)
    return np.frombuffer(pages, np.uint8)[:nbytes]


def _private_pages(nbytes: int) -> mmap.mmap:
    """Zeros straight from the operating system."""
    try:
        return mmap.mmap(-1, max(nbytes, 1), **_PRIVATE)
    except (OSError, OverflowError, ValueError) as error:
        raise OutOfMemoryError(f"host memory: cannot reserve {nbytes} bytes ({error})") from error


def _advise(pages: mmap.mmap, advice: str, start: int, nbytes: int) -> None:
    """Hints at how a part of the pages will be used, where the operating system takes such a hint."""
    if nbytes and hasattr(mmap, advice):
        with suppress(OSError):  # a kernel without large pages refuses
            pages.madvise(getattr(mmap, advice), start, nbytes)


class SlabAllocator:
    """For what stays as long as its owner: cuts allocations from large slabs, one after another.

    So small allocations share large pages. A slab is freed when the last of its allocations goes.
    """

    def __init__(self, upstream: Allocator, slab_bytes: int = 64 << 20) -> None:
        self.upstream, self._slab_bytes = upstream, slab_bytes
        self._lock = threading.Lock()
        self._slab: Any = None
        self._used = 0

    def allocate(self, nbytes: int) -> Any:
        """Storage from the current slab; from upstream where it is larger than a quarter of a slab."""
        if nbytes > self._slab_bytes // 4:
            return self.upstream.allocate(nbytes)
        with self._lock:
            if self._slab is None or self._used + nbytes > self._slab_bytes:
                self._slab, self._used = self.upstream.allocate(self._slab_bytes), 0
            storage = self._slab[self._used : self._used + nbytes]
            self._used += -(-nbytes // ALIGNMENT) * ALIGNMENT
            return storage

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Nothing to do: a slab goes with its last view."""


_FINE_CLASSES_FROM = 1 << 20
"""Bytes from which on the pool's size classes are closer than powers of two: half of a KV cache is no small waste."""


class PoolAllocator:
    """Keeps freed storage for the next allocation of the same size class: powers of two from 4 KiB to 1 MiB, from there
    on eight steps to each power of two.
    """

    def __init__(self, upstream: Allocator) -> None:
        self.upstream = upstream
        self._free: dict[int, list[Any]] = defaultdict(list)
        self._lock = threading.Lock()

    @staticmethod
    def size_class(nbytes: int) -> int:
        """Bytes really allocated for a request of `nbytes`."""
        if nbytes <= _FINE_CLASSES_FROM:
            return max(4096, 1 << (nbytes - 1).bit_length()) if nbytes > 0 else 4096
        step = 1 << (nbytes - 1).bit_length() - 4
        return -(-nbytes // step) * step

    def allocate(self, nbytes: int) -> Any:
        """Storage of the size class of `nbytes`, from the pool or from upstream."""
        size = self.size_class(nbytes)
        with self._lock:
            if self._free[size]:
                return self._free[size].pop()
        try:
            return self.upstream.allocate(size)
        except OutOfMemoryError:
            self.release()  # what is kept may be what is lacking
            return self.upstream.allocate(size)

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Keeps the storage for later."""
        with self._lock:
            self._free[self.size_class(nbytes)].append(storage)

    def release(self) -> None:
        """Gives everything that is free back to upstream."""
        with self._lock:
            for size, storages in self._free.items():
                for storage in storages:
                    self.upstream.deallocate(storage, size)
            self._free.clear()


class LimitAllocator:
    """Refuses to go past `limit` bytes in use."""

    def __init__(self, upstream: Allocator, limit: int) -> None:
        self.upstream, self.limit, self.in_use = upstream, limit, 0
        self._lock = threading.Lock()

    def allocate(self, nbytes: int) -> Any:
        """Storage from upstream. Raises OutOfMemoryError past the limit."""
        with self._lock:
            if self.in_use + nbytes > self.limit:
                raise OutOfMemoryError(
                    f"cannot allocate {nbytes} bytes: {self.in_use} of the limit of {self.limit} bytes are in use"
                )
            self.in_use += nbytes
        try:
            return self.upstream.allocate(nbytes)
        except OutOfMemoryError:
            with self._lock:
                self.in_use -= nbytes
            raise

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Gives back to upstream and to the budget."""
        self.upstream.deallocate(storage, nbytes)
        with self._lock:
            self.in_use -= nbytes


@dataclass(slots=True)
class AllocatorStatistics:
    """Counts since the allocator was made; bytes as requested."""

    num_allocations: int = 0
    num_deallocations: int = 0
    bytes_in_use: int = 0
    peak_bytes: int = 0


class StatisticsAllocator:
    """Counts what passes through."""

    def __init__(self, upstream: Allocator) -> None:
        self.upstream, self.statistics = upstream, AllocatorStatistics()
        self._lock = threading.Lock()

    def allocate(self, nbytes: int) -> Any:
        """Storage from upstream, counted."""
        storage = self.upstream.allocate(nbytes)
        with self._lock:
            counts = self.statistics
            counts.num_allocations += 1
            counts.bytes_in_use += nbytes
            counts.peak_bytes = max(counts.peak_bytes, counts.bytes_in_use)
        return storage

    def deallocate(self, storage: Any, nbytes: int) -> None:
        """Gives back to upstream, counted."""
        self.upstream.deallocate(storage, nbytes)
        with self._lock:
            self.statistics.num_deallocations += 1
            self.statistics.bytes_in_use -= nbytes
