#!/usr/bin/env bash
# sanitize.sh BACKEND JOBS: builds the native tests of a backend with each sanitizer and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."
backend=$1 jobs=$2
export PATH="$PWD/.venv/bin:$PATH"
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
for sanitizer in address,undefined thread; do
  build="build/sanitize-${sanitizer%%,*}"
  # Sanitizers find the same at -O1, and compile in a fraction of the time.
  cmake -S "$backend" -B "$build" -G Ninja -DPERFX_TESTS=ON -DPERFX_SANITIZE="$sanitizer" \
    -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g" --log-level=WARNING >/dev/null
  cmake --build "$build" -j "$jobs"
  run=(ctest --test-dir "$build" --output-on-failure)
  # ThreadSanitizer cannot place its shadow memory where addresses are randomized by more than 28 bits.
  if [[ $sanitizer == thread ]] && setarch -R true 2>/dev/null; then run=(setarch -R "${run[@]}"); fi
  "${run[@]}"
done
