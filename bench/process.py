"""Child processes with what they cost: wall-clock time and peak resident memory of the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ContenderError(Exception):
    """A contender's process failed; the message ends with the last lines of its errors."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well."""

    output: str
    seconds: float
    peak_memory_bytes: int

    def json(self) -> Any:
        """The last line of the output that starts a JSON value, parsed with what follows it."""
        lines = self.output.splitlines()
        for index in range(len(lines) - 1, -1, -1):
            if lines[index][:1] in ("{", "["):
                return json.loads("\n".join(lines[index:]))
        raise ContenderError(f"no JSON in the output: {self.output[-500:]!r}")


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Runs a command to its end without standard input. Raises ContenderError.

    The peak is the kernel's own count for that one process (wait4), so a parent must be small itself: Linux starts a
    child's count at its parent's.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=None if environment is None else {**os.environ, **environment},
            )
        except OSError as error:
            raise ContenderError(f"{command[0]}: {error.strerror}") from None
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    if child.returncode:
        tail = "\n".join(texts[1].strip().splitlines()[-5:])
        raise ContenderError(f"{' '.join(command[:4])} ... ended with {child.returncode}: {tail}")
    return Finished(texts[0], seconds, usage.ru_maxrss * 1024)
