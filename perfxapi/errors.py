"""The exceptions of PerfXAPI: one root, `PerfXError`. Each says what was wrong, which value, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence


class PerfXError(Exception):
    """Root of all errors raised by PerfXAPI and its backends."""


class InvalidArgumentError(PerfXError, ValueError):
    """An argument's value, shape or dtype cannot be used. The message names the argument."""


class InvalidDTypeError(InvalidArgumentError, TypeError):
    """A dtype that an op does not take, or two that have no common dtype. The message names them."""


class InvalidIndexError(InvalidArgumentError, IndexError):
    """An index or an axis that the array does not have."""


class NoLengthError(InvalidArgumentError, TypeError):
    """An array of no dimensions where a sequence is wanted: it has no length and cannot be iterated over."""


class ExchangeError(PerfXError, BufferError):
    """Memory that cannot be handed over by DLPack: of another device, of a dtype that DLPack lacks, or read-only."""


class UnknownNameError(PerfXError, ValueError):
    """A name (device, dtype, op, backend, model) that nothing answers to."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class FileFormatError(PerfXError, ValueError):
    """A file is not what its format demands. Names the file, the byte offset or field, and what was expected."""

    def __init__(self, path: object, where: str, problem: str) -> None:
        self.path = str(path)
        self.where = where
        self.problem = problem
        super().__init__(f"{path}: {where}: {problem}")


class DeviceUnavailableError(PerfXError, RuntimeError):
    """A known device that cannot be used on this machine. Names the reason and the command that mends it."""


class DeviceLostError(PerfXError, RuntimeError):
    """A device stopped answering while it held work. `space` is the memory space that a copy failed for, if one did."""

    space = ""


class FallbackError(PerfXError, RuntimeError):
    """With `fallback="error"`: an operator cannot run on the device that was asked for."""


class KernelError(PerfXError, RuntimeError):
    """A kernel failed. Names the op, the backend and the status."""


class CompileError(PerfXError, RuntimeError):
    """The source of a custom kernel did not become a library: it does not compile, or there is no compiler.

    The message names the kernels and the first line at fault. `output` is all that the compiler said, `command` how it
    was called; both are empty where there is no compiler.
    """

    def __init__(self, name: str, problem: str, output: str = "", command: str = "") -> None:
        self.output, self.command = output, command
        super().__init__(f"{name}: {problem}")


class OutOfMemoryError(PerfXError, MemoryError):
    """An allocation went past a device's memory or a set limit. Says how much was asked for and what is in use."""


class TraceError(PerfXError, TypeError):
    """Traced code asked for a value that is only known when the graph runs (a symbolic dimension as bool or int)."""


class GraphError(PerfXError, ValueError):
    """A graph is malformed: a value without a producer, a cycle, an unknown op."""


class PluginError(PerfXError, RuntimeError):
    """A plugin could not be loaded or registered. Names the distribution and the cause."""


class PerfXWarning(UserWarning):
    """Root of the warnings of PerfXAPI."""


class FallbackWarning(PerfXWarning):
    """Work did not run where it was asked to. Names the device, the reason, and the command that mends it."""
