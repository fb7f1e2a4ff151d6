"""The tools that `bench.riscv` needs, and the programs that it builds with them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import perfxapi as px
from bench.counting import find_llvm, find_tool, zig
from bench.process import ContenderError, run

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "riscv64" / "bench"
TARGET = "riscv64-linux-musl"
"""Programs are static, so that qemu needs no libraries of the other architecture."""
PEER_PROCESSOR = "baseline_rv64+v+zfh+zvfh"
PEER_SOURCES = ("ggml-cpu/arch/riscv/quants.c", "ggml-cpu/quants.c", "ggml-quants.c", "ggml.c")


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs by path."""

    qemu: str
    objdump: str
    llvm_mca: str

    @classmethod
    def find(cls, qemu: str | None) -> Tools:
        """Those installed. Raises CannotCountError."""
        return cls(
            find_tool(
                [qemu] if qemu else ["qemu-riscv64-static", "qemu-riscv64"],
                "on Debian: apt-get install qemu-user-static",
            ),
            find_llvm("llvm-objdump"),
            find_llvm("llvm-mca"),
        )

    def one_by_one(self) -> str:
        """qemu's option to translate each instruction by itself, which had another name before version 8."""
        listed = subprocess.run([self.qemu, "--help"], capture_output=True, text=True, check=False).stdout
        return "-one-insn-per-tb" if "-one-insn-per-tb" in listed else "-singlestep"


def our_program() -> Path:
    """bench/native/instruction_bench.cpp with every kernel of the RISC-V backend. Raises ContenderError."""
    source = ROOT / "backends" / "riscv"
    configure = ["cmake", "-S", str(source), "-B", str(BUILD), "-G", "Ninja", "-DPERFX_TESTS=OFF"]
    configure += [f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'backends/cpu/cmake/zig.cmake'}", f"-DZIG_TARGET={TARGET}"]
    configure += [f"-DZIG_PYTHON={sys.executable}", "--log-level=WARNING"]
    run(configure)
    print("building the kernels for riscv64 (minutes, the first time)", file=sys.stderr)
    run(["cmake", "--build", str(BUILD), "--target", "perfx_native"])
    objects = sorted((BUILD / "CMakeFiles").glob("perfx_*.dir/**/*.o"))
    program = BUILD / "instruction_bench"
    command = [*zig("c++", TARGET), "-std=c++17", "-O2", "-static", f"-I{px.get_include()}"]
    run([*command, str(ROOT / "bench/native/instruction_bench.cpp"), *map(str, objects), "-o", str(program)])
    return program


def peer_program(llama_cpp: Path) -> Path:
    """bench/native/llama_cpp_riscv.cpp with the kernels in a checkout of llama.cpp. Raises ContenderError."""
    ggml = llama_cpp / "ggml"
    if not (ggml / "src" / PEER_SOURCES[0]).exists():
        raise ContenderError(f"{llama_cpp} holds no ggml/src/{PEER_SOURCES[0]}: name a checkout of llama.cpp")
    folder = BUILD / "llama.cpp"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ggml-version.h").touch()
    flags = [
        f"-mcpu={PEER_PROCESSOR}",
        "-O3",
        "-w",
        "-DNDEBUG",
        "-D_GNU_SOURCE",
        '-DGGML_VERSION="0"',
        '-DGGML_COMMIT="0"',
    ]
    flags += [
        "-fno-sanitize=all",
        "-ffunction-sections",
        *(f"-I{path}" for path in (folder, ggml / "include", ggml / "src", ggml / "src/ggml-cpu")),
    ]
    objects = []
    for name in PEER_SOURCES:
        objects.append(str(folder / f"{name.replace('/', '_')}.o"))
        run([*zig("c", TARGET), *flags, "-c", str(ggml / "src" / name), "-o", objects[-1]])
    for name in ("ggml-cpu/arch/riscv/repack.cpp",):
        objects.append(str(folder / f"{name.replace('/', '_')}.o"))
        run([*zig("c++", TARGET), *flags, "-c", str(ggml / "src" / name), "-o", objects[-1]])
    program = folder / "llama_cpp_riscv"
    own = ROOT / "bench/native/llama_cpp_riscv.cpp"
    flags += ["-std=c++17", "-static", "-Wl,--gc-sections"]
    run([*zig("c++", TARGET), *flags, str(own), *objects, "-o", str(program)])
    return program


def processor(vector_bits: int) -> dict[str, str]:
    """The environment in which qemu emulates a processor with vectors of that length."""
    return {**os.environ, "QEMU_CPU": f"rv64,v=true,vext_spec=v1.0,vlen={vector_bits},zfh=true,zvfh=true"}
