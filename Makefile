# All that a person or CI types. Wants GNU make and Python 3.11 or newer; the first run of a target installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Two threads are slower than one for the embedded model, and several processes share the machine while tests run.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lab check bench faults docs notebooks reference front airflow

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/make \1:/p' Makefile

demo: .venv/.core  ## install the core, then run the main job on the embedded model: table, files, verdict
	@$(BIN)/llmops-lab demo

test: .venv/.all .airflow/airflow  ## install everything, then run the tests and the notebooks
	@$(BIN)/python hatch_build.py || true
	@$(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests notebooks

lab: .venv/.all  ## open JupyterLab on the first notebook
	@$(BIN)/jupyter lab notebooks/01_first_prompt.ipynb

check: .venv/.all  ## lint, format, types, architecture contracts, dead code, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	@command -v node >/dev/null || echo "node is not there: the TypeScript is not checked"
	! command -v node >/dev/null || { $(BIN)/python hatch_build.py && cd labextension && ../$(BIN)/jlpm lint; }
	$(BIN)/python tools/reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/.all  ## print the speed and memory ratios
	@$(BIN)/python -m tests.bench

faults: .venv/.all  ## the fault tests at full count
	@LLMOPS_LAB_FULL=1 $(BIN)/python -m pytest tests/faults tests/browser/test_rating_faults.py

docs: .venv/.all  ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: .venv/.all  ## run the notebooks and store what they show
	@$(BIN)/python tools/notebooks.py

reference: .venv/.all  ## write docs/reference anew from the code
	@$(BIN)/python tools/reference.py

front: .venv/.all  ## build the bundles of the views anew where their sources changed (wants node)
	@$(BIN)/python hatch_build.py

# Stamps: a second run installs nothing unless the dependencies changed. The project itself is installed in place.
.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit("llmops_lab wants Python 3.11 or newer. Type: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
	@$(PIP) pip
	@touch $@

.venv/.core: .venv/.pip pyproject.toml constraints.txt
	@echo "Installing the core into .venv (the first time takes some minutes)"
	@$(PIP) --editable .
	@touch $@

.venv/.all: .venv/.pip pyproject.toml constraints.txt
	@echo "Installing the core, all extras and the development tools into .venv (the first time takes some minutes)"
	@$(PIP) --editable '.[all]' --group dev
	@$(PIP) --no-deps pyrit  # its human labels, for notebook 06; of the hundreds of packages that its code needs none is wanted
	@touch $@ .venv/.core

airflow: .airflow/airflow  ## the real Airflow for the test of the example DAG, apart from our environment

.airflow/airflow: tests/jobs/airflow.txt | .venv/.all
	@$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .airflow -r tests/jobs/airflow.txt && touch $@
