"""What one GPU API supplies: memory, compiling, launching. All else is shared by opencl, cuda and hip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Properties:
    """What kernels and their launches may depend on.

    `dialect` names the prelude ("opencl", "cuda", "hip"). `is_processor`: work-items are lanes of a CPU's vectors, and
    local memory is plain memory. `local_memory` is in bytes a work-group. `has_*` are extensions: every kernel has a
    form without each. `identity` says which device with which driver this is: what is compiled and tuned holds for it
    alone.
    """

    dialect: str
    identity: str
    is_processor: bool = False
    compute_units: int = 1
    subgroup_size: int = 32
    local_memory: int = 32 << 10
    max_group_size: int = 256
    has_double: bool = False
    has_subgroups: bool = False
    has_half: bool = False
    has_dot4: bool = False
    shares_host_memory: bool = False


class Region(NamedTuple):
    """Storage on a device: a part of one of the API's memory objects. Offset and size in bytes."""

    memory: Any
    offset: int
    nbytes: int


class Driver(Protocol):
    """One device of one API. Work runs in the order in which it is enqueued, reads and writes included.

    Any method may raise DeviceLostError; `allocate` raises OutOfMemoryError, `compile` KernelError with what the
    compiler said.
    """

    properties: Properties

    def allocate(self, nbytes: int) -> Any:
        """A memory object of at least that many bytes."""

    def zeros(self, nbytes: int) -> Any:
        """A memory object of that many bytes, all 0; what is never written need not cost memory."""

    def free(self, memory: Any) -> None:
        """Gives a memory object back."""

    def read(self, region: Region, out: Bytes) -> None:
        """Copies `out.nbytes` bytes from the beginning of a region to the host, after all work before it."""

    def write(self, region: Region, data: Bytes) -> None:
        """Copies host bytes to the beginning of a region. `data` may be changed as soon as this returns."""

    def compile(self, source: str, entries: Sequence[str]) -> dict[str, Any]:
        """The kernels of a program by name. What was compiled before is taken from a cache on disk."""

    def num_arguments(self, function: Any) -> int | None:
        """How many arguments a kernel takes; None where the API does not tell."""

    def bind(self, function: Any, groups: Size, local: Size, arguments: Sequence[Any]) -> Any:
        """A kernel with arguments: a Region is passed as its memory object and its offset (int64), NumPy scalars as
        they are, bytes as a structure by value.
        """

    def enqueue(self, bound: Any) -> None:
        """Launches without waiting."""

    def record(self, bound: Sequence[Any]) -> Any | None:
        """Kernels in order as one thing that `enqueue` takes, for runs that are all alike; None where the API has no
        such thing. Each was enqueued before.
        """

    def recording(self) -> str:
        """What becomes of runs that are alike, in words: what `record` makes, or why it makes nothing."""

    def finish(self) -> None:
        """Waits until all that was enqueued is done."""
