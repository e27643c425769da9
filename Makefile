# The one menu. Each target makes what it needs, on a machine with only Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
CHROMIUM := (command -v chromium || command -v chromium-browser) >/dev/null
APT := apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=30

.PHONY: help demo test test-all test-browser screenshots lint types format bench export-check default-model vit-tiny clean
.DEFAULT_GOAL := help

help:            ## This menu
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/demo.stamp        ## Install, and score real photographs, clean and degraded
	$(BIN)/python examples/demo.py

test: $(VENV)/dev.stamp         ## Install, and run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: $(VENV)/browser.stamp  ## Install, and run all tests, those in a real browser among them
	QFM_BROWSER=$${QFM_BROWSER-$$( $(CHROMIUM) && echo required )} $(BIN)/python -m pytest -n auto --dist loadfile

test-browser: $(VENV)/browser.stamp  ## Run the tests in a real browser; installs Debian's Chromium
	QFM_BROWSER=required $(BIN)/python -m pytest tests/browser

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
	$(BIN)/python benchmarks/toolbox.py

export-check: $(VENV)/dev.stamp  ## What other runtimes and int8 do to the scores; writes benchmarks/results/
	$(BIN)/python benchmarks/export.py --data $(DATA)

# The default model, from its teachers to the package. DATA is BIQ2021 with labelled.csv. On a GPU,
# set train.precision=bf16 and train.workers in the recipes, and give pseudo-label --workers.
ASKED = --extra-crops 12 --chains 3 --drop 0.2
DATA ?= ../shared/data/biq2021
KODAK ?= ../shared/data/kodak
export QFM_BACKBONE_DIR ?= ../shared/weights
default-model: $(VENV)/dev.stamp  ## Train the model that ships in the package (hours, or minutes with a GPU)
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set train.epochs=12 --out runs/teacher_0 --resume
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set train.epochs=12 --set train.seed=1 --out runs/teacher_1 --resume
	$(BIN)/qfm pseudo-label runs/teacher_0/model $(DATA)/labelled.csv --part train $(ASKED) --seed 0 --tokens 7 --out runs/pseudo_train_0.csv
	$(BIN)/qfm pseudo-label runs/teacher_0/model $(DATA)/unlabelled.csv --held-out $(DATA)/labelled.csv $(ASKED) --seed 0 --tokens 7 --out runs/pseudo_unlabelled_0.csv
	$(BIN)/qfm pseudo-label runs/teacher_1/model $(DATA)/labelled.csv --part train $(ASKED) --seed 1 --out runs/pseudo_train_1.csv
	$(BIN)/qfm train recipes/default_model.toml --set data.root=$(DATA) --out runs/default --resume
	$(BIN)/qfm evaluate runs/default/model $(DATA)/labelled.csv --part test --by subset --out benchmarks/results/default_model_first.csv
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set train.epochs=8 --out runs/vit_tiny_0 --resume
	$(BIN)/qfm pseudo-label runs/vit_tiny_0/model $(DATA)/unlabelled.csv --held-out $(DATA)/labelled.csv --extra-crops 1 --chains 1 --out runs/pseudo_unlabelled_2.csv
	$(BIN)/qfm second-opinion runs/default/model $(DATA)/labelled.csv --part train --pseudo-labels runs/pseudo_unlabelled_2.csv --out runs/default/second
	$(BIN)/qfm evaluate runs/default/second $(DATA)/labelled.csv --part test --by subset --record --out benchmarks/results/default_model.csv
	$(BIN)/qfm finish runs/default/second $(DATA)/labelled.csv --part validation --out src/qfm_iqm/pretrained/default
	$(BIN)/qfm evaluate default $(DATA)/labelled.csv --part validation --by subset --out benchmarks/results/default_model_second_validation.csv
	$(BIN)/qfm export default --to onnx --out src/qfm_iqm/pretrained/default/onnx
	$(BIN)/python benchmarks/reference_statistics.py --root $(DATA) --kodak $(KODAK)
	$(BIN)/python benchmarks/quality_map.py --photos $(KODAK) --count 12 --level 5 --ways explain
	$(BIN)/python benchmarks/degradation.py --root $(DATA) --kodak $(KODAK)
	$(BIN)/python benchmarks/size_and_frame.py --kodak $(KODAK) --model default vit-tiny
	$(BIN)/qfm card default --out docs/default_model.md --degradation benchmarks/results/degradation.csv --size-and-frame benchmarks/results/size_and_frame.csv --speed benchmarks/results/speed.csv

# Two teachers of its own kind, what they say of unrated photos, and the student of both.
vit-tiny: $(VENV)/dev.stamp  ## Train the accurate model that ships in the package (hours)
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set train.epochs=8 --out runs/vit_tiny_0 --results benchmarks/results/vit_tiny_8_epochs.csv --resume
	$(BIN)/qfm train recipes/vit_tiny.toml --set data.root=$(DATA) --set train.epochs=7 --set train.seed=1 --set 'network.extra_scales=[300]' --out runs/vit_tiny_1 --resume
	$(BIN)/qfm pseudo-label runs/vit_tiny_0/model $(DATA)/unlabelled.csv --held-out $(DATA)/labelled.csv --extra-crops 0 --seed 0 --out runs/pseudo_dle_0.csv
	$(BIN)/qfm pseudo-label runs/vit_tiny_1/model $(DATA)/unlabelled.csv --held-out $(DATA)/labelled.csv --extra-crops 0 --seed 1 --out runs/pseudo_dle_1.csv
	$(BIN)/qfm train recipes/vit_tiny_dle.toml --set data.root=$(DATA) --out runs/vit_tiny_dle --results benchmarks/results/vit_tiny_dle.csv --resume
	$(BIN)/qfm finish runs/vit_tiny_dle/model $(DATA)/labelled.csv --part validation --out runs/vit_tiny_dle/finished
	$(BIN)/qfm pack runs/vit_tiny_dle/finished --out src/qfm_iqm/pretrained/vit-tiny
	$(BIN)/python benchmarks/extra_scales.py --root $(DATA)

clean:           ## Remove what was installed and built
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/pip.stamp
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/browser.stamp: pyproject.toml $(VENV)/dev.stamp
	@$(CHROMIUM) || $(SUDO) sh -c '$(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install -y chromium' || \
		echo 'Chromium is not here and apt-get cannot install it: the tests in a browser are skipped, or fail where QFM_BROWSER=required.'
	$(BIN)/pip install --quiet -e '.[dev,browser]'
	@if $(CHROMIUM); then touch $@; fi

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
