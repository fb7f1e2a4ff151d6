#!/usr/bin/env bash
# cross_test.sh ARCHITECTURE BACKEND JOBS: cross-compiles a backend and its native tests (riscv64, aarch64), runs them under qemu.
# The compiler is Debian's cross g++ where it is installed, else zig from the package index; qemu-user-static must be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
architecture=$1 backend=$2 jobs=$3
export PATH="$PWD/.venv/bin:$PATH"
build="$PWD/build/$architecture"
mkdir -p "$build"

qemu=$(command -v "qemu-$architecture-static" || command -v "qemu-$architecture" || true)
if [[ -z $qemu ]]; then
  echo "qemu-$architecture is not installed; on Debian: apt-get install qemu-user-static" >&2
  exit 1
fi

flags=()
if command -v "$architecture-linux-gnu-g++" >/dev/null; then
  flags+=("-DCMAKE_CXX_COMPILER=$architecture-linux-gnu-g++")
else
  # Static programs need no loader of the other architecture; zig links those with musl only.
  scripts/install.sh .venv/bin/python ziglang
  printf '#!/bin/sh\nexec "%s" -m ziglang c++ -target %s-linux-musl "$@"\n' "$PWD/.venv/bin/python" "$architecture" >"$build/zig-c++"
  chmod +x "$build/zig-c++"
  flags+=("-DCMAKE_CXX_COMPILER=$build/zig-c++")
fi
cmake -S "$backend" -B "$build/native" -G Ninja -DPERFX_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR="$architecture" -DCMAKE_CROSSCOMPILING_EMULATOR="$qemu" \
  -DCMAKE_EXE_LINKER_FLAGS=-static --log-level=WARNING "${flags[@]}" >/dev/null
cmake --build "$build/native" -j "$jobs"
ctest --test-dir "$build/native" --output-on-failure
