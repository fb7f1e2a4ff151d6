"""Every kernel compiles for the GPUs that are supported, by the compilers of CUDA and HIP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
from collected import CUDA, HIP, all_programs, covering_programs
from compilers import clang, compile_cuda, compile_hip

from perfxapi_gpu_kernels.cupy_driver import CUDA_OPTIONS, HIP_OPTIONS
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.sources import Program, entries, source_text

NVIDIA = (70, 75, 86, 89, 90, 100, 120)
AMD = ("gfx906", "gfx942", "gfx1030", "gfx1100", "gfx1201")
"""Beside sm_80 and gfx90a, for which more programs are compiled."""
FAST = (*CUDA_OPTIONS, "--Ofast-compile=max")
"""Compiles in a quarter of the time, also to machine code; `test_all_programs` optimizes as is done for users."""
BARE = {"has_half": False, "has_dot4": False, "has_subgroups": False}
"""The forms that need no extension."""

pytestmark = pytest.mark.timeout(900)
needs_clang = pytest.mark.skipif(clang() is None, reason="there is no clang that knows HIP: apt install clang-19")


def on_all_processors(check: Callable[[Program], None], programs: Iterable[Program]) -> None:
    long_first = sorted(programs, key=lambda program: -len(source_text(program, CUDA)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check, long_first))


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """NVRTC compiles one program at a time, however many threads there are: here each processor has one of its own."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield pool


def check_cuda(
    processes: Executor, properties: Properties, architecture: int, options: tuple[str, ...] = FAST
) -> Callable[[Program], None]:
    def check(program: Program) -> None:
        text = source_text(program, properties)
        code = processes.submit(compile_cuda, text, architecture, options).result()
        assert code.startswith(b"\x7fELF")
        assert all(f".text.{entry}".encode() in code for entry in entries(program))

    return check


def check_hip(properties: Properties, architecture: str) -> Callable[[Program], None]:
    def check(program: Program) -> None:
        assembly = compile_hip(source_text(program, properties), architecture, HIP_OPTIONS)
        assert all(f".amdhsa_kernel {entry}\n" in assembly for entry in entries(program))
        if "float64" not in repr(program):
            assert not re.search(r"_f64\b", assembly), f"{program} computes with doubles"

    return check


def one_of_each_file(properties: Properties) -> list[Program]:
    """A program of each kernel file: the last, whose defines are the least plain."""
    return list({program.source: program for program in all_programs(properties)}.values())


def test_cuda(processes):
    on_all_processors(check_cuda(processes, CUDA, 80), covering_programs(CUDA))


def test_cuda_as_users_compile_it(processes):
    on_all_processors(check_cuda(processes, CUDA, 80, CUDA_OPTIONS), one_of_each_file(CUDA))


@pytest.mark.parametrize("architecture", NVIDIA)
def test_each_architecture_of_nvidia(processes, architecture):
    on_all_processors(check_cuda(processes, CUDA, architecture), one_of_each_file(CUDA))


def test_cuda_without_extensions(processes):
    on_all_processors(check_cuda(processes, replace(CUDA, **BARE), 70), one_of_each_file(CUDA))


@needs_clang
def test_hip():
    on_all_processors(check_hip(HIP, "gfx90a"), covering_programs(HIP))


@needs_clang
@pytest.mark.parametrize("architecture", AMD)
def test_each_architecture_of_amd(architecture):
    on_all_processors(check_hip(HIP, architecture), one_of_each_file(HIP))


@needs_clang
def test_hip_without_extensions():
    on_all_processors(check_hip(replace(HIP, **BARE), "gfx1030"), one_of_each_file(HIP))


@pytest.mark.slow
def test_all_programs(processes):
    on_all_processors(check_cuda(processes, CUDA, 90, CUDA_OPTIONS), all_programs(CUDA))
    on_all_processors(check_hip(HIP, "gfx1100"), all_programs(HIP))
