# `make demo` and `make test` set everything up in .venv; the other targets use it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
DEMO_MODEL ?= coder-1.5b
VLLM ?= .venv-vllm
RAY ?= .venv-ray

.PHONY: help setup demo test unit_tests integration_tests test-native test-vllm test-ray fuzz test-tsan lint format docs pictures notebooks
.PHONY: wheels test-wheel test-wheels test-pythons test-oldest clean

help:
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and by its exact version: a range would let pip choose a build with gigabytes of CUDA libraries.
	$(BIN)/python $(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable ".[dev]"
	touch $@

setup: $(VENV)/.ready ## create .venv with the package and all that the tests need

demo: setup ## stream an answer of a real Qwen2.5 model to the terminal
	$(BIN)/langchain-qwen ask --model $(DEMO_MODEL) --max-tokens 120 "In two sentences: why is the sky blue?" < /dev/null

test: unit_tests integration_tests ## all tests: without weights first, then on a real checkpoint

unit_tests: setup ## tests that need neither weights nor a network
	$(BIN)/python -m pytest tests/unit_tests --disable-socket --allow-unix-socket

integration_tests: setup ## tests on a real Qwen2.5 checkpoint (pulled at first use)
	$(BIN)/python -m pytest tests/integration_tests --benchmark-disable

$(VLLM)/.ready: tests/vllm/environment.py
	$(PYTHON) tests/vllm/environment.py $(VLLM)
	touch $@

# Without these, vLLM leaves a core idle and its threads wait for one another where the machine has other work.
ON_CPU := VLLM_CPU_NUM_OF_RESERVED_CPU=0 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

test-vllm: setup $(VLLM)/.ready ## real vLLM on the CPU, as a server and in the process (its own environment, 4 GB; Python 3.11 or later)
	LANGCHAIN_QWEN_VLLM=$(VLLM) $(BIN)/python -m pytest tests/vllm --benchmark-disable
	$(ON_CPU) $(VLLM)/bin/python -m pytest tests/vllm/test_in_process.py

$(RAY)/.ready: tests/vllm/environment.py
	$(PYTHON) tests/vllm/environment.py $(RAY) --ray
	touch $@

test-ray: setup $(RAY)/.ready ## the smoke set through Ray Serve with two replicas on the CPU (its own environment, 5 GB; 10 GB of memory)
	LANGCHAIN_QWEN_RAY=$(RAY) $(BIN)/python -m pytest tests/vllm/test_smoke.py tests/vllm/test_ray.py --benchmark-disable

test-native: ## the C engine under sanitizers, on random models and schedules; AMX by emulation, ARM under qemu where it is
	sh tests/native/build.sh fuzz
	build/fuzzers/fuzz/fuzz 60
	sh tests/native/aarch64.sh 20

FUZZ_SECONDS ?= 600
CLANG ?= clang

# -O0: with all sanitizers clang optimises a table of kernels for minutes.
fuzz: setup ## hostile models, weights and files, FUZZ_SECONDS (600) for each target; needs clang with libFuzzer
	for target in fuzz_runner fuzz_pack fuzz_fit; do \
		CC=$(CLANG) sh tests/native/build.sh $$target -fsanitize=fuzzer -O0 && mkdir -p build/corpus/$$target && \
		build/fuzzers/$$target/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=512 -len_control=0 -rss_limit_mb=3000 \
			-artifact_prefix=build/fuzzers/ build/corpus/$$target || exit 1; \
	done
	LANGCHAIN_QWEN_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/unit_tests/test_hostile_files.py -q

test-tsan: ## the C engine's threads under the thread sanitizer
	tests/native/tsan.sh 10

$(TOOLS)/.ready: constraints.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP_INSTALL) --constraint constraints.txt auditwheel hatchling lief uv ziglang
	touch $@

wheels: $(TOOLS)/.ready ## build the wheels for Linux, macOS and Windows into dist/, and check them
	$(TOOLS)/bin/python build_wheels.py dist

test-wheel: $(TOOLS)/.ready setup ## this machine's wheel where there is no compiler, no source, no torch and no transformers
	$(TOOLS)/bin/python build_wheels.py dist here
	$(BIN)/python -m pytest tests/wheel_tests/test_installed.py

test-wheels: wheels setup ## all wheels: this machine's as above, others by the emulators that are installed
	$(BIN)/python -m pytest tests/wheel_tests -rs

# An environment with one Python and one set of versions: build/pythons/3.12_constraints. uv finds interpreters, or gets them.
UV := $(TOOLS)/bin/uv
PYTHONS ?= 3.10 3.11 3.12 3.13 3.14
PYTEST := -m pytest tests/unit_tests -q -p no:cacheprovider --disable-socket --allow-unix-socket

build/pythons/%/.ready: $(TOOLS)/.ready pyproject.toml constraints.txt constraints-oldest.txt
	$(UV) venv --quiet --seed --clear --python $(word 1,$(subst _, ,$*)) build/pythons/$*
	$(UV) pip install --quiet --python build/pythons/$*/bin/python --constraint $(word 2,$(subst _, ,$*)).txt --editable ".[dev]"
	touch $@

test-pythons: $(TOOLS)/.ready ## the unit tests on each of PYTHONS (3.10 to 3.14) that can be had, with the newest versions
	@failed=; for version in $(PYTHONS); do \
		$(UV) python find -q $$version > /dev/null 2>&1 || $(UV) python install -q $$version 2> /dev/null || { \
			echo "Python $$version: cannot be had here"; failed="$$failed$(REQUIRED:%= $$version)"; continue; }; \
		$(MAKE) --no-print-directory build/pythons/$${version}_constraints/.ready && \
			build/pythons/$${version}_constraints/bin/python $(PYTEST) && echo "Python $$version: passed" || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed on$$failed"; exit 1; }

test-oldest: build/pythons/3.10_constraints-oldest/.ready ## the unit tests on Python 3.10 with the oldest versions that the package takes
	build/pythons/3.10_constraints-oldest/bin/python $(PYTEST)

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Their own environment: the manual's tools are no part of what is tested.
DOCS := build/docs-env

$(DOCS)/.ready: pyproject.toml
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check \
		$$(sed -n 's/^docs = \[\(.*\)\]$$/\1/p' pyproject.toml | sed 's/", "/ /g; s/"//g')
	touch $@

docs: $(DOCS)/.ready ## the manual as a web site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

pictures: setup ## the pictures of the README, anew; needs tmux
	$(BIN)/python docs/pictures/speed.py
	$(BIN)/python docs/pictures/terminal.py

notebooks: setup ## run the notebooks with coder-1.5b and keep their output in them
	for notebook in cookbook/0[0-6]*.ipynb; do $(BIN)/python cookbook/run.py $$notebook || exit 1; done

format: setup ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and caches
	rm -rf $(VENV) $(VLLM) $(RAY) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
