#!/usr/bin/env bash
# cross_test.sh ARCHITECTURE FOLDER JOBS: cross-compiles the backend or plugin in a folder and its native tests (riscv64, aarch64), runs them under qemu.
# VECTOR_BITS: how long the vectors of the riscv64 machines are, one machine for each number. The longest runs the kernels for all shorter ones too;
#   no kernels for longer ones are built.
# EXCLUDED_TESTS: a regular expression of names of the core's native tests that are left out; with none all are run.
# The compiler is Debian's cross g++ for riscv64, with clang-19 for backends/riscv, where they are installed; else zig from the package index.
# qemu-user-static must be installed.
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

cross_tools=/usr/lib/gcc-cross/riscv64-linux-gnu
if [[ $folder == backends/riscv ]] && command -v clang++-19 >/dev/null && [[ -d $cross_tools ]]; then
  # Only Clang turns what this backend is written in into vector instructions; the libraries are those of the cross g++.
  compiler=(-DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_CXX_COMPILER_TARGET=riscv64-linux-gnu -DCMAKE_SYSTEM_NAME=Linux
    -DCMAKE_SYSTEM_PROCESSOR=riscv64 "-DCMAKE_CXX_FLAGS=--gcc-install-dir=$(printf '%s\n' "$cross_tools"/* | tail -1)")
elif [[ $architecture == riscv64 && $folder != backends/riscv ]] && command -v riscv64-linux-gnu-g++ >/dev/null; then
  compiler=(-DCMAKE_CXX_COMPILER=riscv64-linux-gnu-g++ -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=riscv64
    # What is asked here is whether the results are right. Loops that the kernels unroll for wide registers become very
    # long where a vector is four scalars, and take minutes to compile.
    -DCMAKE_BUILD_TYPE=Emulated "-DCMAKE_CXX_FLAGS=-O1 -fdisable-tree-cunroll -fdisable-tree-cunrolli")
else
  # Static programs need no loader of the other architecture; zig links those with musl only.
  scripts/install.sh .venv/bin/python ziglang
  compiler=("-DCMAKE_TOOLCHAIN_FILE=$PWD/backends/cpu/cmake/zig.cmake" "-DZIG_TARGET=$architecture-linux-musl"
    "-DZIG_PYTHON=$PWD/.venv/bin/python")
fi
vector_bits=${VECTOR_BITS:-1024}
if [[ $folder == backends/riscv ]]; then
  # shellcheck disable=SC2086
  compiler+=("-DPERFX_MOST_VECTOR_BITS=$(printf '%s\n' $vector_bits | sort -n | tail -1)")
fi
if [[ $folder == backends/* ]]; then
  compiler+=("-DPERFX_EXCLUDED_TESTS=${EXCLUDED_TESTS:-}")
  [[ -z ${EXCLUDED_TESTS:-} ]] || echo "left out: native tests of the core named $EXCLUDED_TESTS"
fi
cmake -S "$folder" -B "$build" -G Ninja -DPERFX_TESTS=ON "-DCMAKE_CROSSCOMPILING_EMULATOR=$qemu" \
  -DCMAKE_EXE_LINKER_FLAGS=-static --log-level=WARNING "${compiler[@]}" >/dev/null
cmake --build "$build" -j "$jobs"

run_tests() {
  ctest --test-dir "$build" --output-on-failure -j "$jobs"
}

# run PROCESSOR VARIANTS: on one of qemu's processors, where these instruction sets must be found.
run() {
  echo "qemu -cpu $1: $2"
  QEMU_CPU=$1 PERFX_EXPECTED_VARIANTS=$2 run_tests
}
if [[ $architecture == aarch64 ]]; then
  run max "i8mm dotprod neon scalar"
  run neoverse-n1 "dotprod neon scalar"
  run cortex-a57 "neon scalar"
elif [[ $folder == backends/riscv ]]; then
  for bits in $vector_bits; do
    expected=scalar
    for length in 128 256 512 1024; do
      if [[ $length -le $bits ]]; then expected="rvv$length $expected"; fi
    done
    run "rv64,v=true,vext_spec=v1.0,vlen=$bits" "$expected"
  done
else
  run_tests
fi
