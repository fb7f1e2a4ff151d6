"""What the namespace can do (array API standard 2025.12, "Inspection")."""

from __future__ import annotations

from typing import Any

from perfxapi import dtypes
from perfxapi.device import Device
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.indexing import MAX_NDIM
from perfxapi.policy import all_devices, get_device
from perfxapi.standard.data_types import KINDS

_STANDARD = (
    dtypes.bool_, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.uint16, dtypes.uint32,
    dtypes.uint64, dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128,
)  # fmt: skip
"""The dtypes of the standard. Every device has them all: what its kernels lack, the fallback computes."""


class NamespaceInfo:
    """Capabilities, devices and dtypes of the namespace."""

    def capabilities(self) -> dict[str, bool | int | None]:
        """Shapes that depend on data work, except while tracing; and how many dimensions an array may have."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": MAX_NDIM}

    def default_device(self) -> Device:
        """Where new arrays live: the device in force here (`use_device`, `PERFXAPI_DEVICE`)."""
        return get_device()

    def devices(self) -> tuple[Device, ...]:
        """Every usable device, in the order in which "auto" prefers them."""
        return tuple(all_devices())

    def default_dtypes(self, *, device: Device | str | None = None) -> dict[str, DType]:
        """The dtypes of arrays for which none is given."""
        _check(device)
        return {
            "real floating": dtypes.float64,
            "complex floating": dtypes.complex128,
            "integral": dtypes.int64,
            "indexing": dtypes.int64,
        }

    def dtypes(
        self, *, device: Device | str | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, DType]:
        """The dtypes of the standard by name, of one kind or several (default: all)."""
        _check(device)
        wanted = tuple(KINDS) if kind is None else kind if isinstance(kind, tuple) else (kind,)
        unknown = [name for name in wanted if name not in KINDS]
        if unknown:
            raise InvalidArgumentError(f"dtypes: kind must be one of {', '.join(KINDS)}; got {unknown[0]!r}")
        kinds = {ours for name in wanted for ours in KINDS[name]}
        return {dtype.name: dtype for dtype in _STANDARD if dtype.kind in kinds}

    def __repr__(self) -> str:
        return f"NamespaceInfo(devices={[str(device) for device in self.devices()]})"


def _check(device: Any) -> None:
    if device is not None:
        get_device(device)


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807
    """Capabilities, devices and dtypes of the namespace."""
    return NamespaceInfo()
