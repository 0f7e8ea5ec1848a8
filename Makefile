# Needs GNU make 3.81 or later and Python 3.11 or later, on Linux or macOS. `make help` explains.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Another installer may stand in, for instance one that picks a build of torch:
#   make setup INSTALL="uv pip install --python .venv/bin/python --torch-backend=cpu"
# `make serve CONFIG=path/to/monoglot.yaml PORT=4300` serves your own, and elsewhere.
CONFIG ?= monoglot/sample/monoglot.yaml
PORT ?= 4200
INSTALL ?= $(BIN)/python -m pip install --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow test-browser test-gpu bench bench-quick chaos chaos-quick record-versions clean

help:  ## Explain the commands
	@echo "Monoglot: answer queries in any language from a knowledge base kept in one."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Each command sets up what it needs. PYTHON=python3.12 chooses the Python (3.11 or later)."

setup: $(VENV)/.installed  ## Build .venv with the pinned environment (2.8 GB; again only when a pin changes)

# The stamp is written last: an interrupted installation is taken up again by the next command.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Monoglot needs Python 3.11 or later; '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 || true)." \
	    "Name another one, for example: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "No virtual environment could be made in $(VENV)." \
	    "On Debian and Ubuntu: apt install python3-venv" >&2; \
	  rm -rf $(VENV); exit 1; }
	@echo "Installing into $(VENV); a few minutes the first time ..."
	@$(INSTALL) -c constraints.txt hatchling
	@$(INSTALL) -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: setup  ## Run the whole line on the bundled sample and answer three questions
	@$(BIN)/monoglot demo

serve: setup  ## Prefect's server and UI, the deployments and a worker on this machine; Ctrl-C ends all
	@$(BIN)/python -m deployments.serve --config "$(CONFIG)" --port $(PORT)

test: setup  ## Lint, format check, type check, and all tests but slow ones and those in a browser
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	@# Side by side: the tests wait for processes that they start, and leave a core idle meanwhile.
	$(BIN)/python -m mypy & types=$$!; \
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not browser"; tests=$$?; \
	wait $$types && exit $$tests

test-slow: setup  ## The slow tests: whole runs, killed, faulted, batched, limited, ablated
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

test-browser: setup  ## Prefect's UI in Chromium, which must be there (Debian: apt install chromium)
	@$(INSTALL) -c constraints.txt --no-build-isolation -e '.[browser]'
	$(BIN)/python -m pytest -m browser

test-gpu: setup  ## What a training does otherwise on a GPU, which the other tests leave alone
	@$(BIN)/python -c 'import torch; torch.cuda.is_available() or exit("There is no GPU.")'
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES-0} $(BIN)/python -m pytest -m gpu

bench: setup  ## How fast everything is, up to a million rows; writes benchmarks/results
	@$(INSTALL) -c constraints.txt --no-build-isolation -e '.[bench]'
	$(BIN)/python -m benchmarks.speed $(if $(DATA),--data "$(DATA)")

bench-quick: setup  ## The same with small sizes; writes to /tmp
	@$(INSTALL) -c constraints.txt --no-build-isolation -e '.[bench]'
	$(BIN)/python -m benchmarks.speed --quick --results $${TMPDIR:-/tmp}/monoglot-speed

chaos: setup  ## Fifty runs while processes are killed and disks fill up; writes benchmarks/results
	$(BIN)/python -m benchmarks.chaos

chaos-quick: setup  ## The same with one run of each disturbance; writes to /tmp
	$(BIN)/python -m benchmarks.chaos --runs 11 --results $${TMPDIR:-/tmp}/monoglot-chaos

record-versions: setup  ## Record the code of each stage after its version was bumped, or rightly kept
	@$(BIN)/python tests/test_stage_versions.py

clean:  ## Remove .venv, caches, builds and the demo's store; your own stores stay
	rm -rf $(VENV) build dist demo-store .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
