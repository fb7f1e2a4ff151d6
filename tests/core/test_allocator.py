"""Allocators: plain, pooled, limited, counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfxapi.allocator import HostAllocator, LimitAllocator, PoolAllocator, StatisticsAllocator
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
    assert size & (size - 1) == 0
    assert size == 4096 or size < 2 * nbytes


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
