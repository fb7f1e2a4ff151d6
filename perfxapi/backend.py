"""The small contract between the core and a backend: a manifest, devices, a table of kernels, optionally a compiler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from perfxapi.device import Device
from perfxapi.errors import DeviceUnavailableError, PluginError, UnknownNameError
from perfxapi.memory import HOST, View, bind

API_VERSION = 1
"""Version of this contract. A backend made for another one is not loaded."""


@dataclass(slots=True)
class OpCall:
    """One op on concrete (when launched) or symbolic (when planned) views."""

    op: str
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    attributes: Mapping[str, Any]

    def at(self, sizes: Mapping[str, int]) -> OpCall:
        """A planned call at given sizes of its symbolic dimensions."""
        inputs, outputs = (
            tuple(bind(view, view.buffer, sizes) for view in views) for views in (self.inputs, self.outputs)
        )
        return OpCall(self.op, inputs, outputs, self.attributes)


class Kernel(Protocol):
    """One op on one backend."""

    op: str

    def accepts(self, call: OpCall) -> str | None:
        """None if the kernel runs this call well, else the reason why not. Looks at dtypes, shapes and strides only."""

    def launch(self, call: OpCall) -> None:
        """Computes `call.outputs` (and operands that the op mutates), all valid in the device's memory space.

        Raises KernelError.
        """

    def workspace_bytes(self, call: OpCall) -> int:
        """Scratch memory that a compiled segment gives the kernel, in bytes."""


Block: TypeAlias = tuple[Any, Any, int, int]
"""Fresh host memory: its pointer, the uint8 array that it is part of, from which byte on, and how many bytes it has."""

Launcher: TypeAlias = Callable[..., Block | None]
"""Runs calls of one signature, given the pointers of their inputs. Returns the result; None where the kernel failed."""


@runtime_checkable
class SmallKernel(Kernel, Protocol):
    """A kernel of the host that can run small calls without describing each of them anew."""

    def launcher(self, call: OpCall) -> Launcher | None:
        """What runs calls like this one, which has one result and changes no operand; None where it is too large."""

    def pointer(self, storage: Any) -> Any:
        """How launchers address host memory; adding a number of bytes to it is what an offset does."""


@dataclass(slots=True)
class PlannedCall:
    """A call whose views may have symbolic shapes, the kernel chosen for it, whether it must wait for the calls before
    it, and its scratch memory.
    """

    call: OpCall
    kernel: Kernel
    barrier_before: bool = True
    workspace: Any = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Where and why a compiled segment stopped: all calls before `index` are complete, none after it has begun."""

    index: int
    reason: str


class CompiledSegment(Protocol):
    """A run of planned calls turned into one thing that is launched at once."""

    def run(self, sizes: Mapping[str, int], first: int) -> Stop | None:
        """Runs the calls from `first` on. None when all are done. The mapping of sizes is not changed afterwards."""


