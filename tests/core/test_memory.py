"""Buffers with copies in two memory spaces, and views over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from simulated import SPACE, SimulatedBackend

from perfxapi import dtypes
from perfxapi.errors import InvalidArgumentError, OutOfMemoryError, PerfXError
from perfxapi.memory import HOST, Buffer, View


def host_buffer(nbytes: int = 32) -> Buffer:
    return Buffer.from_host(np.arange(nbytes, dtype=np.uint8))


def test_a_buffer_is_copied_to_another_memory_once(sim: SimulatedBackend) -> None:
    buffer = host_buffer()
    storage, moved = buffer.readable(SPACE)
    assert moved == 32
    assert buffer.readable(SPACE)[1] == 0
    assert np.array_equal(storage[:32], np.arange(32))
    assert buffer.valid_spaces == {HOST, SPACE}
    assert (sim.memory.bytes_written, sim.memory.bytes_read) == (32, 0)


def test_writing_somewhere_makes_that_copy_the_only_valid_one(sim: SimulatedBackend) -> None:
    buffer = host_buffer()
    storage, moved = buffer.writable(SPACE)
    assert moved == 32
    storage[3] = 77
    assert buffer.valid_spaces == {SPACE}
    contents, moved = buffer.readable(HOST)
    assert (contents[3], contents[4], moved) == (77, 4, 32)


def test_overwriting_moves_nothing(sim: SimulatedBackend) -> None:
    buffer = host_buffer()
    buffer.overwrite(SPACE)[:32] = 5
    assert sim.memory.writes == []
    assert np.array_equal(buffer.readable(HOST)[0], np.full(32, 5))


def test_a_writer_that_failed_leaves_the_other_copies_valid(sim: SimulatedBackend) -> None:
    buffer = host_buffer()
    valid = buffer.valid_spaces
    buffer.overwrite(SPACE)[:] = 0
    buffer.restore(valid)
    assert np.array_equal(buffer.readable(HOST)[0], np.arange(32))


def test_read_only_host_bytes_are_copied_before_they_are_written() -> None:
    original = bytes(range(16))
    buffer = Buffer.from_host(np.frombuffer(original, np.uint8))
    storage, _ = buffer.writable(HOST)
    storage[0] = 99
    assert buffer.readable(HOST)[0][0] == 99
    assert original[0] == 0


def test_constants_are_not_written() -> None:
    buffer = Buffer.from_host(np.zeros(4, np.uint8), name="weight", constant=True)
    with pytest.raises(InvalidArgumentError, match="'weight' is a constant"):
        buffer.writable(HOST)


def test_reading_what_was_never_written_is_an_error() -> None:
    with pytest.raises(PerfXError, match="'scratch' was read before"):
        Buffer(8, name="scratch").readable(HOST)


def test_a_planned_buffer_moves_what_is_in_use(sim: SimulatedBackend) -> None:
    buffer = Buffer(1000)
    buffer.adopt(np.zeros(1000, np.uint8))
    buffer.nbytes = 10
    assert buffer.readable(SPACE)[1] == 10
    buffer.nbytes = 1000
    buffer.overwrite(HOST)
    assert buffer.readable(SPACE)[1] == 1000


def test_memory_goes_back_to_its_allocator_with_the_buffer(sim: SimulatedBackend) -> None:
    buffer = host_buffer(100)
    buffer.readable(SPACE)
    assert sim.memory.statistics.statistics.bytes_in_use == 100
    del buffer
    assert sim.memory.statistics.statistics.bytes_in_use == 0


def test_a_device_without_room_says_so(sim: SimulatedBackend) -> None:
    with pytest.raises(OutOfMemoryError, match=r"cannot allocate 2147483648 bytes: 0 of the limit of 1073741824"):
        Buffer(1 << 31).overwrite(SPACE)


def test_state_never_travels_whole(sim: SimulatedBackend) -> None:
    state = Buffer.state(64, SPACE, name="cache")
    with pytest.raises(PerfXError, match="'cache' lives in 'sim' and does not travel to 'host'"):
        state.readable(HOST)
    sim.memory.forget()
    staging, moved = state.fetch([(8, 4), (20, 2)])
    assert moved == 6
    assert sim.memory.reads == [(8, 4), (20, 2)]
    staging[8:12] = 7
    assert state.store(staging, [(8, 4)]) == 4
    assert sim.memory.writes == [(8, 4)]
    assert state.readable(SPACE)[0][:16].tolist() == [0] * 8 + [7] * 4 + [0] * 4


def test_state_starts_as_zeros_on_a_cache_line() -> None:
    storage, _ = Buffer.state(100, HOST).readable(HOST)
    assert storage.__array_interface__["data"][0] % 64 == 0
    assert not storage.any()


def test_only_state_is_fetched_in_ranges() -> None:
    with pytest.raises(PerfXError, match="not a state buffer"):
        host_buffer().fetch([(0, 1)])


@given(
    arrays.arrays(np.int32, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5), elements=st.integers(0, 1000)),
    st.data(),
)
def test_the_extent_of_a_view_covers_its_elements_and_no_more(values: np.ndarray, data: st.DataObject) -> None:
    index = data.draw(arrays.basic_indices(values.shape, allow_ellipsis=False, allow_newaxis=False))
    part = values[index]
    if not isinstance(part, np.ndarray):
        return
    memory = values.reshape(-1).view(np.uint8)
    offset = part.__array_interface__["data"][0] - memory.__array_interface__["data"][0] if part.size else 0
    view = View(Buffer.from_host(memory), dtypes.int32, part.shape, part.strides, offset)
    start, length = view.extent
    if part.size == 0:
        assert length == 0
        return
    touched = np.zeros(memory.size, bool)
    np.ndarray(part.shape, np.int32, touched.view(np.uint8), offset, part.strides)[...] = 0x01010101
    assert np.flatnonzero(touched)[[0, -1]].tolist() == [start, start + length - 1]
    assert np.array_equal(view.host(), part)


def test_quantized_views_are_their_rows_of_blocks() -> None:
    raw = np.zeros((3, 68), np.uint8)
    view = View(Buffer.from_host(raw.reshape(-1)), dtypes.q8_0, (3, 64))
    assert view.strides == (68, 34)
    assert view.nbytes == 204
    assert view.is_contiguous
    assert view.host().shape == (3, 68)
    assert view.extent == (0, 204)


def test_an_original_on_demand_is_made_when_read_and_dropped_when_released(sim: SimulatedBackend) -> None:
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(32, dtype=np.uint8)

    buffer = Buffer.on_demand(32, make)
    assert (buffer.validate(HOST), made) == (0, [])
    assert np.array_equal(buffer.readable(HOST)[0], np.arange(32))
    assert (buffer.readable(HOST)[1], len(made)) == (0, 1)
    buffer.release_original()
    storage, moved = buffer.readable(SPACE)
    assert (moved, len(made)) == (32, 2)
    assert np.array_equal(storage[:32], np.arange(32))
    buffer.release_original()
    assert (buffer.readable(SPACE)[1], len(made)) == (0, 2)
    with pytest.raises(InvalidArgumentError, match="constant"):
        buffer.writable(HOST)
