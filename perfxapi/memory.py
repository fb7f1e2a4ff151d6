"""Buffers (bytes with valid copies in one or more memory spaces) and views (a shape laid over a buffer).

A *memory space* is memory that a set of devices computes on; the host's is one space, shared by every host backend. A
plain buffer is coherent: reading it somewhere copies it there if it must, writing it somewhere makes that copy the only
valid one. A *state* buffer (a KV cache) lives in one space, its home, and never travels whole: a fallback moves the
ranges it reads or writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import Allocator, HostAllocator, untouched_zeros
from perfxapi.dims import Dim, Shape, contiguous_strides, product
from perfxapi.dtypes import DType
from perfxapi.errors import DeviceLostError, InvalidArgumentError, OutOfMemoryError, PerfXError

Bytes = npt.NDArray[np.uint8]
Range = tuple[int, int]
"""A byte range of a buffer: offset, length."""

HOST = "host"


class MemorySpace(Protocol):
    """What a backend supplies for the memory of its devices. The host's is built in.

    Copies keep the order of the device's work: they come after all that was enqueued before them. A device that does
    not answer raises DeviceLostError.
    """

    name: str
    allocator: Allocator

    def read(self, storage: Any, offset: int, out: Bytes) -> None:
        """Copies `out.nbytes` bytes of `storage` from `offset` into host memory, and waits until they are there."""

    def write(self, storage: Any, offset: int, data: Bytes) -> None:
        """Copies host bytes into `storage` at `offset`. The caller may change them as soon as this returns."""

    def slice(self, storage: Any, offset: int, nbytes: int) -> Any:
        """A part of `storage`, itself storage. Offsets are multiples of `ALIGNMENT` bytes."""


@runtime_checkable
class ZeroingMemory(MemorySpace, Protocol):
    """A memory space that makes zeros by itself: they need not be copied there, nor cost memory before their use."""

    def zeros(self, nbytes: int) -> Any:
        """Storage of its own, of zeros. Raises OutOfMemoryError."""


class HostMemory:
    """The host's memory: storage is a uint8 array."""

    name: str = HOST

    def __init__(self) -> None:
        self.allocator: Allocator = HostAllocator()

    def read(self, storage: Any, offset: int, out: Bytes) -> None:
        """Copies out of a host array."""
        out[:] = storage[offset : offset + out.nbytes]

    def write(self, storage: Any, offset: int, data: Bytes) -> None:
        """Copies into a host array."""
        storage[offset : offset + data.nbytes] = data

    def slice(self, storage: Any, offset: int, nbytes: int) -> Any:
        """A part of a host array."""
        return storage[offset : offset + nbytes]

    def zeros(self, nbytes: int) -> Any:
        """Zeros of which only what is written costs memory."""
        return untouched_zeros(nbytes)


_SPACES: dict[str, MemorySpace] = {HOST: HostMemory()}


def register_memory_space(space: MemorySpace) -> None:
    """Makes a memory space known; the same name again replaces it (a backend that was reloaded)."""
    _SPACES[space.name] = space


def memory_space(name: str) -> MemorySpace:
    """The memory space of that name."""
    return _SPACES[name]


@contextmanager
def _naming(space: str) -> Iterator[None]:
    """A DeviceLostError within names the memory space."""
    try:
        yield
    except DeviceLostError as error:
        error.space = space
        raise


def read_from(space: str, storage: Any, offset: int, out: Bytes) -> None:
    """Copies from a memory space to the host. A DeviceLostError names the space."""
    with _naming(space):
        _SPACES[space].read(storage, offset, out)


def write_to(space: str, storage: Any, offset: int, data: Bytes) -> None:
    """Copies from the host to a memory space. A DeviceLostError names the space."""
    with _naming(space):
        _SPACES[space].write(storage, offset, data)


class Allocation:
    """Storage that goes back to its allocator when the last of the buffers over it goes."""

    __slots__ = ("allocator", "nbytes", "storage")

    def __init__(self, allocator: Allocator, nbytes: int) -> None:
        self.allocator, self.nbytes = allocator, nbytes
        self.storage = allocator.allocate(nbytes)

    def __del__(self) -> None:
        if hasattr(self, "storage"):  # else there was not enough memory
            self.allocator.deallocate(self.storage, self.nbytes)


