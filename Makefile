# `make distill` and `make test` set everything up in .venv and need nothing but git, make, g++ and Python >= 3.10.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml dfad_fast/version.py $(shell find csrc -type f)

.PHONY: help setup distill wheel sdist test test-fast test-slow test-triton test-cli test-benchmarks test-cuda-shim test-reference test-long test-golden test-mutants test-networks test-ptx test-gpu cuda lint docs docs-serve clean

help:
	@echo "make distill   set up and run the main job: a digits teacher is distilled without data"
	@echo "make test      set up and run the tests, those of the ops with each backend"
	@echo "make test-gpu  set up and run the tests of the ops on a GPU"
	@echo "make cuda      build the CUDA kernels with nvcc, for the tests of the build; needs no GPU"
	@echo "make test-long  set up and run the tests that take too long for make test"
	@echo "make test-mutants  set up and see whether the tests notice faults that are put into the kernels"
	@echo "make test-golden  set up and compare whole runs, to the bit, with those on record for this type of machine"
	@echo "make test-ptx  set up and run the ops' tests on the PTX of the CUDA and Triton kernels, in an emulator"
	@echo "make test-networks  set up, with timm, torchvision and transformers, and test the taps of their networks"
	@echo "make wheel     set up and build a wheel with the kernels for the torch of .venv, in dist; make sdist without"
	@echo "make lint      set up and run ruff, mypy and import-linter"
	@echo "make docs      set up and build the documentation, in build/site; make docs-serve shows it"
	@echo "make clean     remove what was set up and built (runs/ stays)"

setup: $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "dfad_fast needs Python >= 3.10; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python's venv module is missing (Debian: package python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# What builds the package. Archives need no more: an editable install would put its own kernels into the checkout.
$(VENV)/.tools: $(VENV)/.created
	$(BIN)/python -m pip install --quiet '$(TORCH)' numpy packaging pybind11 ninja wheel build 'setuptools>=77'
	touch $@

# --no-build-isolation: the C++ kernels must be built against the same torch that will load them.
$(VENV)/.installed: $(VENV)/.tools $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[digits,dev]'
	$(BIN)/python -m dfad_fast.info
	touch $@

distill: setup
	$(BIN)/dfad-fast distill --dataset digits --out runs/digits --overwrite

# The package's own switches are set here and for the wheel, so that the caller's do not matter.
sdist: $(VENV)/.tools
	DFAD_FAST_BUILD=0 DFAD_FAST_TAG_TORCH=0 DFAD_FAST_REQUIRE_EXTENSION=0 \
		$(BIN)/python -m build --no-isolation --sdist --outdir dist

# From the source archive, which shows that it is complete. The wheel's version names torch.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' dfad_fast/version.py)

wheel: sdist
	DFAD_FAST_BUILD=1 DFAD_FAST_TAG_TORCH=1 DFAD_FAST_REQUIRE_EXTENSION=1 \
		$(BIN)/python -m pip wheel --no-build-isolation --no-deps --wheel-dir dist dist/dfad_fast-$(VERSION).tar.gz

# Runs of pytest, the longest first, as many at a time as there are cores; each prints its report when it is done. One
# thread each, since they share the cores; tests about threads set their own number. A red one does not keep the others
# from running.
RUNS := test-fast test-slow test-triton test-cli test-benchmarks test-cuda-shim test-reference
CORES = $(shell $(BIN)/python -c 'import os; print(os.cpu_count())')
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -o cache_dir=.pytest_cache/$@

test: setup
	@echo "running the tests in $(words $(RUNS)) parts; each prints when it is done (10 minutes in all on 2 cores)"
	@$(MAKE) --no-print-directory --keep-going -j$(CORES) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) \
		$(RUNS)

$(RUNS): setup

test-fast:
	$(PYTEST) -m "not slow and not golden" --ignore=tests/benchmarks --ignore=tests/cli

test-slow:
	$(PYTEST) -m "slow and not long and not mutants and not ptx"

test-cli test-benchmarks: test-%:
	$(PYTEST) -m "not slow" tests/$*

test-triton test-cuda-shim test-reference: test-%:
	$(PYTEST) -m "not slow" tests/ops --backend=$*

# The packages of an extra, without building this one again, and such that torch stays what it is.
define PACKAGES_OF_EXTRA
import importlib.metadata as packages, sys
print("torch==" + packages.version("torch").partition("+")[0])
needs = (requirement.partition(";") for requirement in packages.requires("dfad-fast"))
print(*(package.strip() for package, _, extra in needs if f'"{sys.argv[1]}"' in extra.replace("'", '"')))
endef
export PACKAGES_OF_EXTRA

# What takes too long for every day: sanitizers, gigabytes, many kills. Compiles the CUDA kernels' shim several times.
test-long: setup
	$(PYTEST) -m long

# Mutation tests of the kernels. Builds the extension again, which takes minutes.
test-mutants: setup
	$(PYTEST) -m mutants tests/ops

# Whole runs, whose weights, metrics and summaries are compared to the bit with those on record for this machine.
test-golden: setup
	$(PYTEST) tests/golden

# The taps of timm's, torchvision's and transformers' networks; test-fast runs them too where these are installed.
test-networks: setup
	$(BIN)/python -m pip install --quiet $$($(BIN)/python -c "$$PACKAGES_OF_EXTRA" networks)
	$(PYTEST) tests/models/test_architectures.py

# What nvcc and Triton make of the kernels, in an emulator. nvcc takes half a minute for each source that has changed.
test-ptx: setup
	$(PYTEST) tests/ptx
	$(PYTEST) -m "not slow" tests/ops --backend=cuda-ptx
	$(PYTEST) -m "not slow" tests/ops --backend=triton-ptx

# On a machine with a GPU.
test-gpu: setup
	$(PYTEST) -m "not slow" tests/ops --device=cuda
	$(PYTEST) tests/cuda/test_gpu.py

# Built from scratch beside the extension in use, so that the log shows every kernel.
cuda: build/cuda/.built

build/cuda/.built: $(VENV)/.installed $(SOURCES)
	rm -rf build/cuda
	mkdir -p build/cuda
	FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST='8.0;9.0+PTX' NVCC_APPEND_FLAGS=-Xptxas=-v $(BIN)/python setup.py build_ext \
		--build-lib build/cuda/lib --build-temp build/cuda/tmp >build/cuda/build.log 2>&1 || \
		{ tail -n 40 build/cuda/build.log; exit 1; }
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $$($(BIN)/python -c "$$PACKAGES_OF_EXTRA" docs)
	touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.docs
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) build dist *.egg-info dfad_fast/_C*.so dfad_fast/_build_info.json
