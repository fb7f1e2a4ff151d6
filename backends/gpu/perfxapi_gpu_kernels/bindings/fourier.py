"""Discrete Fourier transforms along an axis, of any length: a launch for each factor, or those of a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from perfxapi.backend import OpCall
from perfxapi.dims import contiguous_strides
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.walking import Strides, check_walkable, element_strides, merged
from perfxapi_gpu_kernels.driver import Properties, Region, Size
from perfxapi_gpu_kernels.launches import Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import Program, program

_TRANSFORM = np.dtype(
    [
        *((name, np.int64) for name in ("out_stride", "stride")),
        *((name, np.int32) for name in ("length", "stored", "lines", "items", "tiles", "across")),
    ]
)
_KINDS = {"complex": 0, "real": 1, "hermitian": 2}
_SOURCES = {"fft": "complex", "rfft": "real", "irfft": "hermitian"}
_TARGETS = {"fft": "complex", "rfft": "complex", "irfft": "real"}
_COMPLEX = {"float32": np.complex64, "float64": np.complex128}
_DOUBLES = ("float64", "complex128")
_RADICES = (7, 5, 3)
_MOST_LENGTH = 1 << 26
_FEW = 16
"""Items of a line, or lines, that are too few to stand side by side."""


Complexes: TypeAlias = npt.NDArray[np.complex128]


class Lines(NamedTuple):
    """Where lines lie: an operand, the strides of the axes that count them, the stride along one; in elements."""

    memory: View | Region
    kept: Strides
    along: int
    kind: str


class Plan(NamedTuple):
    """What is to be done with each line, and how many there are: `sizes` of the axes that count them.

    `stored` elements of a result are kept. `sign` is -1 where operand and result are conjugated, so that the transform
    is inverse. Work-items stand side by side along a line, or `across` the lines.
    """

    length: int
    stored: int
    scale: float
    sign: int
    sizes: tuple[int, ...]
    across: bool
    real: np.dtype[Any]
    group: int

    @property
    def num_lines(self) -> int:
        """How many lines there are."""
        return math.prod(self.sizes)

    def padded(self) -> Plan:
        """Plain transforms of the length of the convolution that a length with a large prime factor needs."""
        length = _padded(self.length)
        return self._replace(length=length, stored=length, scale=1.0, sign=1)

    def area(self, workspace: Region | None, index: int) -> Lines:
        """One of two areas of the workspace that hold all lines."""
        assert workspace is not None
        nbytes = self.num_lines * self.length * 2 * self.real.itemsize
        memory = Region(workspace.memory, workspace.offset + index * nbytes, nbytes)
        order = tuple(int(stride) for stride in contiguous_strides(self.sizes, 1))
        if self.across:
            return Lines(memory, order, self.num_lines, "complex")
        return Lines(memory, tuple(stride * self.length for stride in order), 1, "complex")

    def table(self, request: Request, make: Callable[[int], Complexes]) -> Region:
        """Constants of the length, made in double precision."""
        return request.table(
            (make.__name__, self.length, self.real.name), lambda: make(self.length).astype(_COMPLEX[self.real.name])
        )

    def number(self, value: float) -> np.float64 | np.float32:
        """A number as kernels take it."""
        return np.float64(value) if self.real == np.float64 else np.float32(value)


@lru_cache(maxsize=1024)
def radices(length: int) -> tuple[int, ...] | None:
    """The factors of a length, none above 8, powers of two first; None where a factor is a larger prime."""
    twos = (length & -length).bit_length() - 1
    fours = (0, 2, 1)[twos % 3]
    found = [2] if twos == 1 else [4] * fours + [8] * ((twos - 2 * fours) // 3)
    length >>= twos
    for radix in _RADICES:
        while length % radix == 0:
            found.append(radix)
            length //= radix
    return (tuple(found) or (1,)) if length == 1 else None


def _padded(length: int) -> int:
    """The length of the convolution that transforms a length with a large prime factor."""
    return 1 << (2 * length - 2).bit_length()


def _length(call: OpCall) -> int:
    """How many elements a transformed line has."""
    return int(call.attributes["n"]) if call.op == "irfft" else int(call.inputs[0].shape[call.attributes["axis"]])


def _accepts(call: OpCall, properties: Properties) -> str | None:
    if call.inputs[0].dtype.name in _DOUBLES and not properties.has_double:
        return "the device has no float64"
    if _length(call) > _MOST_LENGTH:
        return f"a transform of {_length(call)} elements; at most {_MOST_LENGTH}"
    return check_walkable(call)


def _workspace(call: OpCall, properties: Properties) -> int:
    length = _length(call)
    factors = radices(length)
    areas, stored = (2, _padded(length)) if factors is None else (min(len(factors) - 1, 2), length)
    (x,) = call.inputs
    lines = math.prod(int(size) for axis, size in enumerate(x.shape) if axis != call.attributes["axis"])
    itemsize = x.dtype.itemsize * (2 if call.op == "rfft" else 1)
    return areas * lines * stored * itemsize


@bind_op("fft", "rfft", "irfft", accepts=_accepts, workspace=_workspace)
def _fourier(request: Request) -> list[Launch]:
    call, axis = request.call, int(request.call.attributes["axis"])
    (x,), (out,) = call.inputs, call.outputs
    if 0 in out.shape:
        return []
    source, target = _lines(x, axis, _SOURCES[call.op]), _lines(out, axis, _TARGETS[call.op])
    plan = _plan(request, source)
    if radices(plan.length) is None:
        return _convolution(request, plan, source, target)
    return _passes(request, plan, source, target)


def _lines(view: View, axis: int, kind: str) -> Lines:
    strides = element_strides(view, view.shape)
    return Lines(view, (*strides[:axis], *strides[axis + 1 :]), strides[axis], kind)


def _plan(request: Request, source: Lines) -> Plan:
    """Work-items stand side by side where elements do; across lines, too, where lines are short."""
    call, length, properties = request.call, _length(request.call), request.properties
    (x,), axis = call.inputs, int(call.attributes["axis"])
    inverse = call.op == "irfft" or bool(call.attributes.get("inverse", 0))
    scales = {
        "backward": 1 / length if inverse else 1.0,
        "ortho": length**-0.5,
        "forward": 1.0 if inverse else 1 / length,
    }
    sizes = tuple(int(size) for place, size in enumerate(x.shape) if place != axis)
    nearest = min((abs(stride) for stride, size in zip(source.kept, sizes, strict=True) if size > 1), default=None)
    count, is_short = math.prod(sizes), length // max(radices(length) or (1,)) < _FEW
    return Plan(
        length,
        int(call.outputs[0].shape[axis]),
        scales[call.attributes["norm"]],
        -1 if inverse else 1,
        sizes,
        across=nearest is not None and (is_short or (count >= _FEW and nearest < abs(source.along))),
        real=np.dtype(np.float64 if x.dtype.name in _DOUBLES else np.float32),
        group=64 if properties.is_processor else min(128, properties.max_group_size),
    )


def _passes(request: Request, plan: Plan, source: Lines, target: Lines | None, area: int = 0) -> list[Launch]:
    """A launch for each factor. What is between lies in the areas of the workspace in turns, `area` first; so does the
    result where there is no target.
    """
    factors = radices(plan.length)
    assert factors is not None
    table = plan.table(request, _roots)
    launches, step = [], 1
    for index, radix in enumerate(factors):
        is_last = index == len(factors) - 1
        out = target if is_last and target is not None else plan.area(request.workspace, (area + index) % 2)
        made = _program("fourier", plan, source, out, RADIX=radix)
        stored = plan.stored if is_last else plan.length
        groups, walk, transform = _geometry(plan, source, out, plan.length // radix, stored)
        shift = step.bit_length() - 1 if step & (step - 1) == 0 else -1
        scalars = (np.int32(step), np.int32(shift), plan.number(plan.scale if is_last else 1), plan.number(plan.sign))
        arguments = (out.memory, source.memory, table, walk, transform, *scalars)
        launches.append(Launch(made, "fourier_pass", groups, (plan.group, 1, 1), arguments))
        source, step = out, step * radix
    return launches


def _convolution(request: Request, plan: Plan, source: Lines, target: Lines) -> list[Launch]:
    """The chirp's launches around those of two transforms of the padded length."""
    wide = plan.padded()
    begun, other = (wide.area(request.workspace, index) for index in (0, 1))
    num_passes = len(radices(wide.length) or ())
    middle = other if num_passes % 2 else begun
    chirp, spectrum = plan.table(request, _chirp), plan.table(request, _chirp_spectrum)
    made, local = _program("chirp", plan, source, target), (plan.group, 1, 1)
    sign, scale = plan.number(plan.sign), plan.number(plan.scale)

    groups, walk, transform = _geometry(plan, source, begun, wide.length, plan.length)
    given = (begun.memory, source.memory, chirp, walk, transform, np.int32(wide.length), sign)
    first = Launch(made, "chirp_begin", groups, local, given)

    groups, _, transform = _geometry(wide, middle, middle, wide.length, wide.length)
    product = Launch(made, "chirp_filter", groups, local, (middle.memory, spectrum, transform))

    groups, walk, transform = _geometry(plan, begun, target, plan.stored, plan.stored)
    last = Launch(made, "chirp_end", groups, local, (target.memory, begun.memory, chirp, walk, transform, scale, sign))

    there = _passes(request, wide, begun, None, 1)
    back = _passes(request, wide, middle, None, 1 - num_passes % 2)
    return [first, *there, product, *back, last]


