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

.PHONY: demo test lint docs bench format audit licences dist clean

demo: $(READY)
	$(BIN)/meseta demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --conf-dir docs --doctree-dir build/doctrees . build/docs
	@echo "docs: build/docs/index.html"

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Known vulnerabilities of all pinned versions, as PyPI's JSON interface lists them: asks the network.
audit: $(VENV)/.release
	@$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt || \
	  { echo "audit: a vulnerability is listed above, or pypi.org did not answer for a package: nothing was cleared"; exit 1; }

licences: $(READY)
	$(BIN)/python docs/fill_licences.py

# Wheel and sdist, checked, and each installed and tried in an environment of its own on top of .venv's packages.
dist: $(VENV)/.release
	rm -rf dist build/lib
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/try_dist.py dist/*

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

$(VENV)/.docs $(VENV)/.release: $(VENV)/.%: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@