class Buffer:
    """Bytes with valid copies in one or more memory spaces.

    `home` is set for state. A planned buffer has a `capacity` for its largest use and `nbytes` in use, which copies
    move. Memory that a buffer allocated goes back to its allocator with it. `release` is called when the host original
    of a constant is no longer needed (its pages may then be dropped; reading it again must still work, as with a mapped
    file). The original of a constant made `on_demand` is computed when it is read, and dropped when it is released.
    `derived` caches what backends make of a constant: packed weights, dequantized copies. `pointer` is how the host's
    kernels address the host copy: whoever needs it first makes it, and it goes when that copy is not valid or lies
    elsewhere.
    """

    __slots__ = (
        "__weakref__",
        "_allocations",
        "_derived",
        "_make",
        "_storage",
        "_valid",
        "capacity",
        "constant",
        "home",
        "name",
        "nbytes",
        "pointer",
        "release",
    )

    def __init__(self, nbytes: int, *, name: str = "", home: str | None = None) -> None:
        self.nbytes, self.capacity, self.name, self.home = nbytes, nbytes, name, home
        self.constant = False
        self.release: Callable[[], None] | None = None
        self.pointer: Any = None
        self._derived: dict[Any, Any] | None = None
        self._make: Callable[[], Bytes] | None = None
        self._storage: dict[str, Any] = {}
        self._allocations: list[Allocation] | None = None
        self._valid: set[str] = set()

    @property
    def derived(self) -> dict[Any, Any]:
        """What backends made of a constant, by keys of theirs."""
        if self._derived is None:
            self._derived = {}
        return self._derived

    @classmethod
    def from_host(cls, data: Bytes, *, name: str = "", constant: bool = False) -> Buffer:
        """A buffer over host bytes, without a copy."""
        buffer = cls(data.nbytes, name=name)
        buffer._storage[HOST], buffer.constant = data, constant
        buffer._valid.add(HOST)
        return buffer

    @classmethod
    def on_demand(cls, nbytes: int, make: Callable[[], Bytes], *, name: str = "") -> Buffer:
        """A constant whose host bytes `make` computes, each time the same, whenever they are read and not there."""
        buffer = cls(nbytes, name=name)
        buffer._make, buffer.constant = make, True
        buffer._valid.add(HOST)
        return buffer

    @classmethod
    def state(cls, nbytes: int, space: str, *, name: str = "") -> Buffer:
        """A state buffer of zeros whose home is `space`."""
        buffer = cls(nbytes, name=name, home=space)
        memory = memory_space(space)
        if isinstance(memory, ZeroingMemory):
            with _naming(space):
                buffer._storage[space] = memory.zeros(nbytes)
        else:
            write_to(space, buffer.memory_in(space), 0, untouched_zeros(nbytes))
        buffer._valid.add(space)
        return buffer

    @property
    def valid_spaces(self) -> frozenset[str]:
        """The names of the spaces that hold a valid copy."""
        return frozenset(self._valid)

    def readable(self, space: str = HOST) -> tuple[Any, int]:
        """Storage in `space` with valid contents, and how many bytes were moved to make it so."""
        moved = self.validate(space)
        if self._make is not None and space == HOST and HOST not in self._storage:
            self._storage[HOST] = self._make()
        return self._storage[space], moved

    def validate(self, space: str) -> int:
        """Makes the copy in `space` valid; returns how many bytes were moved. Computes no original on demand."""
        if space in self._valid:
            return 0
        if self.home is not None:
            raise PerfXError(f"state buffer {self.name!r} lives in {self.home!r} and does not travel to {space!r}")
        if not self._valid:
            raise PerfXError(f"buffer {self.name!r} was read before anything was written to it")
        moved = 0
        if HOST not in self._valid:
            source = next(iter(self._valid))
            if not self.host_memory.flags.writeable:  # the caller's bytes, which stay as they are
                self._storage[HOST], self.pointer = HostAllocator().allocate(self.capacity), None
            read_from(source, self._storage[source], 0, self._host_bytes())
            self._valid.add(HOST)
            moved += self.nbytes
        if space != HOST:
            host = self._host_bytes() if self._make is None else self.readable(HOST)[0]
            write_to(space, self.memory_in(space), 0, host)
            self._valid.add(space)
            moved += self.nbytes
        return moved

    def release_original(self) -> None:
        """Lets go of a constant's host original, which a backend has made its own form of. It can be read again."""
        if self._make is not None:
            self._storage.pop(HOST, None)
            self.pointer = None
        if self.release is not None:
            self.release()

    @property
    def host_memory(self) -> Bytes:
        """The host's memory of this buffer, whether or not what it holds is valid."""
        storage: Bytes = self.memory_in(HOST)
        return storage

    def _host_bytes(self) -> Bytes:
        return self.host_memory[: self.nbytes]

    def writable(self, space: str = HOST) -> tuple[Any, int]:
        """Storage in `space` to be written in part, and how many bytes were moved there first.

        Every other copy becomes invalid. Host bytes that are read-only (of `bytes`, of a mapped file) are copied once.
        """
        if self.constant:
            raise InvalidArgumentError(f"buffer {self.name!r} is a constant and cannot be written")
        self.pointer = None
        storage, moved = self.readable(space) if self._valid else (self.memory_in(space), 0)
        if space == HOST and not storage.flags.writeable:
            original, storage = storage, HostAllocator().allocate(self.nbytes)
            storage[:] = original
            self._storage[HOST] = storage
        self._valid = {space}
        return storage, moved

    def overwrite(self, space: str = HOST) -> Any:
        """Storage in `space` for a writer that replaces all bytes: nothing is moved; other copies become invalid."""
        storage = self.memory_in(space)
        self._valid, self.pointer = {space}, None
        return storage

    def restore(self, valid: Iterable[str]) -> None:
        """Makes the copies in `valid` the valid ones again, after a writer that wrote nothing."""
        self._valid, self.pointer = set(valid), None

    def memory_in(self, space: str) -> Any:
        """The memory of this buffer in `space`, whether or not what it holds is valid. Raises OutOfMemoryError."""
        if space not in self._storage:
            allocation = Allocation(memory_space(space).allocator, self.capacity)
            self._storage[space] = allocation.storage
            self._allocations = [*(self._allocations or ()), allocation]
        return self._storage[space]

    def adopt(self, storage: Any, space: str = HOST, *, part_of: Allocation | None = None) -> None:
        """Uses `storage` (a slice of an arena, `part_of` an allocation) as memory in a space, with any contents."""
        self._storage[space] = storage
        if part_of is not None:
            self._allocations = [*(self._allocations or ()), part_of]
        self._valid, self.pointer = {space}, None

    def drop(self, space: str) -> None:
        """Gives back the memory in a space, where another copy is valid."""
        if self._valid - {space}:
            storage = self._storage.pop(space, None)
            self._valid.discard(space)
            self._allocations = [one for one in self._allocations or () if one.storage is not storage]

    def fetch(self, ranges: Iterable[Range]) -> tuple[Bytes, int]:
        """Host bytes as large as this buffer, only `ranges` filled from its home, and how many bytes were moved."""
        assert_state(self)
        staging: Bytes = HostAllocator().allocate(self.nbytes)
        moved = 0
        for offset, length in ranges:
            read_from(str(self.home), self._storage[str(self.home)], offset, staging[offset : offset + length])
            moved += length
        return staging, moved

    def store(self, staging: Bytes, ranges: Iterable[Range]) -> int:
        """Writes `ranges` of host bytes back to the home; returns how many bytes were moved."""
        assert_state(self)
        moved = 0
        for offset, length in ranges:
            write_to(str(self.home), self._storage[str(self.home)], offset, staging[offset : offset + length])
            moved += length
        return moved


