# A toolchain file: cross-compiles with zig's clang (`pip install ziglang`), which brings its own C library for each target.
#
#   cmake -S backends/cpu -B build/riscv64 -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DZIG_TARGET=riscv64-linux-gnu.2.35 \
#         -DPERFX_TESTS=ON -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-riscv64-static;-L;/usr/riscv64-linux-gnu"
#
# ZIG_TARGET   architecture-linux-libc[.version], as `zig targets` lists them
# ZIG_PYTHON   the Python that ziglang is installed in
# ZIG_CPU      zig's -mcpu, such as baseline_rv64+v; empty for the target's baseline
set(ZIG_TARGET "riscv64-linux-gnu.2.35" CACHE STRING "Target triple of zig")
set(ZIG_PYTHON "python3" CACHE STRING "The Python that ziglang is installed in")
set(ZIG_CPU "" CACHE STRING "Processor for zig's -mcpu")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG_TARGET ZIG_PYTHON ZIG_CPU)

find_program(zig_python "${ZIG_PYTHON}" REQUIRED)
string(REGEX MATCH "^[^-]+" zig_processor "${ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR "${zig_processor}")
set(CMAKE_CXX_FLAGS_INIT "-g0") # zig adds debug information
# zig compiles its C++ library once for each level of optimization; -O3 here spares it another for CMake's first questions.
set(CMAKE_CXX_COMPILER "${zig_python}" -m ziglang c++ -target "${ZIG_TARGET}" -O3)
if(ZIG_CPU)
  list(APPEND CMAKE_CXX_COMPILER "-mcpu=${ZIG_CPU}")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
