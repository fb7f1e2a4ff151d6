"""Which of a backend's kernels for an op is the quickest: measured on first use, remembered in a file of this machine.

A backend may offer several kernels for an op, best first by its own guess. The first call of a *size class* (dtypes,
layouts, every dimension to a power of two, and what the backend says its speed depends on) runs all of them on the
call's own operands; the quickest serves the class from then on. Within a process a choice never changes. Calls so small
that any kernel would do get the first one.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perfxapi.backend import Kernel, OpCall
from perfxapi.memory import View
from perfxapi.ops.spec import OpSpec, TensorSpec
from perfxapi.settings import cache_folder, settings

CHOICES, NODES, COPIES, PLANS = "choices", "nodes", "copies", "plans"
"""Sections of the file: which kernel is the quickest; what nodes, copies to and from a device, and whole plans take."""
_VERSION = 1
_LEAST_FLOPS = 1 << 18
_SECONDS = 0.1
"""How long one kernel is measured, but for its first run, which may be longer."""
_RUNS = 5


def kernel_label(kernel: Kernel) -> str:
    """What tells a kernel from others of its backend for the same op: its `label`, or "own" where it has none."""
    return str(getattr(kernel, "label", "")) or "own"


def is_worth_measuring(spec: OpSpec, call: OpCall) -> bool:
    """Whether a call may be run several times (it writes nothing but its outputs) and is large enough to matter."""
    if not settings().tune or spec.cost is None or spec.mutates or spec.state:
        return False
    described = [TensorSpec(view.shape, view.dtype) for view in call.inputs]
    return spec.cost(described, call.attributes).flops >= _LEAST_FLOPS


def size_class(call: OpCall, circumstances: str) -> str:
    """The name of a call's size class. `circumstances` are the device, instruction set and number of threads."""
    operands = ";".join(map(_describe, call.inputs))
    attributes = ",".join(f"{name}={value}" for name, value in call.attributes.items())
    return f"{call.op}|{operands}|{attributes}|{circumstances}"


def _describe(view: View) -> str:
    sizes = "x".join(str(1 << max(int(size) - 1, 0).bit_length()) for size in view.shape)
    if view.is_contiguous:
        layout = "rows"
    else:
        layout = "columns" if len(view.strides) > 1 and view.strides[-2] == view.dtype.itemsize else "strided"
    return f"{view.dtype.name}[{sizes}]{layout}"


def _seconds(kernel: Kernel, call: OpCall, finish: Callable[[], None]) -> float:
    """The shortest of some launches, each waited for. A kernel that fails takes forever."""
    best, begin = float("inf"), time.perf_counter()
    try:
        kernel.launch(call)
        finish()
        for _ in range(_RUNS):
            start = time.perf_counter()
            kernel.launch(call)
            finish()
            end = time.perf_counter()
            best = min(best, end - start)
            if end - begin > _SECONDS:
                break
    except Exception:  # dispatch meets the same error where it can say so and go on
        return float("inf")
    return best


class Tuner:
    """What was measured: in this process, backed by a file with a section for each kind of figure."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[tuple[str, str], Any] = {}

    def path(self) -> Path:
        """The file: the setting's, else one a machine in the user's cache folder."""
        if settings().tuning_file:
            return Path(settings().tuning_file)
        return cache_folder() / f"tuning-{platform.node() or 'machine'}-{platform.machine()}.json"

    def quickest(
        self, kernels: Sequence[Kernel], call: OpCall, circumstances: str, finish: Callable[[], None]
    ) -> Kernel:
        """The quickest of some kernels that accept the call: known, or measured now. Operands are valid where they run.

        `finish` waits until what was launched is done. The outputs hold anything afterwards.
        """
        labels = {kernel_label(kernel): kernel for kernel in kernels}
        key = size_class(call, f"{circumstances}|{','.join(labels)}")
        with self._lock:
            known = self.recall(CHOICES, key)
            label = known.get("kernel") if isinstance(known, dict) else None
            if label not in labels:
                seconds = {label: _seconds(kernel, call, finish) for label, kernel in labels.items()}
                label = min(seconds, key=lambda name: seconds[name])
                measured = {name: time for name, time in seconds.items() if time < float("inf")}
                self.record(CHOICES, key, {"kernel": label, "seconds": measured})
        return labels[label]

    def recall(self, section: str, key: str) -> Any:
        """What is known by a key: of this process, else of the file. None where nothing is."""
        with self._lock:
            if (section, key) not in self._known:
                found = self._stored().get(section, {}).get(key)
                if found is None:
                    return None
                self._known[section, key] = found
            return self._known[section, key]

    def record(self, section: str, key: str, value: Any) -> None:
        """Remembers something here and in the file. A folder that cannot be written costs the memory."""
        with self._lock:
            self._known[section, key] = value
            sections = self._stored()
            sections.setdefault(section, {})[key] = value
            self._store(sections)

    def known(self, section: str = CHOICES) -> int:
        """How many figures of a kind the file holds."""
        return len(self._stored().get(section, {}))

    def forget(self) -> None:
        """Drops what this process knows; the file stays."""
        with self._lock:
            self._known.clear()

    def clear(self) -> None:
        """Drops all that was measured, in the file too."""
        self.forget()
        self._store({})

    def _stored(self) -> dict[str, dict[str, Any]]:
        """The file's sections; none where it is missing, damaged or of another version."""
        try:
            document = json.loads(self.path().read_text())
            sections = document if document["version"] == _VERSION else {}
            return {str(name): dict(held) for name, held in sections.items() if isinstance(held, dict)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _store(self, sections: dict[str, dict[str, Any]]) -> None:
        """Replaces the file as a whole."""
        path = self.path()
        written: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
                written = Path(file.name)
                json.dump({"version": _VERSION, **sections}, file, indent=1)
            os.replace(written, path)
        except OSError:
            return
        finally:  # also where the user interrupts
            if written is not None:
                written.unlink(missing_ok=True)


TUNER = Tuner()
"""What this process knows."""