def _program(name: str, plan: Plan, source: Lines, target: Lines, **defines: int) -> Program:
    kinds = {"SOURCE_KIND": _KINDS[source.kind], "TARGET_KIND": _KINDS[target.kind]}
    return program(name, COMPUTE=plan.real.name, **kinds, **defines)


def _geometry(plan: Plan, source: Lines, out: Lines, items: int, stored: int) -> tuple[Size, bytes, bytes]:
    """The work-groups for so many items of each line, `Walk` of walk.h, `Transform` of fourier_lines.h."""
    walk = merged(plan.sizes, (out.kept, source.kept))
    columns, rows = (plan.num_lines, items) if plan.across else (items, plan.num_lines)
    tiles = -(-columns // plan.group)
    transform = np.array(
        (out.along, source.along, plan.length, stored, plan.num_lines, items, tiles, plan.across), _TRANSFORM
    )
    return (tiles * rows, 1, 1), walk.structure, transform.tobytes()


# ---- constants of a length


def _roots(length: int) -> Complexes:
    """Powers of the root of unity."""
    return np.asarray(np.exp(-2j * np.pi * np.arange(length) / length))


def _chirp(length: int) -> Complexes:
    """Roots of unity with the halves of squares as powers; squares are taken where they are small."""
    squares = np.arange(length) ** 2 % (2 * length)
    return np.asarray(np.exp(-1j * np.pi * squares / length))


def _chirp_spectrum(length: int) -> Complexes:
    """What spectra are multiplied by: that of the chirp's conjugate, which is repeated backwards, and the scale of both
    transforms.
    """
    count, chirp = _padded(length), np.conj(_chirp(length))
    filled = np.zeros(count, np.complex128)
    filled[:length] = chirp
    filled[count - length + 1 :] = chirp[:0:-1]
    return np.fft.fft(filled) / count
