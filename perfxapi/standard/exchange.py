"""Sharing memory with other libraries by DLPack (array API standard 2025.12, "Data interchange").

Arrays whose memory is the host's go out and come in through NumPy's own DLPack. Memory that was handed over read-only
becomes a constant: it can be computed with, but not written to.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.array import Array, asarray, is_traced, on_host
from perfxapi.device import Device
from perfxapi.dtypes import dtype_of
from perfxapi.errors import ExchangeError, PerfXError, TraceError
from perfxapi.memory import HOST
from perfxapi.policy import get_device


class DLPackDevice(IntEnum):
    """Kinds of devices that DLPack tells apart and that are met here."""

    CPU = 1


_HOST_DEVICE = (DLPackDevice.CPU, 0)


def dlpack_device(x: Array, /) -> tuple[DLPackDevice, int]:
    """DLPack's kind and number of the device whose memory the array is in.

    Raises ExchangeError for memory that DLPack is not spoken for here: move it by `to_device("cpu")` first.
    """
    if x.device.memory_space != HOST:
        raise ExchangeError(f"__dlpack_device__: memory of {x.device} cannot be shared; copy it by to_device('cpu')")
    return _HOST_DEVICE


def dlpack(
    x: Array,
    /,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule of the array's memory.

    `dl_device` may ask for the host, (1, 0), where memory of another device is copied unless `copy` is False. Raises
    ExchangeError for dtypes without a DLPack code, for streams, and where a constant would have to be handed over as
    memory that may be written (DLPack before 1.0 knows no other): ask for a copy then.
    """
    if is_traced(x.view):
        raise TraceError("__dlpack__: the values of a traced array are only known when its graph runs")
    on_the_host = x.device.memory_space == HOST
    if stream is not None:
        raise ExchangeError(f"__dlpack__: stream must be None for memory of the host; got {stream!r}")
    if dl_device is not None and (int(dl_device[0]), dl_device[1]) != _HOST_DEVICE:
        raise ExchangeError(f"__dlpack__: memory of {x.device} cannot be handed over to the device {tuple(dl_device)}")
    if not on_the_host and (dl_device is None or copy is False):
        raise ExchangeError(f"__dlpack__: memory of {x.device} cannot be shared; copy it by to_device('cpu')")
    if x.dtype.is_quantized or x.dtype is dtypes.bfloat16:
        raise ExchangeError(f"__dlpack__: NumPy hands over no {x.dtype.name}: convert it by astype(x, float32)")
    return _capsule(_writable(x, copy or not on_the_host), max_version)


def _writable(x: Array, copy: bool) -> npt.NDArray[Any]:
    """The array's elements in host memory, its own or a copy, read-only where the array is a constant."""
    if copy:
        return np.array(np.asarray(x))
    if x.view.buffer.constant:
        values = x.view.host()
        values.flags.writeable = False
        return values
    return x.view.over(x.view.buffer.writable(HOST)[0])


def _capsule(values: npt.NDArray[Any], max_version: tuple[int, int] | None) -> Any:
    try:
        return values.__dlpack__() if max_version is None else values.__dlpack__(max_version=max_version)
    except TypeError:  # NumPy before 2.1 knows no versions
        return _capsule(values, None)
    except BufferError as error:
        raise ExchangeError(f"__dlpack__: {error}; ask for copy=True") from None


def from_dlpack(x: Any, /, *, device: Device | str | None = None, copy: bool | None = None) -> Array:
    """An array over the memory of another library's array, or a copy of it.

    `copy`: True always copies, None where it must, and False raises ExchangeError instead. Without `device` the array
    lies on the device in force, whose memory is the host's; an Array of ours stays where it is.
    """
    if isinstance(x, Array):
        return asarray(x, device=device, copy=copy)
    values = _received(x, copy)
    contiguous = values.flags.c_contiguous and values.flags.aligned
    if copy is False and not contiguous:
        raise ExchangeError(f"from_dlpack: copy=False, but strides {values.strides} of {values.shape} need one")
    array = on_host(values.copy() if copy else values, dtype_of(values.dtype), get_device(device))
    if contiguous and not copy and not values.flags.writeable:
        array.view.buffer.constant = True
    return array


def _received(x: Any, copy: bool | None) -> npt.NDArray[Any]:
    """The elements of another library's array in host memory. Raises ExchangeError where they cannot be had."""
    name = type(x).__name__
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise ExchangeError(f"from_dlpack: {name} has no __dlpack__ and __dlpack_device__")
    kind, index = x.__dlpack_device__()
    try:
        if int(kind) == DLPackDevice.CPU:
            return np.from_dlpack(x)
        if copy is False:
            raise ExchangeError(f"from_dlpack: copy=False, but {name} is in memory of the DLPack device {kind, index}")
        return np.from_dlpack(x, device="cpu", copy=True)
    except PerfXError:
        raise
    except Exception as error:  # whatever the other library raises
        raise ExchangeError(
            f"from_dlpack: {name} of the DLPack device {kind, index} cannot be had: {type(error).__name__}: {error}"
        ) from error