class Backend:
    """Base of backends. Subclasses set `name`, and override what they have."""

    name: str = ""

    def devices(self) -> Sequence[Device]:
        """The usable devices, best first."""
        return ()

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The kernels for an op, best first."""
        return ()

    def kernels_on(self, device: Device, op: str) -> Sequence[Kernel]:
        """The kernels for an op on one device. A backend whose devices have kernels of their own overrides this."""
        return self.kernels(op)

    def kernel_ops(self) -> Iterable[str]:
        """The names of the ops that have kernels here."""
        return ()

    def circumstances(self) -> str:
        """What the speed of the kernels depends on beside the call: choices that were measured hold for these alone."""
        return self.name

    def finish(self, device: Device) -> None:
        """Waits until all that was launched on a device is done. Nothing to do where a launch returns when it is."""

    def compile(self, calls: Sequence[PlannedCall], bounds: Mapping[str, int]) -> CompiledSegment | None:
        """Turns planned calls into one launch; None: launch them one by one."""
        return None

    def searches(self) -> Iterable[tuple[str, Callable[[], None]]]:
        """What `perfxapi tune` measures for the backend to be quicker here: names, and what does it and keeps it."""
        return ()

    def prepare(self, call: OpCall) -> None:
        """Does ahead of time what the first launch of a call would do (packs constant weights)."""


@dataclass(frozen=True, slots=True)
class BackendManifest:
    """What a plugin registers: cheap to make, nothing heavy imported yet.

    `load()` returns the Backend on first use. `probe` is "module:function", run once in a child process with a
    deadline: it returns None when usable or the reason why not. `mend` is the command that would make an unusable
    backend usable. A backend that has kernels but no devices leaves `kinds` empty and says with `joins` whom they
    serve: the devices on a memory space ("host"), or of these kinds. They come before those of lower priority.
    `own_memory`: the devices do not compute on the host's memory, so they are not asked for calls there.
    """

    name: str
    load: Callable[[], Backend]
    kinds: tuple[str, ...] = ()
    priority: int = 0
    api_version: int = API_VERSION
    probe: str | None = None
    probe_seconds: float = 1.0
    mend: str = ""
    joins: str | tuple[str, ...] | None = None
    own_memory: bool = False

    @property
    def works_on_host(self) -> bool:
        """Whether the kernels may be on the host's memory, as far as the manifest says."""
        return not self.own_memory and (not self.joins or HOST in self.joined)

    @property
    def joined(self) -> tuple[str, ...]:
        """The memory spaces and kinds of devices in `joins`."""
        return (self.joins,) if isinstance(self.joins, str) else self.joins or ()

    def serves(self, device: Device) -> bool:
        """Whether the kernels of a backend without devices of its own run on this one."""
        return device.memory_space in self.joined or device.kind in self.joined


@dataclass(slots=True)
class BackendEntry:
    """A registered backend and what is known about it."""

    manifest: BackendManifest
    distribution: str
    backend: Backend | None = None
    problem: str | None = None
    traceback: str = ""
    device_list: tuple[Device, ...] = ()