def assert_state(buffer: Buffer) -> None:
    """Raises PerfXError unless the buffer is state."""
    if buffer.home is None:
        raise PerfXError(f"buffer {buffer.name!r} is not a state buffer")


class Layout:
    """What a call depends on of a view over plain memory. Layouts that are equal are one object: see `layout_of`."""

    __slots__ = ("dtype", "has_offset", "shape", "strides")

    def __init__(self, dtype: DType, shape: Shape, strides: Shape, has_offset: bool) -> None:
        self.dtype, self.shape, self.strides, self.has_offset = dtype, shape, strides, has_offset


_MAX_LAYOUTS = 4096
_layouts: dict[Any, Layout] = {}


def layout_of(view: View) -> Layout:
    """The layout of a view: dtype, shape, strides, and whether it begins past its buffer's first byte."""
    key = view.dtype, view.shape, view.strides, view.offset != 0
    layout = _layouts.get(key)
    if layout is None:
        if len(_layouts) >= _MAX_LAYOUTS:
            _layouts.clear()  # what is known by the old ones is found anew
        layout = _layouts.setdefault(key, Layout(*key))
    return layout


class View:
    """A shape, dtype and strides (bytes) laid over a buffer from `offset`: what kernels see of an array.

    A quantized view has the logical shape [..., columns] and contiguous rows of blocks; its strides are those of the
    blocks' bytes.
    """

    __slots__ = ("buffer", "dtype", "offset", "shape", "strides")

    def __init__(self, buffer: Any, dtype: DType, shape: Shape, strides: Shape | None = None, offset: int = 0) -> None:
        self.buffer, self.dtype, self.shape, self.offset = buffer, dtype, shape, offset
        self.strides = strides if strides is not None else self.contiguous(dtype, shape)

    @staticmethod
    def contiguous(dtype: DType, shape: Shape) -> Shape:
        """Row-major strides; for quantized types the last one is the bytes of a block."""
        if not dtype.is_quantized:
            return contiguous_strides(shape, dtype.itemsize)
        return contiguous_strides((*shape[:-1], int(shape[-1]) // dtype.block_size), dtype.itemsize)

    @property
    def is_contiguous(self) -> bool:
        """Whether elements stand in row-major order without gaps."""
        return self.strides == self.contiguous(self.dtype, self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements (not of the buffer). Concrete shapes only."""
        if not self.shape:
            return self.dtype.itemsize
        return int(product(self.shape[:-1])) * self.dtype.row_bytes(int(self.shape[-1]))

    def over(self, storage: Bytes) -> npt.NDArray[Any]:
        """This view as an array over host bytes: bit patterns for bfloat16, [..., row_bytes] for quantized types."""
        if self.dtype.is_quantized:
            columns = self.dtype.row_bytes(int(self.shape[-1]))
            return np.ndarray((*self.shape[:-1], columns), np.uint8, storage, self.offset, (*self.strides[:-1], 1))
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype.numpy)  # NumPy wants even the strides of nothing to fit the memory
        return np.ndarray(self.shape, self.dtype.numpy, storage, self.offset, self.strides)

    @property
    def extent(self) -> Range:
        """The byte range of the buffer that the view's elements lie in. Concrete shapes only."""
        if 0 in self.shape:
            return self.offset, 0
        blocks = [int(size) for size in self.shape]
        if self.dtype.is_quantized:
            blocks[-1] //= self.dtype.block_size
        steps = [(size - 1) * int(stride) for size, stride in zip(blocks, self.strides, strict=True)]
        start = self.offset + sum(step for step in steps if step < 0)
        return start, sum(map(abs, steps)) + self.dtype.itemsize

    def host(self) -> npt.NDArray[Any]:
        """The view in host memory, for reading (moved there if it must be)."""
        return self.over(self.buffer.readable(HOST)[0])


def check_addressable(what: str, shape: Shape, dtype: DType) -> None:
    """Raises InvalidArgumentError where offsets do not fit 63 bits, even were sizes of 0 and symbols 1."""
    least = math.prod(size.factor if isinstance(size, Dim) else size or 1 for size in shape) * dtype.itemsize
    if least >= 1 << 63:
        raise InvalidArgumentError(f"{what}: {shape} of {dtype.name} is more memory than can be addressed")


@contextmanager
def told_memory(what: str) -> Iterator[None]:
    """NumPy's error for an array that is too large as ours."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"{what}: {error}") from None


def bind(view: View, buffer: Buffer, sizes: Mapping[str, int]) -> View:
    """A view with its symbols replaced by sizes, over a buffer."""
    shape = tuple(size.factor * sizes[size.name] if isinstance(size, Dim) else size for size in view.shape)
    if any(isinstance(stride, Dim) for stride in view.strides):
        strides: Shape = tuple(s.factor * sizes[s.name] if isinstance(s, Dim) else s for s in view.strides)
        if view.is_contiguous:
            strides = contiguous_strides(shape, view.dtype.itemsize)
    else:
        strides = view.strides
    return View(buffer, view.dtype, shape, strides, view.offset)
