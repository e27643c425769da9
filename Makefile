# The one menu. Each target makes what it needs, on a machine with only Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types format bench clean
.DEFAULT_GOAL := help

help:            ## This menu
	@grep -E '^[a-z]+: .*##|^help:' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/demo.stamp        ## Install, and score real photographs, clean and degraded
	$(BIN)/python benchmarks/demo.py

test: $(VENV)/dev.stamp         ## Install, and run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp         ## Style of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp        ## Types of the code
	$(BIN)/mypy

format: $(VENV)/dev.stamp       ## Bring the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp        ## Measure speed; writes benchmarks/results/
	$(BIN)/python benchmarks/speed.py

clean:           ## Remove what was installed and built
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@
