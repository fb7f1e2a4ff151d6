"""One device at work: programs compiled on first use, memory from a pool, launches bound and enqueued, faults read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.allocator import PoolAllocator, StatisticsAllocator
from perfxapi.backend import OpCall
from perfxapi.device import Device
from perfxapi.errors import InvalidArgumentError
from perfxapi.memory import View, register_memory_space
from perfxapi_gpu_kernels.driver import Bytes, Driver, Region
from perfxapi_gpu_kernels.launches import Argument, Binding, Launch, Request
from perfxapi_gpu_kernels.sources import Program, entries, source_text

_TABLE_BYTES = 64 << 20
"""Memory for constants that can be made anew."""


class _DeviceAllocator:
    """Memory objects straight from the driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def allocate(self, nbytes: int) -> Region:
        return Region(self._driver.allocate(nbytes), 0, nbytes)

    def deallocate(self, storage: Region, nbytes: int) -> None:
        self._driver.free(storage.memory)


class DeviceMemory:
    """The memory space of one device. Storage is a Region."""

    def __init__(self, name: str, driver: Driver) -> None:
        self.name, self._driver = name, driver
        self.statistics = StatisticsAllocator(PoolAllocator(_DeviceAllocator(driver)))
        self.allocator: Any = self.statistics

    def read(self, storage: Region, offset: int, out: Bytes) -> None:
        """Copies to the host, after all work before it."""
        if out.nbytes:
            self._driver.read(self.slice(storage, offset, out.nbytes), out)

    def write(self, storage: Region, offset: int, data: Bytes) -> None:
        """Copies from the host."""
        if data.nbytes:
            self._driver.write(self.slice(storage, offset, data.nbytes), np.ascontiguousarray(data))

    def zeros(self, nbytes: int) -> Region:
        """Storage of zeros, made on the device. It goes with the last that uses it, not to the pool."""
        return Region(self._driver.zeros(nbytes), 0, nbytes)

    def slice(self, storage: Region, offset: int, nbytes: int) -> Region:
        """A part of storage."""
        return Region(storage.memory, storage.offset + offset, nbytes)


class Runtime:
    """A device with its memory, its compiled programs and its fault word."""

    def __init__(self, device: Device, driver: Driver) -> None:
        self.device, self.driver, self.properties = device, driver, driver.properties
        self.memory = DeviceMemory(device.memory_space, driver)
        register_memory_space(self.memory)
        self._functions: dict[tuple[Program, str], Any] = {}
        self._lock = threading.RLock()
        self._fault: Region | None = None
        self._scratch: Region | None = None
        self._tables = OrderedDict[Any, Region]()

    # ---- from a call to bound kernels

    def launches(self, binding: Binding, call: OpCall, workspace: Region | None) -> list[Launch]:
        """The kernels of a call whose sizes are known."""
        return binding.launches(Request(call, self.properties, workspace, self._packed, self._table))

    def bind(self, launch: Launch, code: int) -> Any:
        """A launch with its memory. `code` is what it sets the fault word to where an operand is wrong."""
        arguments: list[Any] = [self._resolve(argument) for argument in launch.arguments]
        if launch.checks:
            arguments += [self.fault_word, np.int32(code)]
        function = self._function(launch.program, launch.entry)
        return self.driver.bind(function, launch.groups, launch.local, arguments)

    def _resolve(self, argument: Argument) -> Any:
        return self.region_of(argument) if isinstance(argument, View) else argument

    def region_of(self, view: View) -> Region:
        """Where the first element of an operand is."""
        if view.buffer.constant:  # in a plan, nobody has moved it here yet
            view.buffer.validate(self.memory.name)
        storage: Region = view.buffer.memory_in(self.memory.name)
        return Region(storage.memory, storage.offset + view.offset, storage.nbytes)

    def _function(self, program: Program, entry: str) -> Any:
        with self._lock:
            if (program, entry) not in self._functions:
                names = entries(program) if not program.text else [entry]
                compiled = self.driver.compile(source_text(program, self.properties), names)
                self._functions.update({(program, name): function for name, function in compiled.items()})
            return self._functions[program, entry]

    def _packed(self, view: View, key: Any, make: Callable[[], Sequence[Any]]) -> Any:
        """What `make` gives for a constant, kept with it: host arrays are moved to the device."""
        full_key = (self.memory.name, key, view.offset, view.shape)
        derived = view.buffer.derived
        if full_key not in derived:
            derived[full_key] = tuple(self.upload(part) if isinstance(part, np.ndarray) else part for part in make())
            view.buffer.release_original()
        return derived[full_key]

    def _table(self, key: Any, make: Callable[[], npt.NDArray[Any]]) -> Region:
        """Constants by a key: what was used last is kept, what is bound keeps its own."""
        with self._lock:
            if key not in self._tables:
                self._tables[key] = self.upload(make())
            self._tables.move_to_end(key)
            while len(self._tables) > 1 and sum(table.nbytes for table in self._tables.values()) > _TABLE_BYTES:
                self._tables.popitem(last=False)
            return self._tables[key]

    def upload(self, values: Any) -> Region:
        """A copy of a host array in memory of its own."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        region = Region(self.driver.allocate(max(data.nbytes, 1)), 0, data.nbytes)
        if data.nbytes:
            self.driver.write(region, data)
        return region

    def check(self, program: Program, entry: str) -> int | None:
        """Compiles a program now; how many arguments the kernel takes, where that is known.

        Raises KernelError with what the compiler said.
        """
        return self.driver.num_arguments(self._function(program, entry))

    # ---- running

    def run(self, binding: Binding, call: OpCall) -> None:
        """Runs one call now. Raises InvalidArgumentError where a kernel finds an operand wrong."""
        needed = binding.workspace(call, self.properties)
        with self._lock:
            launches = self.launches(binding, call, self._scratch_of(needed))
            for launch in launches:
                self.driver.enqueue(self.bind(launch, 1))
            if any(launch.checks for launch in launches):
                self.raise_fault([call.op])

    def _scratch_of(self, nbytes: int) -> Region | None:
        if not nbytes:
            return None
        if self._scratch is None or self._scratch.nbytes < nbytes:
            self._scratch = Region(self.driver.allocate(nbytes), 0, nbytes)
        return self._scratch

    @property
    def fault_word(self) -> Region:
        """An int32 on the device: 0, or the code of the first launch that found an operand wrong."""
        if self._fault is None:
            self._fault = self.upload(np.zeros(1, np.int32))
        return self._fault

    def raise_fault(self, ops: Sequence[str]) -> None:
        """Waits for all work. Raises InvalidArgumentError where a launch found an operand wrong.

        A launch with the code n was one of the op `ops[n - 1]`.
        """
        word = np.zeros(1, np.int32)
        self.driver.read(self.fault_word, word.view(np.uint8))
        if word[0]:
            self.driver.write(self.fault_word, np.zeros(4, np.uint8))
            raise InvalidArgumentError(f"{ops[word[0] - 1]}: an operand holds a value that is out of range")
