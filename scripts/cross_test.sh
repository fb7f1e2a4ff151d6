#!/usr/bin/env bash
# cross_test.sh ARCHITECTURE FOLDER JOBS: cross-compiles the backend or plugin in a folder and its native tests (riscv64,
#   aarch64), runs them under qemu.
# VECTOR_BITS: how long the vectors of the riscv64 machines are, one machine for each number. The longest runs the kernels
#   for all shorter ones too, the others those for their own length; no kernels for longer ones are built. Each machine is
#   one with Zvfhmin and runs the kernels for both, where the emulator knows that extension: version 8 or later does.
# QEMU: the emulator. The default is the one that scripts/emulated_debian.sh brought, which is newer, or the one installed.
# EXCLUDED_TESTS: a regular expression of names of the core's native tests that are left out; with none all are run.
# The compiler is zig from the package index; for other things than backends/riscv, which only Clang turns into vector
# instructions, Debian's cross g++ for riscv64 where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
architecture=$1 folder=$2 jobs=$3
export PATH="$PWD/.venv/bin:$PATH"
build="$PWD/build/$architecture/${folder##*/}"

brought="${XDG_CACHE_HOME:-$HOME/.cache}/perfxapi/qemu/usr/bin/qemu-$architecture"
qemu=${QEMU:-$(command -v "$brought" || command -v "qemu-$architecture-static" || command -v "qemu-$architecture" || true)}
if [[ ! -x $qemu ]]; then
  echo "qemu-$architecture is not installed; on Debian: apt-get install qemu-user-static" >&2
  exit 1
fi

if [[ $architecture == riscv64 && $folder != backends/riscv ]] && command -v riscv64-linux-gnu-g++ >/dev/null; then
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
  most_bits=$(printf '%s\n' $vector_bits | sort -n | tail -1)
  compiler+=("-DPERFX_MOST_VECTOR_BITS=$most_bits")
  processor=rv64,v=true,vext_spec=v1.0 zvfhmin=ON
  if [[ $("$qemu" -cpu "$processor,zvfhmin=true" /bin/true 2>&1 || true) == *"zvfhmin' not found"* ]]; then
    echo "left out: kernels for Zvfhmin, which $("$qemu" --version | head -1) does not know"
    zvfhmin=OFF
  else
    processor+=,zfhmin=true,zvfhmin=true
  fi
  compiler+=("-DPERFX_ZVFHMIN=$zvfhmin")
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

# run PROCESSOR VARIANTS [TESTED]: on one of qemu's processors, where these instruction sets must be found; the kernels of
# all of them are tested, or of some.
run() {
  echo "qemu -cpu $1: $2${3:+; tested: $3}"
  QEMU_CPU=$1 PERFX_EXPECTED_VARIANTS=$2 PERFX_TESTED_VARIANTS=${3:-} run_tests
}
if [[ $architecture == aarch64 ]]; then
  run max "i8mm dotprod neon scalar"
  run neoverse-n1 "dotprod neon scalar" dotprod
  run cortex-a57 "neon scalar" neon
elif [[ $folder == backends/riscv ]]; then
  for bits in $vector_bits; do
    expected=scalar
    for length in 128 256 512 1024; do
      [[ $length -le $bits ]] || continue
      expected="rvv$length $expected"
      [[ $zvfhmin == OFF ]] || expected="rvv${length}_zvfhmin $expected"
    done
    tested=$(tr ' ' '\n' <<<"$expected" | grep "^rvv$bits" | xargs)
    if [[ $bits == "$most_bits" ]]; then tested=; fi
    run "$processor,vlen=$bits" "$expected" "$tested"
  done
else
  run_tests
fi
