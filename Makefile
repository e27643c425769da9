# The one menu. Each target makes what it needs, on a machine with only Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
CHROMIUM := (command -v chromium || command -v chromium-browser) >/dev/null
EXIFTOOL := command -v exiftool >/dev/null
APT := apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=30

.PHONY: install-check help demo docs exiftool test test-all test-browser screenshots lint types format bench culling export-check default-model vit-tiny model-figures model-card surface clean
.DEFAULT_GOAL := help

help:            ## This menu
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/demo.stamp        ## Install, and score real photographs, clean and degraded
	$(BIN)/python examples/demo.py

# What converts models loads four frameworks into one process, which has crashed where hundreds of other
# tests had run before: it gets processes of its own. After a crash pytest-xdist waits for ever: no restart.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0
CONVERSIONS = tests/scoring/runtimes

test: $(VENV)/dev.stamp         ## Install, and run the tests
	$(PYTEST) --ignore $(CONVERSIONS)
	$(PYTEST) $(CONVERSIONS)

test-all: $(VENV)/browser.stamp exiftool  ## Install, and run all tests, those in a real browser among them
	QFM_EXIFTOOL=$${QFM_EXIFTOOL-$$( $(EXIFTOOL) && echo required )} QFM_BROWSER=$${QFM_BROWSER-$$( $(CHROMIUM) && echo required )} $(PYTEST) --ignore $(CONVERSIONS)
	$(PYTEST) $(CONVERSIONS)

test-browser: $(VENV)/browser.stamp  ## Run the tests in a real browser; installs Debian's Chromium
	QFM_BROWSER=required $(BIN)/python -m pytest tests/browser

docs: $(VENV)/dev.stamp         ## Build the documentation as a site; writes build/site/
	DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --clean

figures: $(VENV)/dev.stamp     ## Draw the figures of the documentation; writes docs/images/
	$(BIN)/python docs/figures.py

screenshots: $(VENV)/browser.stamp  ## Take the README's screenshots; writes docs/images/
	$(BIN)/python docs/screenshots.py

lint: $(VENV)/dev.stamp         ## Style of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp        ## Types of the code
	$(BIN)/mypy

format: $(VENV)/dev.stamp       ## Bring the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.stamp      ## Measure speed; writes benchmarks/results/
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/service_load.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/toolbox.py

export-check: $(VENV)/dev.stamp  ## What other runtimes and int8 do to the scores; writes benchmarks/results/
	$(BIN)/python benchmarks/export.py --data $(DATA)

# One recipe builds a whole model and its card. DATA is BIQ2021 with labelled.csv and unlabelled.csv,
# CELLS KADID-10k's mean opinions, TID2013 a folder with its mos_with_names.txt; on a GPU,
# SET="--set train.workers=15". What is done is not done again.
DATA ?= ../shared/data/biq2021
CELLS ?= ../shared/labels/kadid10k_cells.csv
KODAK ?= ../shared/data/kodak
TID2013 ?= ../shared/tid2013
SET ?=
SHIPPED := src/qfm_iqm/pretrained
export QFM_BACKBONE_DIR ?= ../shared/weights
default-model: $(VENV)/dev.stamp  ## Build the model that ships in the package (a night)
	$(BIN)/qfm train recipes/default.toml --set data.root=$(DATA) --set augment.cells=$(CELLS) --set model.folder=$(SHIPPED)/default --set card.page=docs/default_model.md $(SET) --results benchmarks/results/default_model.csv --out runs/default --resume

vit-tiny: $(VENV)/dev.stamp  ## Build vit-tiny, the more accurate model of the package (hours)
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set model.folder=$(SHIPPED)/vit-tiny $(SET) --results benchmarks/results/vit_tiny_dle.csv --out runs/vit_tiny --resume

model-figures: $(VENV)/dev.stamp  ## All that depends on the shipped models' weights; writes benchmarks/results/
	$(BIN)/python benchmarks/reference_statistics.py --root $(DATA) --kodak $(KODAK)
	$(BIN)/python benchmarks/quality_map.py --photos $(KODAK) --count 12 --level 5 --ways explain
	$(BIN)/python benchmarks/degradation.py --root $(DATA) --kodak $(KODAK)
	$(BIN)/python benchmarks/degradation_cells.py --cells $(CELLS) --kodak $(KODAK)
	$(BIN)/python benchmarks/tid2013.py --tid2013 $(TID2013) --kodak $(KODAK)
	$(BIN)/python benchmarks/size_and_frame.py --kodak $(KODAK) --model default vit-tiny
	$(BIN)/python benchmarks/subset_errors.py --root $(DATA) --cells $(CELLS)
	$(BIN)/python benchmarks/near_duplicates.py --root $(DATA)
	$(BIN)/python benchmarks/extra_scales.py --root $(DATA)

culling: $(VENV)/dev.stamp  ## Fit and measure qfm cull; writes benchmarks/results/ and culling/parameters.json
	$(BIN)/python benchmarks/culling.py --root $(DATA) --kodak $(KODAK) --cells $(CELLS) --fit

model-card: $(VENV)/dev.stamp  ## The default model's card as a page; writes docs/default_model.md
	$(BIN)/python docs/model_card.py

surface: $(VENV)/dev.stamp     ## The public surface that a test freezes, and the man page; writes both
	$(BIN)/python tests/public_surface.py

install-check:   ## Build wheel and sdist, and try them in an empty environment; add PYTHON=python3.13
	$(PYTHON) tests/installation.py $(PYTHON)

clean:           ## Remove what was installed and built
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/browser.stamp: pyproject.toml $(VENV)/dev.stamp
	@$(CHROMIUM) || $(SUDO) sh -c '$(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install -y chromium' || \
		echo 'Chromium is not installed and apt-get cannot install it: the tests in a browser are skipped, or fail where QFM_BROWSER=required.'
	$(BIN)/pip install --quiet -e '.[dev,browser]'
	@if $(CHROMIUM); then touch $@; fi

# Reads XMP sidecars back, independently of us.
exiftool:
	@$(EXIFTOOL) || $(SUDO) sh -c '$(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install -y libimage-exiftool-perl' || \
		echo 'exiftool is not installed and apt-get cannot install it: the tests of sidecars are skipped, or fail where QFM_EXIFTOOL=required.'

# The toolbox that we are measured against; its list of dependencies pins old versions of ours.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --no-deps pyiqa facexlib
	$(BIN)/pip install --quiet -e '.[bench]'
	@touch $@

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@
