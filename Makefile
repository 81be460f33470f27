# The only list of commands. `make` alone prints it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs bench clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv with bayestl and everything that the other commands need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bayestl needs Python >= 3.11; name one with: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnxruntime,openvino,architectures,nvidia,boost,dask,dev,docs]'
	@touch $@

demo: install  ## measure, model, choose, verify and report on this machine (about 3 minutes)
	$(BIN)/bayestl demo

test: install  ## run every test, and the examples in README, docs and docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: install  ## style, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: install  ## build the documentation into docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

bench: install  ## rerun the measured claims, each in one process beside its rivals
	$(BIN)/python -m experiments.demo_accuracy --replay
	$(BIN)/python -m experiments.interval_coverage
	$(BIN)/python -m benchmarks.against_botorch
	$(BIN)/python -m benchmarks.prediction
	test -z "$$BAYESTL_DATA" || $(BIN)/python -m benchmarks.grid

clean:  ## remove what the other commands made
	rm -rf $(VENV) docs/_build build dist
