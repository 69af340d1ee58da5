# make venv   an environment in .venv          make run    the quickstart: tables, pictures, a page
# make test   all tests                        make check  format, lint, types
# make quick  the tests that take a moment     make clean
# make gpu    compares a GPU with the CPU and measures it; without one, the CPU alone at small sizes
# make dist   wheel and sdist in dist/                 make dist-run   runs the quickstart from the wheel alone
# Another interpreter: make PYTHON=python3.12 ...   A CUDA build of torch: make TORCH_INDEX= EXTRAS=dev,cuda venv
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
# Threads that wait must not spin: on two cores that costs more than it saves.
export OMP_WAIT_POLICY ?= PASSIVE

# Compiled modules are kept whatever the environment says: the tests start a hundred processes that would compile again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: venv run test quick check dist dist-run gpu gpu-wheels clean
venv: $(VENV)/.installed

# torch comes first and alone: its CPU build lies in an index of its own, and any other package would pull the CUDA one.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or newer with venv is needed: apt-get install python3-venv, or make PYTHON=...'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --retries 1 --constraint constraints.txt torch \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@$(SYSTEM)
	@touch $@

# open3d loads system libraries that a bare Debian lacks.
LIBRARIES := libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1
SYSTEM = $(BIN)/python -c 'import importlib.util as u; u.find_spec("open3d") and __import__("open3d")' 2>/dev/null || \
  { apt-get update -qq && apt-get install -y -qq $(LIBRARIES); } || \
  echo 'warning: meshes cannot be read until a system library is there: apt-get install $(LIBRARIES)'

run: venv
	$(BIN)/assay run experiment=quickstart

# Two processes; the tests of a file, which share what is slow to make, stay in one.
TWO := --numprocesses 2 --dist loadfile

# One thread for each of the two, or they wait for each other.
test quick: export OMP_NUM_THREADS := 1

test: venv
	$(BIN)/python -m pytest $(TWO) -m "not gpu"

quick: venv
	$(BIN)/python -m pytest $(TWO) -m "not slow and not gpu"

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The sdist is made first and the wheel from it, so nothing lies in the wheel that only this folder has.
dist: venv
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	@! grep -q '^Source = .*\.example/' pyproject.toml || \
	  echo 'warning: links of this release lead nowhere: put the public address into pyproject.toml, project.urls'

dist-run: dist
	$(BIN)/python -m tests.benchmarks.wheel dist/*.whl

# On a machine that reaches no package registry: make gpu-wheels elsewhere, and bring the folder wheels/ along. Its
# Python then uses the torch, numpy, scipy and scikit-learn that the machine has. faiss comes along by
# make gpu-wheels GPU_WHEELS='faiss-gpu nvidia-cuda-runtime-cu12 nvidia-cublas-cu12 nvidia-curand-cu12' (600 MB).
WHEELS ?= $(wildcard wheels)
GPU_PYTHON ?= 3.12
GPU_VENV := .venv-gpu
ifeq ($(WHEELS),)
gpu: venv
	$(BIN)/python -m tests.gpu.check $(GPU_ARGS)
	$(BIN)/python -m pytest -m gpu
else
gpu: $(GPU_VENV)/.installed
	PYTHONPATH=.typing $(GPU_VENV)/bin/python -m tests.gpu.check $(GPU_ARGS)
	PYTHONPATH=.typing $(GPU_VENV)/bin/python -m pytest -m gpu tests/gpu
endif

$(GPU_VENV)/.installed: tests/gpu/wheels.txt
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --no-index --find-links $(WHEELS) --no-deps -r tests/gpu/wheels.txt
	$(GPU_VENV)/bin/pip install --quiet --no-index --find-links $(WHEELS) faiss-gpu 2>/dev/null || \
	  echo 'no wheel of faiss-gpu: that part is left out'
	@touch $@

# antlr4-python3-runtime is published as source alone.
gpu-wheels: venv
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir wheels antlr4-python3-runtime==4.9.3
	$(BIN)/pip download --quiet --no-deps --only-binary :all: --find-links wheels --dest wheels \
	  --python-version $(GPU_PYTHON) $(foreach glibc,17 27 28,--platform manylinux_2_$(glibc)_x86_64) \
	  --platform manylinux2014_x86_64 --constraint constraints.txt -r tests/gpu/wheels.txt $(GPU_WHEELS)

clean:
	rm -rf $(VENV) $(GPU_VENV) dist outputs
