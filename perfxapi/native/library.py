"""Shared libraries that meet `perfx/abi.h`: opened with cffi, checked, and the kernels of one variant picked out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from perfxapi.errors import DeviceLostError, KernelError, PluginError, UnknownNameError

ABI_VERSION = 1
MAX_NDIM = 6
MAX_OPERANDS = 24
OK, DEVICE_LOST, DISABLED = 0, 5, 6
_STATUS = ("ok", "unsupported", "invalid argument", "out of memory", "kernel error", "device lost", "disabled")


def status_text(status: int) -> str:
    """What a status code of the C ABI says."""
    return _STATUS[status] if 0 <= status < len(_STATUS) else f"status {status}"


def check(status: int, what: str) -> None:
    """Raises the exception that a status code stands for."""
    if status == DEVICE_LOST:
        raise DeviceLostError(f"{what}: {status_text(status)}")
    if status != OK:
        raise KernelError(f"{what}: {status_text(status)}")


def include_dir() -> Path:
    """The folder of the C headers that native backends and plugins are compiled with."""
    return Path(__file__).parent.parent / "include"


def declarations(*headers: str) -> str:
    """The C declarations of headers as cffi reads them: without preprocessor lines and inline functions."""
    text = "\n".join((include_dir() / header).read_text() for header in headers)
    constants = dict(re.findall(r"^#define (PERFX?_\w+|PX_\w+) (\d+)\s*$", text, re.MULTILINE))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    text = re.sub(r"^static inline.*?^}", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    for name, value in constants.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text


@cache
def shared_ffi() -> Any:
    """The declarations of all native libraries: function pointers of one can be passed to another."""
    import cffi  # when the first library is opened: it brings a C parser along

    ffi = cffi.FFI()
    ffi.cdef(declarations("perfx/abi.h", "perfx/host.h"))
    return ffi


class NativeLibrary:
    """A library opened and checked; `kernels` are those of the chosen variant, by op.

    `chosen_by` is the environment variable that names the variant.
    """

    def __init__(self, path: Path | str, variant: str = "", chosen_by: str = "PERFXAPI_CPU_VARIANT") -> None:
        self.chosen_by = chosen_by
        self.ffi = shared_ffi()
        self.path = str(path)
        try:
            self.lib: Any = self.ffi.dlopen(self.path)
            table = self.lib.perfx_library()
        except (OSError, AttributeError) as error:
            raise PluginError(f"{path}: cannot be loaded as a native library: {error}") from error
        self._check(table)
        self.name = self.ffi.string(table.name).decode()
        self.variants = [table.variants[index] for index in range(table.num_variants)]
        self.variant = self._choose(variant)
        self.variant_name = self._text(self.variant.name)
        entries = (self.variant.kernels[index] for index in range(self.variant.num_kernels))
        self.kernels = {self._text(entry.op): entry for entry in entries}

    def _text(self, pointer: Any) -> str:
        return str(self.ffi.string(pointer).decode())

    def _check(self, table: Any) -> None:
        ffi = self.ffi
        if table == ffi.NULL or table.abi_version != ABI_VERSION:
            version = "no table" if table == ffi.NULL else f"ABI version {table.abi_version}"
            raise PluginError(
                f"{self.path}: {version}; this perfxapi has version {ABI_VERSION}. Rebuild it with these headers."
            )
        for name in ("tensor", "call", "thread", "kernel", "variant"):
            theirs, ours = getattr(table, f"sizeof_{name}"), ffi.sizeof(f"Px{name.capitalize()}")
            if theirs != ours:
                raise PluginError(
                    f"{self.path}: its Px{name.capitalize()} has {theirs} bytes, ours {ours}. Rebuild it."
                )

    def supported_variants(self) -> list[str]:
        """Names of the variants that this machine can run, best first."""
        return [self._text(v.name) for v in self.variants if v.supported()]

    def _choose(self, wanted: str) -> Any:
        supported = [variant for variant in self.variants if variant.supported()]
        if not supported:
            raise PluginError(f"{self.path}: none of its variants runs on this machine")
        if not wanted:
            return supported[0]
        for variant in supported:
            if self._text(variant.name) == wanted:
                return variant
        raise UnknownNameError(f"instruction set ({self.chosen_by})", wanted, [self._text(v.name) for v in supported])


def address(storage: Any, offset: int = 0) -> Any:
    """A pointer into a host array."""
    return shared_ffi().cast("void*", storage.__array_interface__["data"][0] + offset)
