# SPDX-License-Identifier: Apache-2.0
# Everything a developer or a newcomer runs. Each target does its own set-up in .venv.

PYTHON ?= python3
VENV ?= .venv
# The torch to install; any version from 2.10 on works, CPU or CUDA build.
TORCH ?= torch==2.13.0
# Processes for compiling and testing.
JOBS ?= 2
# Extra arguments, e.g. make test PYTEST_ARGS="-k smoothness", make bench BENCH_ARGS="--csv out.csv".
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Of the check on a GPU, e.g. GPU_ARGS=--quick, GPU_ARGS="--only build benchmark --output DIR".
GPU_ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-python test-cpp lint format bench gpu-check setup clean
.DELETE_ON_ERROR:

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.stamp
TORCH_STAMP := $(STAMP)-torch-$(shell echo '$(TORCH)' | tr -c 'A-Za-z0-9.\n' '_')
NATIVE_SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc cmake -type f)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PATH := $(abspath $(VENV))/bin:$(PATH)
say = @echo "==> $(1)"

help:
	@echo "physcon_ext: targets (each installs what it needs into $(VENV))"
	@echo "  make demo    build, conserve the predictions of a model, print a table, write figures to demo/"
	@echo "  make test    build, run all Python, C and C++ tests"
	@echo "  make lint    style, types, formatting, licence tags"
	@echo "  make format  rewrite the sources in the project's format"
	@echo "  make bench   measure the operators beside PyTorch compositions"
	@echo "  make gpu-check  on a machine with a GPU: build, test and measure the CUDA kernels"
	@echo "  make setup   only install and build"
	@echo "  make clean   remove everything the targets above created"
	@echo "variables: PYTHON=$(PYTHON) TORCH=$(TORCH) JOBS=$(JOBS) PYTEST_ARGS= BENCH_ARGS= GPU_ARGS="

$(TORCH_STAMP):
	@$(PYTHON) tools/check_prerequisites.py
	$(call say,creating $(VENV) with $$($(PYTHON) --version))
	@$(PYTHON) -m venv $(VENV)
	@rm -f $(STAMP)-*
	$(call say,installing $(TORCH) and the build tools)
	@$(PIP) --upgrade pip
	@$(PIP) '$(TORCH)' numpy 'scikit-build-core>=0.10' 'pybind11>=2.13'
	@$(PIP) $$($(PY) tools/missing_build_tools.py)
	@touch $@

$(STAMP)-build: $(TORCH_STAMP) $(NATIVE_SOURCES)
	$(call say,building and installing physcon_ext into $(VENV))
	@$(PIP) --no-build-isolation -Cbuild-dir=build/editable -e '.[demo]'
	@touch $@

$(STAMP)-test: $(STAMP)-build
	$(call say,installing the test tools)
	@$(PIP) -r <($(PY) tools/extra_requirements.py test)
	@touch $@

$(STAMP)-dev: $(STAMP)-build
	$(call say,installing the development tools)
	@$(PIP) -r <($(PY) tools/extra_requirements.py dev)
	@touch $@

setup: $(STAMP)-build

demo: $(STAMP)-build
	$(call say,running physcon demo; figures go to demo/)
	@$(VENV)/bin/physcon demo --out demo

test: test-cpp test-python

test-python: $(STAMP)-test
	$(call say,running the Python tests)
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-cpp: $(TORCH_STAMP)
	$(call say,building and running the C and C++ tests)
	@cmake -S . -B build/cpp -DCMAKE_BUILD_TYPE=Release -DPHYSCON_BUILD_TESTS=ON \
	    -DPHYSCON_WERROR=ON > build-cpp.log 2>&1 || { cat build-cpp.log; exit 1; }
	@cmake --build build/cpp > build-cpp.log 2>&1 || { cat build-cpp.log; exit 1; }
	@rm -f build-cpp.log
	@ctest --test-dir build/cpp --output-on-failure --no-tests=error

lint: $(STAMP)-dev
	$(call say,ruff)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	$(call say,clang-format)
	@$(VENV)/bin/clang-format --dry-run -Werror $$($(PY) tools/sources.py c)
	$(call say,licence tags)
	@$(PY) tools/check_spdx.py
	@$(PY) tools/check_text.py
	$(call say,pyproject.toml)
	@$(VENV)/bin/validate-pyproject pyproject.toml > /dev/null
	$(call say,mypy)
	@$(VENV)/bin/mypy

format: $(STAMP)-dev
	@$(VENV)/bin/ruff check --fix --quiet . || true
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/clang-format -i $$($(PY) tools/sources.py c)

bench: $(STAMP)-test
	$(call say,measuring the operators; results go to bench/results/)
	@$(PY) -m bench.run $(BENCH_ARGS)

# With the torch of PYTHON, in no environment of its own: a machine with a GPU may have no network.
gpu-check:
	@$(PYTHON) -m bench.gpu_check $(GPU_ARGS)

clean:
	rm -rf $(VENV) build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
