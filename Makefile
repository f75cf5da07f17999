# Everything runs in .venv, which the first target makes from PyPI alone.
# make PYTHON=python3.12 ... chooses the interpreter; 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Waiting threads sleep instead of spinning: on few or shared cores that is the difference between fast and stuck.
export OMP_WAIT_POLICY ?= PASSIVE

# Local copies of hub data sets, looked up before the hub.
ifneq ($(wildcard ../shared/data),)
export MESETA_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test lint bench format clean

demo: $(READY)
	$(BIN)/meseta demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "meseta needs Python 3.11 or newer, $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	# torch first and alone: no other package may choose its build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,test,lint]'
	@touch $@
