"""Allocators: plain, pooled, limited, counted."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfxapi.allocator import (
    ALIGNMENT,
    HostAllocator,
    LargePageAllocator,
    LimitAllocator,
    PoolAllocator,
    SlabAllocator,
    StatisticsAllocator,
    untouched_zeros,
)
from perfxapi.errors import OutOfMemoryError


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 100_000])
def test_host_memory_begins_on_a_cache_line(nbytes: int) -> None:
    storage = HostAllocator().allocate(nbytes)
    assert storage.nbytes == nbytes
    assert storage.dtype == np.uint8
    assert nbytes == 0 or storage.__array_interface__["data"][0] % 64 == 0


def test_host_memory_that_cannot_be_had_is_a_typed_error() -> None:
    with pytest.raises(OutOfMemoryError, match="cannot allocate 1152921504606846976 bytes"):
        HostAllocator().allocate(1 << 60)


def test_a_pool_hands_out_again_what_came_back() -> None:
    upstream = StatisticsAllocator(HostAllocator())
    pool = PoolAllocator(upstream)
    first = pool.allocate(5000)
    pool.deallocate(first, 5000)
    assert pool.allocate(8000) is first, "both are of the class of 8 KiB"
    assert upstream.statistics.num_allocations == 1
    pool.deallocate(first, 8000)
    pool.release()
    assert upstream.statistics.bytes_in_use == 0
    assert pool.allocate(5000) is not first


@given(st.integers(0, 1 << 40))
def test_size_classes_hold_what_was_asked_for_and_waste_less_than_half(nbytes: int) -> None:
    size = PoolAllocator.size_class(nbytes)
    assert size >= nbytes
    assert size == 4096 or size < 2 * nbytes
    assert PoolAllocator.size_class(size) == size
    if nbytes > 1 << 20:
        assert size <= 1.125 * nbytes + 8
    else:
        assert size & (size - 1) == 0


def test_a_pool_gives_back_what_it_keeps_before_it_says_that_memory_is_out() -> None:
    pool = PoolAllocator(LimitAllocator(HostAllocator(), 64 << 10))
    pool.deallocate(pool.allocate(40 << 10), 40 << 10)
    pool.allocate(20 << 10)
    with pytest.raises(OutOfMemoryError):
        pool.allocate(60 << 10)


def test_a_limit_counts_what_is_in_use() -> None:
    limited = LimitAllocator(HostAllocator(), 100)
    storage = limited.allocate(60)
    with pytest.raises(OutOfMemoryError, match="cannot allocate 41 bytes: 60 of the limit of 100 bytes are in use"):
        limited.allocate(41)
    limited.deallocate(storage, 60)
    limited.allocate(100)


def test_a_limit_forgets_what_upstream_could_not_give() -> None:
    inner = LimitAllocator(HostAllocator(), 10)
    outer = LimitAllocator(inner, 100)
    with pytest.raises(OutOfMemoryError):
        outer.allocate(50)
    assert outer.in_use == 0


def test_statistics_keep_the_peak() -> None:
    counted = StatisticsAllocator(HostAllocator())
    first, second = counted.allocate(10), counted.allocate(30)
    counted.deallocate(first, 10)
    counted.allocate(5)
    counted.deallocate(second, 30)
    found = counted.statistics
    assert (found.num_allocations, found.num_deallocations, found.bytes_in_use, found.peak_bytes) == (3, 2, 5, 40)


def test_slabs_are_shared_and_go_with_the_last_of_their_allocations() -> None:
    upstream = StatisticsAllocator(HostAllocator())
    slabs = SlabAllocator(upstream, slab_bytes=1 << 12)
    small = [slabs.allocate(size) for size in (100, 1, 1000, 64)]
    starts = [array.__array_interface__["data"][0] for array in small]
    assert [array.nbytes for array in small] == [100, 1, 1000, 64]
    assert all(start % ALIGNMENT == 0 for start in starts)
    assert starts == [starts[0], starts[0] + 128, starts[0] + 192, starts[0] + 1216]
    assert upstream.statistics.num_allocations == 1
    assert slabs.allocate(1025).nbytes == 1025, "too large to share"
    assert [slabs.allocate(1000).nbytes for _ in range(3)] == [1000] * 3
    assert upstream.statistics.num_allocations == 3, "the slab was full"
    for value, array in enumerate(small):
        array[:] = value
    assert [int(array.max()) for array in small] == [0, 1, 2, 3]
    slab = weakref.ref(small[0].base)
    del small, array
    assert slab() is None


def test_untouched_zeros_cost_memory_page_by_page() -> None:
    zeros = untouched_zeros(64 << 20)
    assert zeros.nbytes == 64 << 20 and zeros.flags.writeable and not zeros[:: 1 << 16].any()
    zeros[20 << 20] = 1
    assert _memory_region(zeros)["AnonHugePages"] == "0 kB"


def test_large_pages_start_at_one_and_are_asked_for() -> None:
    storage = LargePageAllocator().allocate((4 << 20) + 100)
    assert storage.nbytes == (4 << 20) + 100 and storage.flags.writeable
    assert storage.__array_interface__["data"][0] % (2 << 20) == 0
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        assert "hg" in _memory_region(storage)["VmFlags"].split()
        assert "hg" not in _memory_region(storage[4 << 20 :])["VmFlags"].split(), "no large page for the rest"


def _memory_region(array: Any) -> dict[str, str]:
    """What the operating system says of the region of memory where an array lies."""
    status = Path("/proc/self/smaps")
    if not status.exists():
        pytest.skip("no /proc/self/smaps here")
    address = array.__array_interface__["data"][0]
    regions = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*\n((?:\w+:.*\n)+)", status.read_text(), re.MULTILINE)
    (fields,) = [text for first, end, text in regions if int(first, 16) <= address < int(end, 16)]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in fields.splitlines())}


@pytest.mark.parametrize("nbytes", [1 << 62, 1 << 80])
def test_more_zeros_than_there_can_be_are_refused(nbytes: int) -> None:
    with pytest.raises(OutOfMemoryError, match=str(nbytes)):
        untouched_zeros(nbytes)
