"""Mutational fuzzing of the GGUF reader: python tests/fuzz/fuzz_gguf.py --seconds 120 --seed 7

A child process opens mutated copies of small generated files. Each must open, with everything in it readable, or
raise FileFormatError, within a second and within four times the file's size plus 64 MiB of memory. Anything else
(another exception, a signal, a hang, memory) ends the run with exit code 1, the reason, and the input kept in a file.
Input `n` of seed `s` depends on nothing else: `--seed s --first n --count 1` runs it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "llm"))
from gguf_builder import ARRAY, BOOL, F32, F64, I32, STRING, U8, U32, U64, array, build, pair, tensor

from perfxapi.errors import FileFormatError
from perfxlm.weights.gguf import GGUFFile
from perfxlm.weights.metadata import StringArray

TIME_LIMIT = 1.0
EXTRA_BYTES = 64 << 20
SIZE_FACTOR = 4
WATCHDOG = 10.0
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    9,
    31,
    32,
    33,
    255,
    256,
    2**16 - 1,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**62,
    2**63,
    2**64 - 1,
)


class HangError(Exception):
    """An input took longer than the time limit."""


def seed_files() -> list[bytes]:
    """Small well-formed files that together use every kind of value and several tensor types."""
    strings = array(STRING, ["<pad>", "▁the", "", "a" * 300, "\0" * 9, *(f"token{number}" for number in range(100))])
    nested = array(ARRAY, [array(I32, [1, 2]), array(ARRAY, [array(U8, [3]), array(STRING, ["x"])])])
    pairs = [
        pair("general.architecture", STRING, "gemma3"), pair("general.alignment", U32, 32), pair("a.f", F32, 0.5),
        pair("a.d", F64, 0.5), pair("a.b", BOOL, 1), pair("a.n", U64, 9), pair("tokenizer.ggml.tokens", ARRAY, strings),
        pair("tokenizer.ggml.scores", ARRAY, array(F32, [0.5] * 100)), pair("a.nested", ARRAY, nested),
        pair("a.bools", ARRAY, array(BOOL, [0, 1, 1])),
    ]  # fmt: skip
    tensors = [
        tensor("f32", [4, 3]),
        tensor("q8", [64, 2], 8, 64),
        tensor("q4_k", [256], 12, 224),
        tensor("bf16", [3], 30, 384),
    ]
    data = bytes(range(256)) + bytes(192)
    split = [pair("split.no", U32, 0), pair("split.count", U32, 2), pair("split.tensors.count", I32, 1)]
    many = [tensor(f"blk.{number}", [8], offset=32 * number) for number in range(40)]
    return [
        build(pairs, tensors, data),
        build(pairs[:2], version=2),
        build(pairs[6:7]),
        build(split, [tensor("w", [8])], bytes(32)),
        build(tensors=many, data=bytes(32 * 40)),
    ]


def overwrite_integer(data: bytearray, rng: random.Random) -> None:
    """Puts an interesting integer of 1, 4 or 8 bytes somewhere."""
    size = rng.choice((1, 4, 8))
    value = rng.choice(INTERESTING) + rng.choice((-1, 0, 0, 1))
    place = rng.randrange(max(1, len(data) - size))
    data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def nudge_length(data: bytearray, rng: random.Random) -> None:
    """Changes something that looks like the length of a string or of an array."""
    places = [match.start() for match in re.finditer(rb"[^\0].\0{6}", data, re.DOTALL)]
    if places:
        place = rng.choice(places)
        (value,) = struct.unpack_from("<Q", data, place)
        struct.pack_into("<Q", data, place, (value + rng.choice((-9, -8, -1, 1, 8, 9, 1 << 40))) % (1 << 64))


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Flips some bits."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """Truncates."""
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    """Takes a run of bytes out."""
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 24)]


def duplicate(data: bytearray, rng: random.Random) -> None:
    """Repeats a run of bytes."""
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randint(1, 64)]


def insert_zeros(data: bytearray, rng: random.Random) -> None:
    """Inserts zeros, now and then many."""
    start = rng.randrange(len(data))
    data[start:start] = bytes(rng.choice((1, 4, 8, 64, 4096, 1 << 20)))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    overwrite_integer, overwrite_integer, nudge_length, nudge_length, flip_bits, cut, remove, duplicate, insert_zeros,
)  # fmt: skip


def make_input(seeds: list[bytes], seed: int, index: int) -> bytes:
    """Input `index` of a run with `seed`."""
    rng = random.Random(f"{seed}/{index}")
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        if data:
            rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


def read_everything(path: Path) -> None:
    """Opens a file and touches all that it gives."""
    file = GGUFFile.open(path)
    for value in file.metadata.values():
        if isinstance(value, StringArray):
            value.to_bytes_list()
            value.to_list()
    for weight in file.tensors.values():
        assert weight.num_bytes <= path.stat().st_size
        weight.to_float32()
        weight.release()
        weight.data.sum()


def check_input(path: Path, data: bytes) -> str:
    """Reads one input under the limits; the empty string, or what went wrong."""
    path.write_bytes(data)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SIZE_FACTOR * len(data) + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        read_everything(path)
    except FileFormatError:
        pass
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return ""


def raise_hang(_signal: int, _frame: FrameType | None) -> None:
    """The alarm's handler."""
    raise HangError(f"more than {TIME_LIMIT} s")


def work(progress: Connection, folder: Path, seed: int, first: int, count: int, deadline: float) -> None:
    """The child: reports (index, problem) before each input and after a failure, and (index, None) at the end."""
    signal.signal(signal.SIGALRM, raise_hang)
    seeds = seed_files()
    index = first
    while index < first + count and time.monotonic() < deadline:
        progress.send((index, ""))
        problem = check_input(folder / "model-00001-of-00002.gguf", make_input(seeds, seed, index))
        if problem:
            progress.send((index, problem))
            return
        index += 1
    progress.send((index, None))


def run(seed: int, first: int, count: int, seconds: float) -> tuple[int, str]:
    """Runs the child and watches it: the index it came to, and what went wrong there (empty: nothing)."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (sender, Path(folder), seed, first, count, time.monotonic() + seconds)
        child = context.Process(target=work, args=arguments, daemon=True)
        child.start()
        sender.close()
        index, problem = first, None
        try:
            while receiver.poll(WATCHDOG):
                index, problem = receiver.recv()
                if problem is None or problem:
                    break
            else:
                problem = f"no answer for {WATCHDOG} s"
        except EOFError:
            child.join()
            problem = f"the process ended with code {child.exitcode} (negative: a signal)"
        child.kill()
        child.join()
    return index, problem or ""


def main() -> int:
    """The command line; the exit code is 1 after a failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="first part of each input's seed (default 0)")
    parser.add_argument("--first", type=int, default=0, help="index of the first input (default 0)")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="at most this many inputs")
    arguments = parser.parse_args()
    index, problem = run(arguments.seed, arguments.first, arguments.count, arguments.seconds)
    if not problem:
        print(f"{index - arguments.first} inputs, no failure")
        return 0
    kept = Path(tempfile.gettempdir()) / f"fuzz_gguf_{arguments.seed}_{index}.gguf"
    kept.write_bytes(make_input(seed_files(), arguments.seed, index))
    print(f"{problem}\nFAILED at --seed {arguments.seed} --first {index} --count 1; the input is kept in {kept}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
