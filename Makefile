# Two commands do everything on a fresh machine with Python and make:
#   make demo                 sets up .venv without torch, segments the sample scan, prints the volumes
#   make demo SCAN=path       the same on any scan or DICOM folder
#   make test                 sets up .venv for development and runs every check
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SCAN   ?= HeartSeg/Resources/SampleData/HeartSeg-synthetic-CTA.nii.gz
OUT    ?= out/demo

.DEFAULT_GOAL := help
.PHONY: help demo app test test-slow torture lint types imports extension publish-clone unit benchmark docs clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.light  ## set up, segment SCAN (default: the synthetic sample that ships), print volumes and files
	@$(BIN)/heartseg segment "$(SCAN)" -o "$(OUT)" --overwrite

app: $(VENV)/.app  ## set up with torch, for graphics cards, models of your own and heat maps

test: $(VENV)/.dev lint types imports extension unit  ## set up and run every check: style, types, import directions, extension, tests

test-slow: $(VENV)/.dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# Fuzzed files, the table of bad inputs, a cohort that is killed and resumed, and one on a cluster whose workers and
# scheduler are killed; about three quarters of an hour on two cores.
torture: $(VENV)/.dev  ## spoilt files, bad inputs and injected faults, with counts (TORTURE="--files 200" for less)
	PYTHONPATH=HeartSeg/Testing:HeartSeg/Logic OMP_NUM_THREADS=1 $(BIN)/python -m torture $(TORTURE)

lint: $(VENV)/.dev  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## types
	$(BIN)/mypy

imports: $(VENV)/.dev  ## import directions (docs/explanation/architecture.md)
	$(BIN)/lint-imports

extension: $(VENV)/.dev  ## what Slicer's ExtensionsIndex will see: entry, pictures, size of the published clone
	$(BIN)/python tools/check_extension.py

publish-clone: $(VENV)/.dev  ## a copy in OUT=DIR whose history lacks superseded weights and pictures
	$(BIN)/python tools/publish_clone.py "$(OUT)"

# One thread in each process: threads of torch that wait for a busy core take minutes.
unit: $(VENV)/.dev  ## tests, without the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python tools/run_tests.py -m "not slow"

docs: $(VENV)/.dev  ## the documentation site in site/, strictly: a broken link or a missing reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(VENV)/.dev  ## seconds and memory per stage, beside stock nnU-Net (SCAN=path for a scan of your own)
	$(BIN)/python benchmarks/inference.py "$(SCAN)"

# An environment that has torch is kept as it is.
$(VENV)/.light: pyproject.toml requirements/constraints.txt requirements/install.sh
	@[ -e $(VENV)/.app ] || sh requirements/install.sh "$(PYTHON)" "$(VENV)" light
	@touch $@

# torch is constrained in the same pip call: without that, pip may fetch a CUDA build of several GB.
$(VENV)/.app: pyproject.toml requirements/constraints.txt requirements/install.sh
	@sh requirements/install.sh "$(PYTHON)" "$(VENV)" app
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/constraints.txt requirements/install.sh
	@sh requirements/install.sh "$(PYTHON)" "$(VENV)" dev
	@touch $@ $(VENV)/.app

clean:  ## remove the environment, results and build output
	rm -rf $(VENV) out build dist site .nox HeartSeg/Logic/*.egg-info
