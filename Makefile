# `make demo` and `make test` set everything up in .venv; the other targets use it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_MODEL ?= coder-1.5b

.PHONY: help setup demo test unit_tests integration_tests test-native fuzz lint format type notebooks clean

help:
	@grep -E '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and by its exact version: a range would let pip choose a build with gigabytes of CUDA libraries.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

setup: $(VENV)/.ready ## create .venv with the package and all that the tests need

demo: setup ## stream an answer of a real Qwen2.5 model to the terminal
	$(BIN)/langchain-qwen ask --model $(DEMO_MODEL) --max-tokens 120 "In two sentences: why is the sky blue?" < /dev/null

test: unit_tests integration_tests ## all tests: without weights first, then on a real checkpoint

unit_tests: setup ## tests that need neither weights nor a network
	$(BIN)/python -m pytest tests/unit_tests --disable-socket --allow-unix-socket

integration_tests: setup ## tests on a real Qwen2.5 checkpoint (pulled at first use)
	$(BIN)/python -m pytest tests/integration_tests --benchmark-disable

test-native: ## the C engine under the address and undefined-behaviour sanitizers, on random models and schedules
	sh tests/native/build.sh fuzz
	build/fuzzers/fuzz/fuzz 60

FUZZ_SECONDS ?= 600
CLANG ?= clang

fuzz: setup ## hostile models, weights and files, FUZZ_SECONDS (600) for each target; needs clang with libFuzzer
	for target in fuzz_runner fuzz_pack; do \
		CC=$(CLANG) sh tests/native/build.sh $$target -fsanitize=fuzzer && mkdir -p build/corpus/$$target && \
		build/fuzzers/$$target/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=512 -len_control=0 -rss_limit_mb=3000 \
			-artifact_prefix=build/fuzzers/ build/corpus/$$target || exit 1; \
	done
	LANGCHAIN_QWEN_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/unit_tests/test_hostile_files.py -q

test-tsan: ## the C engine's threads under the thread sanitizer
	tests/native/tsan.sh 10

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
