#!/usr/bin/env bash
# cross_test.sh ARCHITECTURE FOLDER JOBS: cross-compiles the backend or plugin in a folder and its native tests (riscv64, aarch64), runs them under qemu.
# The compiler is Debian's cross g++ where it is installed, else zig from the package index; qemu-user-static must be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
architecture=$1 folder=$2 jobs=$3
export PATH="$PWD/.venv/bin:$PATH"
build="$PWD/build/$architecture/${folder##*/}"

qemu=$(command -v "qemu-$architecture-static" || command -v "qemu-$architecture" || true)
if [[ -z $qemu ]]; then
  echo "qemu-$architecture is not installed; on Debian: apt-get install qemu-user-static" >&2
  exit 1
fi

if command -v "$architecture-linux-gnu-g++" >/dev/null; then
  compiler=("-DCMAKE_CXX_COMPILER=$architecture-linux-gnu-g++" -DCMAKE_SYSTEM_NAME=Linux
    "-DCMAKE_SYSTEM_PROCESSOR=$architecture"
    # What is asked here is whether the results are right. Loops that the kernels unroll for wide registers become very
    # long where a vector is four scalars, and take minutes to compile.
    -DCMAKE_BUILD_TYPE=Emulated "-DCMAKE_CXX_FLAGS=-O1 -fdisable-tree-cunroll -fdisable-tree-cunrolli")
else
  # Static programs need no loader of the other architecture; zig links those with musl only.
  scripts/install.sh .venv/bin/python ziglang
  compiler=("-DCMAKE_TOOLCHAIN_FILE=$PWD/backends/cpu/cmake/zig.cmake" "-DZIG_TARGET=$architecture-linux-musl"
    "-DZIG_PYTHON=$PWD/.venv/bin/python")
fi
cmake -S "$folder" -B "$build" -G Ninja -DPERFX_TESTS=ON "-DCMAKE_CROSSCOMPILING_EMULATOR=$qemu" \
  -DCMAKE_EXE_LINKER_FLAGS=-static --log-level=WARNING "${compiler[@]}" >/dev/null
cmake --build "$build" -j "$jobs"
ctest --test-dir "$build" --output-on-failure
