"""The compilers of CUDA and HIP without their devices: NVRTC from its wheels, clang with what hiprtc adds."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

from cffi import FFI

CLANG = ("clang++-19", "clang++-20", "clang++-21", "clang++")
_HIPRTC = Path(__file__).parent / "hiprtc.h"
_NVRTC = """
typedef struct _nvrtcProgram* nvrtcProgram;
int nvrtcCreateProgram(nvrtcProgram*, const char* source, const char* name, int, const char* const*,
                       const char* const*);
int nvrtcCompileProgram(nvrtcProgram, int count, const char* const* options);
int nvrtcGetProgramLogSize(nvrtcProgram, size_t*);
int nvrtcGetProgramLog(nvrtcProgram, char*);
int nvrtcGetCUBINSize(nvrtcProgram, size_t*);
int nvrtcGetCUBIN(nvrtcProgram, char*);
int nvrtcDestroyProgram(nvrtcProgram*);
"""
FFI_NVRTC = FFI()
FFI_NVRTC.cdef(_NVRTC)


class DoesNotCompileError(Exception):
    """What the compiler said."""


@cache
def nvrtc(distribution: str) -> Any:
    """The library in a wheel: of CUDA 13 (`nvidia-cuda-nvrtc`) or 12 (`nvidia-cuda-nvrtc-cu12`)."""
    (path,) = (file for file in files(distribution) or () if re.fullmatch(r"libnvrtc\.so\.\d+", file.name))
    return FFI_NVRTC.dlopen(str(path.locate()))


def compile_cuda(source: str, architecture: int, options: tuple[str, ...]) -> bytes:
    """The machine code for sm_`architecture`. CUDA 13 knows none below 75."""
    ffi, library = FFI_NVRTC, nvrtc("nvidia-cuda-nvrtc" if architecture >= 75 else "nvidia-cuda-nvrtc-cu12")
    program, size = ffi.new("nvrtcProgram*"), ffi.new("size_t*")
    library.nvrtcCreateProgram(program, source.encode(), b"program.cu", 0, ffi.NULL, ffi.NULL)
    given = [ffi.new("char[]", option.encode()) for option in (f"--gpu-architecture=sm_{architecture}", *options)]
    status = library.nvrtcCompileProgram(program[0], len(given), ffi.new("char*[]", given))
    library.nvrtcGetProgramLogSize(program[0], size)
    log = ffi.new("char[]", size[0])
    library.nvrtcGetProgramLog(program[0], log)
    library.nvrtcGetCUBINSize(program[0], size)
    code = ffi.new("char[]", size[0])
    library.nvrtcGetCUBIN(program[0], code)
    library.nvrtcDestroyProgram(program)
    if status != 0:
        raise DoesNotCompileError(ffi.string(log).decode())
    return bytes(ffi.buffer(code))


def clang() -> str | None:
    """The command of a clang that knows AMD's GPUs and HIP."""
    return next((path for name in CLANG if (path := shutil.which(name))), None)


def compile_hip(source: str, architecture: str, options: tuple[str, ...]) -> str:
    """The assembly for one of AMD's GPUs."""
    command = [clang() or CLANG[0], "-x", "hip", f"--offload-arch={architecture}", "--offload-device-only"]
    command += ["-nogpulib", "-nogpuinc", "-D__HIPCC_RTC__", "-include", "__clang_hip_runtime_wrapper.h"]
    command += ["-include", str(_HIPRTC), *options, "-S", "-o", "-", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "warning:" in done.stderr:
        raise DoesNotCompileError(done.stderr)
    return done.stdout