class BackendRegistry:
    """All registered backends, best first. Discovery runs once, on first use."""

    def __init__(self) -> None:
        self.discover: Callable[[], None] | None = None
        self.probe: Callable[[BackendManifest], str | None] = lambda manifest: None
        self._entries: dict[str, BackendEntry] = {}
        self._by_device: dict[Device, BackendEntry] = {}
        self._lost: dict[Device, str] = {}
        self._lock = threading.RLock()
        self.failures: dict[str, str] = {}
        self.generation = 0
        self._discovered = False

    def register(self, manifest: BackendManifest, distribution: str) -> None:
        """Adds a backend. Raises PluginError for a bad manifest, another API version or a name that is taken."""
        if not isinstance(manifest, BackendManifest) or isinstance(manifest.kinds, str):
            raise PluginError(
                f"{distribution} registers {manifest!r}: it must be a BackendManifest with a tuple of kinds"
            )
        if bool(manifest.kinds) == bool(manifest.joins):
            raise PluginError(f"backend {manifest.name!r} of {distribution} must give either `kinds` or `joins`")
        if manifest.api_version != API_VERSION:
            raise PluginError(
                f"backend {manifest.name!r} of {distribution} was made for version {manifest.api_version} of the "
                f"backend API; this perfxapi has version {API_VERSION}. Install a {distribution} made for it."
            )
        if manifest.name in self._entries:
            other = self._entries[manifest.name].distribution
            raise PluginError(
                f"backend {manifest.name!r} is registered by two distributions, {other} and {distribution}: "
                "uninstall one"
            )
        self._entries[manifest.name] = BackendEntry(manifest, distribution)
        self.generation += 1

    def unregister(self, name: str) -> None:
        """Forgets a backend and its devices; arrays that live there can still be read."""
        with self._lock:
            self._ensure_discovered()
            entry = self._entries.pop(name)
            for device in entry.device_list:
                self._by_device.pop(device, None)
                self._lost.pop(device, None)
            self.generation += 1

    def entries(self) -> list[BackendEntry]:
        """Every registered backend, highest priority first."""
        self._ensure_discovered()
        return sorted(self._entries.values(), key=lambda entry: -entry.manifest.priority)

    def serving(self, kind: str) -> list[BackendEntry]:
        """The registered backends that serve a kind of device, highest priority first."""
        return [entry for entry in self.entries() if kind in entry.manifest.kinds]

    def usable(self) -> list[BackendEntry]:
        """The backends that load and have at least one device. Loads every backend: not for hot paths."""
        return [entry for entry in self.entries() if self.load(entry) and entry.device_list]

    def best(self) -> BackendEntry:
        """The usable backend of the highest priority. Backends below it are not loaded."""
        return next(entry for entry in self.entries() if self.load(entry) and self.working_devices(entry))

    def load(self, entry: BackendEntry) -> Backend | None:
        """The backend, loaded once; None with `entry.problem` set where it cannot be used."""
        with self._lock:
            if entry.backend is not None or entry.problem is not None:
                return entry.backend
            entry.problem = self.probe(entry.manifest)
            if entry.problem is None:
                self._load_now(entry)
            return entry.backend

    def _load_now(self, entry: BackendEntry) -> None:
        try:
            backend = entry.manifest.load()
            entry.device_list = tuple(backend.devices())
            self._check_devices(entry)
        except (Exception, SystemExit) as error:  # a broken backend must not take the others down; its cause is kept
            entry.problem, entry.device_list = f"{type(error).__name__}: {error}", ()
            entry.traceback = _traceback_text()
            return
        entry.backend = backend
        self._by_device.update(dict.fromkeys(entry.device_list, entry))

    def _check_devices(self, entry: BackendEntry) -> None:
        if not entry.device_list and entry.manifest.joins is None:
            raise DeviceUnavailableError(f"backend {entry.manifest.name!r} finds no device on this machine")
        for device in entry.device_list:
            if device.kind not in entry.manifest.kinds:
                raise PluginError(
                    f"backend {entry.manifest.name!r} has device {device}, a kind that it did not register"
                )
            if device in self._by_device:
                owner = self._by_device[device].manifest.name
                raise PluginError(
                    f"backend {entry.manifest.name!r} has device {device}, which backend {owner!r} has too"
                )

    def of_device(self, device: Device) -> BackendEntry:
        """The backend that owns a device, loaded if need be. Raises UnknownNameError for a device that none owns."""
        if device not in self._by_device:
            for entry in self.serving(device.kind):
                self.load(entry)
        try:
            return self._by_device[device]
        except KeyError:
            raise UnknownNameError("device", str(device), sorted(map(str, self._by_device))) from None

    def working_devices(self, entry: BackendEntry) -> list[Device]:
        """The devices of a loaded backend that are not lost."""
        return [device for device in entry.device_list if device not in self._lost]

    def devices_served(self, manifest: BackendManifest) -> list[Device]:
        """The working devices that a backend without devices serves, best first."""
        owners = (entry for entry in self.entries() if self.load(entry))
        return [device for entry in owners for device in self.working_devices(entry) if manifest.serves(device)]

    def mark_lost(self, device: Device, reason: str) -> None:
        """Takes a device that stopped answering out of use, for the life of the process."""
        self._lost[device] = f"{device} was lost ({reason})"
        self.generation += 1

    def restore(self, device: Device) -> None:
        """Puts a device that was lost back in use. What it held is gone."""
        if self._lost.pop(device, None) is not None:
            self.generation += 1

    def lost(self, device: Device) -> str:
        """Why a device is out of use; empty while it works."""
        return self._lost.get(device, "")

    def note_failure(self, name: str, problem: str) -> None:
        """Remembers why the plugin of that name could not be loaded, for whoever asks for its device."""
        self.failures[name] = problem

    def reset(self) -> None:
        """Forgets everything; the next use discovers again."""
        with self._lock:
            self._entries.clear()
            self._by_device.clear()
            self._lost.clear()
            self.failures.clear()
            self._discovered = False
            self.generation += 1

    def _ensure_discovered(self) -> None:
        with self._lock:
            if self._discovered or self.discover is None:
                return
            self._discovered = True
            self.discover()


def _traceback_text() -> str:
    from traceback import format_exc  # not at the top: it costs milliseconds, and is needed when something is broken

    return format_exc()


REGISTRY = BackendRegistry()
"""The registry of this process."""
