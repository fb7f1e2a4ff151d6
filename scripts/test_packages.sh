#!/usr/bin/env bash
# test_packages.sh: installs the distributions as users do (no editable install, no shared build folder) and runs one op on cpu;
# the plugin's kernels, from a wheel; then, beside the core alone, what `perfxapi new` writes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check='import numpy as np, perfxapi as px
a = np.eye(32, dtype=np.float32)
y = px.nn.linear(px.asarray(a, device="cpu"), px.constant(a, px.float32, a.shape), activation_format="float32")
np.testing.assert_array_equal(np.asarray(y), a)
(row,) = px.explain().rows
assert row.ran_on.startswith("cpu"), row
print("runs on", px.get_device("cpu"))'

filtered='import numpy as np, perfxapi as px, perfxapi_plugin_signal as signal
y = signal.sosfilt([[0.5, 0.5, 0, 1, 0, 0]], px.asarray(np.ones((3, 9), np.float32), device="cpu"))
np.testing.assert_array_equal(np.asarray(y)[:, 1:], 1.0)
(row,) = px.explain().rows
assert row.ran_on == "signal on cpu:0", row
print("filters run by", row.ran_on)'

echo "1. pip install . ./backends/cpu ./llm from the checkout"
python3 -m venv "$work/checkout"
"$work/checkout/bin/pip" --quiet install -c constraints.txt . ./backends/cpu ./llm
(cd "$work" && ./checkout/bin/python -c "$check" && ./checkout/bin/perfxlm --version)

echo "2. source distributions, built in isolation away from the checkout"
python3 -m venv "$work/source"
"$work/source/bin/pip" --quiet install -c constraints.txt build
"$work/source/bin/python" -m build --sdist --outdir "$work/sdist" . >/dev/null
"$work/source/bin/python" -m build --sdist --outdir "$work/sdist" backends/cpu >/dev/null
python3 -m venv "$work/user"
(cd "$work" && ./user/bin/pip --quiet install sdist/perfxapi-*.tar.gz sdist/perfxapi_backend_cpu-*.tar.gz && ./user/bin/python -c "$check")

echo "3. the signal plugin: its source distribution as a wheel for every Python, installed beside the core and cpu"
"$work/source/bin/python" -m build --sdist --outdir "$work/sdist" plugins/signal >/dev/null
"$work/source/bin/pip" --quiet --no-cache-dir wheel --no-deps --wheel-dir "$work/wheels" "$work"/sdist/perfxapi_plugin_signal-*.tar.gz
(
  cd "$work"
  ./user/bin/pip --quiet install --no-deps wheels/perfxapi_plugin_signal-*-py3-none-*.whl
  ./user/bin/perfxapi verify signal --op sosfilt --op upfirdn --op lfilter
  ./user/bin/python -c "$filtered"
  # where nothing compiles, the wheel holds no kernels, and the references run
  CC=false CXX=false ./source/bin/pip --quiet --no-cache-dir wheel --no-deps --wheel-dir pure sdist/perfxapi_plugin_signal-*.tar.gz
  ./user/bin/pip --quiet install --no-deps --force-reinstall pure/perfxapi_plugin_signal-*-py3-none-any.whl
  ./user/bin/python -W ignore -c "${filtered/signal on cpu:0/numpy:0}"
)

echo "4. a backend and a plugin that were just begun, beside the core alone"
python3 -m venv "$work/begun"
(
  cd "$work"
  ./begun/bin/pip --quiet install sdist/perfxapi-*.tar.gz pytest
  ./begun/bin/perfxapi new backend demo
  ./begun/bin/perfxapi new plugin squared_relu
  ./begun/bin/pip --quiet install ./perfxapi-backend-demo ./perfxapi-plugin-squared-relu
  ./begun/bin/perfxapi verify demo
  ./begun/bin/perfxapi verify squared_relu
  ./begun/bin/pytest -q perfxapi-backend-demo perfxapi-plugin-squared-relu
)
