# Everything that CI runs, and a person too. Needs Python >= 3.10 and make; no uv, no conda.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format bench bench-affinity lanes test-services test-engine clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml requirements/constraints.txt requirements/test.txt requirements/check.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Homing needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -e '.[server,local,cli,redis,sql]' -r requirements/test.txt
	@touch $@

CHECKS := $(VENV)/.checks
$(CHECKS): $(STAMP)
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/check.txt
	@touch $@

demo: $(STAMP)  ## six conversations on a cold local edge, with and without affinity
	@$(BIN)/python examples/demo.py

test: $(STAMP)  ## the tests, with the branch coverage of the client's core
	$(BIN)/python -m coverage run -m pytest -q -m 'not services and not engine'
	$(BIN)/python -m coverage report --include='client/homing/core/*' --fail-under=$(CORE_COVERAGE)

# Branch coverage of the pure core, in per cent. tests/core and tests/transport alone reach it.
CORE_COVERAGE := 100

check: $(CHECKS)  ## style, types, and whether the sync twin is fresh
	$(BIN)/ruff check .
	$(BIN)/python scripts/unasync.py --check
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(CHECKS)  ## rewrite what can be rewritten
	$(BIN)/ruff check --fix -q . || true
	$(BIN)/python scripts/unasync.py

bench: $(STAMP)  ## micro-benchmark of the transport
	$(BIN)/python bench/loopback/transport.py

bench-affinity: $(STAMP)  ## what affinity is worth, on emulated replicas (on real ones: bench/affinity.py --help)
	$(BIN)/python bench/affinity.py

lanes: test-services test-engine  ## everything that needs more than Python

SERVICES := $(VENV)/.services
$(SERVICES): $(CHECKS) requirements/services.txt
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/services.txt
	@touch $@

test-services: $(SERVICES)  ## the stores on real Redis, PostgreSQL and MariaDB
	$(BIN)/python scripts/services.py

# SGLang's own environment, 1.6 GB: kept between runs, and made again when what is pinned changes.
test-engine: export HOMING_ENGINE_HOME := $(CURDIR)/.cache/engine
test-engine: export HOMING_TEST_ENGINE := 1
test-engine: $(STAMP) requirements/engine.txt  ## the client, the edge and the emulation on real SGLang, without a GPU
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/engine.txt
	$(BIN)/homing engine install
	$(BIN)/python -m pytest -q -m engine tests/engine

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .coverage* build dist
