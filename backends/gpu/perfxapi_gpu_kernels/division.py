"""How products with packed weights are divided into work-groups: by default, or as was measured on a device.

`lanes` and `slices` decide how weights lie and in which order products are added: a device has one choice of them, so a
token's result is the same bits whatever was measured. `tiles` and `tokens` change nothing but speed: the quickest are
searched once for a device and class of the number of tokens (`perfxapi tune`), and kept in the file of figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from perfxapi.errors import PerfXError
from perfxapi.tuning import TUNER
from perfxapi_gpu_kernels.driver import Driver, Properties, Region
from perfxapi_gpu_kernels.launches import Launch
from perfxapi_gpu_kernels.packing import Format
from perfxapi_gpu_kernels.sources import program

SECTION = "divisions"
"""Where measured choices are kept."""

TOKEN_CLASSES = (1, 2, 4, 8)
"""A number of tokens is of the first class that is not smaller, or of the last."""

_PROBE = Format("CODES8", 32, 2, False)
_PROBE_ROWS, _PROBE_COLUMNS, _PROBE_TOKENS = 2048, 1024, 64
_RUNS = 20


Bind: TypeAlias = Callable[[Launch], Any]


class Division(NamedTuple):
    """How work is divided (`linear_tile.h`): defines of a program, by their names in lower case."""

    width: int
    lanes: int
    tiles: int
    tokens: int
    slices: int

    @property
    def defines(self) -> dict[str, int]:
        """What a program is compiled with."""
        return {name.upper(): value for name, value in self._asdict().items()}

    @property
    def local(self) -> tuple[int, int, int]:
        """The size of a work-group."""
        return self.lanes // self.width, self.slices, 1

    def groups(self, rows: int) -> int:
        """Work-groups for the rows of a weight."""
        return -(-rows // (self.lanes * self.tiles))


def lanes_of(properties: Properties) -> int:
    """Rows of a tile."""
    return 16 if properties.is_processor else 32


def token_class(tokens: int) -> int:
    """The class of a number of tokens."""
    return next((size for size in TOKEN_CLASSES if tokens <= size), TOKEN_CLASSES[-1])


def candidates(properties: Properties, tokens: int) -> list[Division]:
    """What may be chosen for a class of tokens, the default first."""
    if properties.is_processor:  # a lane is one of a vector's; sums of two tiles and eight tokens fill the registers
        shapes = {1: ((4, 1), (2, 1), (1, 1)), 2: ((4, 2), (2, 2)), 4: ((2, 4), (1, 4), (4, 4))}
        many = ((2, 8), (1, 8), (4, 4), (2, 4))
        return [Division(16, 16, *shape, 1) for shape in shapes.get(tokens, many)]
    shapes = {1: ((1, 1), (2, 1)), 2: ((2, 2), (1, 2)), 4: ((2, 4), (1, 4))}
    return [Division(1, 32, *shape, 4) for shape in shapes.get(tokens, ((2, 8), (1, 8), (4, 4)))]


@cache
def _chosen(properties: Properties, tokens: int) -> Division:
    known = TUNER.recall(SECTION, _key(properties, tokens))
    offered = candidates(properties, tokens)
    return next((division for division in offered if list(division) == known), offered[0])


def forget_choices() -> None:
    """What is kept is looked up anew."""
    _chosen.cache_clear()


def division_of(properties: Properties, tokens: int) -> Division:
    """How a product with so many tokens is divided."""
    return _chosen(properties, token_class(tokens))


def _key(properties: Properties, tokens: int) -> str:
    return f"{properties.identity}|{tokens} tokens"


def searches(driver: Driver, bind: Bind) -> list[tuple[str, Callable[[], None]]]:
    """What is not known yet of a device: the name of each search, and what measures and keeps its result.

    `bind` gives a launch its memory. Choices serve the products that are bound afterwards.
    """
    properties = driver.properties
    unknown = [tokens for tokens in TOKEN_CLASSES if TUNER.recall(SECTION, _key(properties, tokens)) is None]
    return [(f"products with {n} tokens", partial(_search, driver, bind, n)) for n in unknown]


def _search(driver: Driver, bind: Bind, tokens: int) -> None:
    offered = candidates(driver.properties, tokens)
    taken = _seconds(driver, bind, offered, tokens)
    if min(taken) < float("inf"):
        TUNER.record(SECTION, _key(driver.properties, tokens), list(offered[int(np.argmin(taken))]))
        forget_choices()


def _seconds(driver: Driver, bind: Bind, offered: Sequence[Division], tokens: int) -> list[float]:
    """The shortest run with each division, in turns; a division that does not run takes forever."""
    count = tokens if tokens < TOKEN_CLASSES[-1] else _PROBE_TOKENS
    nbytes = _PROBE.nbytes(_PROBE_ROWS, _PROBE_COLUMNS, offered[0].lanes)
    sizes = (4 * count * _PROBE_COLUMNS, 4 * count * _PROBE_COLUMNS, nbytes, 4 * count * _PROBE_ROWS)
    regions = [Region(driver.allocate(size), 0, size) for size in sizes]
    for region in regions:
        driver.write(region, np.zeros(region.nbytes, np.uint8))
    bound = [_bound(bind, division, count, regions) for division in offered]
    best = [float("inf")] * len(offered)
    for _ in range(_RUNS):
        for index, kernel in enumerate(bound):
            if kernel is not None:
                start = time.perf_counter()
                driver.enqueue(kernel)
                driver.finish()
                best[index] = min(best[index], time.perf_counter() - start)
    for region in regions:
        driver.free(region.memory)
    return best


def _bound(bind: Bind, division: Division, count: int, regions: Sequence[Region]) -> Any:
    """The probe with a division; None where it does not compile."""
    rounded, sums, packed, output = regions
    launch = Launch(
        program("linear", WEIGHTS=1, FORMAT0=_PROBE.arguments, **division.defines),
        "linear",
        (-(-count // division.tokens), division.groups(_PROBE_ROWS), 1),
        division.local,
        (rounded, sums, np.int32(count), np.int32(_PROBE_COLUMNS), packed, output, np.int32(_PROBE_ROWS)),
    )
    try:
        return bind(launch)
    except PerfXError:
        return None
