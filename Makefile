# Thin targets over `python -m pipeline`. What stands on make's command line reaches a command as its options:
#   make preprocess DATASET=market STORE=hdf5 WORKERS=4
# What the shell exports under these names does not, unless it says DENSEREID_DATASET=market.
.DEFAULT_GOAL := help
.PHONY: help demo doctor catalog check extract synthesize preprocess derive densepose-sizes inspect status verify \
        convert export-masks schema embedded-weights train evaluate report describe export ablation activations test \
        test-faults docs lint audit format clean-env

PYTHON ?= python3
VENV := .venv
# OpenMP threads that wait by spinning make training on a shared processor up to nine times slower (bench/RESULTS.md).
export GOMP_SPINCOUNT ?= 1000

# Variables of make's command line go to the command as DENSEREID_NAME, whatever they are called: the command knows its
# options, and refuses what it does not know. Those of this file do not, nor those that say DENSEREID_ themselves.
# A variable of this file that a user might type (RUN=runs/NAME) would replace ours: ours begin with a dot.
.given = $(strip $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name))))
.own = PYTHON VENV GOMP_SPINCOUNT DENSEREID_%
.options = $(filter-out $(.own),$(.given))
.quoted = '$(subst ','\'',$(1))'
.run = env $(foreach name,$(.options),DENSEREID_$(name)=$(call .quoted,$(value $(name)))) \
       DENSEREID_MAKE_GOALS='$(MAKECMDGOALS)' DENSEREID_MAKE_VARIABLES='$(.options)' \
       DENSEREID_MAKE_OWN='$(filter $(.own),$(.given))' $(VENV)/bin/python -m pipeline

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  variables: DATASET DATA_ROOT STORE STORE_ROOT SIZE ESTIMATOR MODEL DEVICE WORKERS SEED DRY_RUN, and every other"
	@echo "             option of a command: --short-edge is SHORT_EDGE. $(VENV)/bin/densereid COMMAND --help lists them;"
	@echo "             their defaults: pipeline/defaults.yaml"

demo: $(VENV) ## From nothing to mAP on this machine: render, preprocess, train, evaluate, inspect
	@$(.run) demo

catalog: $(VENV) ## The known datasets, and which of them are on disk
	@$(.run) catalog list

check: $(VENV) ## Compare DATASET on disk with its published counts
	@$(.run) catalog check

extract: $(VENV) ## CUHK03's cuhk03-np folders from its cuhk-03.mat: make extract DATASET=cuhk03
	@$(.run) catalog extract

synthesize: $(VENV) ## Render the synthetic pedestrians with their exact IUV maps
	@$(.run) synthesize

preprocess: $(VENV) ## Images to masks and DSAP images in a store; continues what was interrupted
	@$(.run) preprocess

derive: $(VENV) ## Other DSAP images from a finished store, without its estimator: make derive DSAP_SIZE=64
	@$(.run) derive

train: $(VENV) ## Train MODEL on DATASET, making the store first where it is missing; continues by itself
	@$(.run) train

evaluate: $(VENV) ## CMC and mAP of a run: make evaluate RUN_FOLDER=runs/NAME RERANK=1
	@$(.run) evaluate

report: $(VENV) ## One page about a run, or several side by side: make report RUN_FOLDER="runs/A runs/B"
	@$(.run) report

ablation: $(VENV) ## The rows of a paper's table beside ours: make ablation TABLE=magnifiernet-v2-2 SEEDS=0,1,2
	@$(.run) ablation

activations: $(VENV) ## Where the trunks of some runs look: make activations RUNS="runs/A runs/B"
	@$(.run) activations

describe: $(VENV) ## What every setting means: make describe RUN_OR_MODEL=dsa-reid; without it, all models
	@$(.run) describe

export: $(VENV) ## A run's inference network for other code: make export RUN_FOLDER=runs/NAME FORMAT=onnx,safetensors
	@$(.run) export

embedded-weights: $(VENV) ## Weights for ESTIMATOR=embedded, trained on rendered people: within three hours on two cores
	@$(VENV)/bin/python -c 'import anny' 2>/dev/null || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded-training]'
	@$(.run) embedded-weights

inspect: $(VENV) ## A contact sheet of a store: images, masks, DSAP images
	@$(.run) inspect

densepose-sizes: $(VENV) ## DensePose's input size on evidence: make densepose-sizes DATASET=market SHORT_EDGES=128,256 IMAGES=64
	@$(.run) densepose-sizes

doctor: $(VENV) ## What this machine has and lacks, each lack with its remedy
	@$(.run) doctor

status: $(VENV) ## A table of all stores
	@$(.run) status

verify: $(VENV) ## Every byte of a store against its checksum: make verify DATASET=market
	@$(.run) verify

convert: $(VENV) ## A store in the other format: make convert SOURCE=stores/A.zarr TARGET=stores/A.hdf5
	@$(.run) convert

export-masks: $(VENV) ## The masks of a store as files for other code: make export-masks DATASET=market LAYOUT=bpbreid
	@$(.run) export-masks

schema: $(VENV) ## The store's schema as a table
	@$(.run) schema

# Where Python may keep no compiled files, each process that a test starts would compile the project again.
test test-faults: export PYTHONDONTWRITEBYTECODE =

# Three processes on two cores: one in six seconds a test waits for something. Files in their own order, because the
# longest have few tests and would be begun last.
test: $(VENV) ## All tests (CPU; GPU tests skip where there is none)
	@$(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-faults: $(VENV) ## The attacks: kills, damage, full disks, mutated and hostile files, double starts; half an hour
	@FAULTS=1 FAULTS_JSON=build/faults.json $(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/faults

docs: $(VENV) ## The pages of docs/ as a site in build/site
	@$(VENV)/bin/python docs/site/generated.py
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

lint: $(VENV) ## Formatting, lint, types and the import contract
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@PYTHONPATH=. $(VENV)/bin/lint-imports

audit: $(VENV) ## Dependencies: declared, in their bounds, licences, known vulnerabilities where a network is at hand
	@$(VENV)/bin/python .ci/audit.py

format: $(VENV) ## Format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

clean-env: ## Delete .venv
	rm -rf $(VENV)

# The environment is rebuilt when the project's own files change; a half-filled one is not taken for whole.
$(VENV): $(VENV)/.filled
$(VENV)/.filled: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; this is %s. Set PYTHON=..." % sys.version.split()[0])'
	@echo "filling $(VENV) (about 5.5 GB with CUDA builds of torch; a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
