# Everything that CI runs, and a person too. Needs Python >= 3.10 and make; no uv, no conda.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Container images set it. Every process of the tests would then compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help rooms environments demo test test-slow mutations check format bench bench-affinity lanes test-services test-engine test-modal clean bench-quick bench-transport test-sdks test-lowest test-newest test-browser chatbot docs serve-docs chaos fuzz soak

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml requirements/constraints.txt requirements/test.txt requirements/check.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Homing needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -e '.[server,local,cli,redis,sql,fastapi,otel]' -r requirements/test.txt
	@touch $@

CHECKS := $(VENV)/.checks
$(CHECKS): $(STAMP)
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/check.txt
	@touch $@

demo: $(STAMP)  ## six conversations on a cold local edge, with and without affinity
	@$(BIN)/python examples/demo.py

chatbot: $(STAMP)  ## a web page to chat with, on a cold local edge (with HOMING_BASE_URL: on your own server)
	@PYTHONPATH=examples $(BIN)/python -m chatbot

test: $(STAMP)  ## the tests, with the branch coverage of the client's core
	$(PYTEST) -m 'not slow and $(HERE)' $(COVERED) \
		--cov --cov-report=term:skip-covered --cov-fail-under=$(CORE_COVERAGE)
	$(PYTEST) -m 'not slow and $(HERE)' $(COVERED:%=--ignore=%)

test-slow: $(STAMP)  ## the tests marked slow, which `make test` leaves out: most generated ones, the largest simulations
	$(PYTEST) -m 'slow and $(HERE)'
	HOMING_EAGER_WAKEUP=0 $(PYTEST) $(WOKEN)

# What a reader's wake-up is part of, once more with the ordinary one.
WOKEN := tests/transport tests/_async/test_streams.py tests/_async/test_cancel.py -k "asyncio and not two_hundred"

# Processes that share the tests: the edge and its clients wait more than they work.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal
# What needs more than Python has lanes of its own.
HERE := not services and not engine and not wheels and not litellm and not notebooks
# These tests alone reach the branch coverage of the pure core, in per cent. Tracing costs the others nearly as much
# time as they take.
COVERED := tests/core tests/transport tests/attack/test_bounds.py tests/attack/test_secrets.py
CORE_COVERAGE := 100

mutations: $(STAMP)  ## lines that guard a bound, broken one at a time: is it noticed? (half a minute)
	$(BIN)/python scripts/mutations.py

check: $(CHECKS)  ## style, types, and whether the sync twin is fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/unasync.py --check
	$(BIN)/python scripts/rooms.py --check
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/pyright --pythonpath $(BIN)/python

rooms: $(STAMP)  ## draw the map of packages in docs/architecture.md again, and count their lines
	$(BIN)/python scripts/rooms.py
	@$(BIN)/python scripts/rooms.py --table

format: $(CHECKS)  ## rewrite what can be rewritten
	$(BIN)/ruff check --fix -q . || true
	$(BIN)/ruff format -q .
	$(BIN)/python scripts/unasync.py

DOCUMENTED := $(VENV)/.documented
$(DOCUMENTED): $(STAMP) requirements/docs.txt
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/docs.txt
	@touch $@

# Not -q: it would silence what strict counts.
docs serve-docs: export NO_MKDOCS_2_WARNING := 1
docs: $(DOCUMENTED)  ## the site, built strictly and without a network into site/, and the notebooks run
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest -q -n $(WORKERS) -m notebooks tests/docs

serve-docs: $(DOCUMENTED)  ## the site on http://127.0.0.1:8001, built again when a page changes
	$(BIN)/mkdocs serve -a 127.0.0.1:8001

BENCHED := $(VENV)/.benched
$(BENCHED): $(STAMP) requirements/bench.txt
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/bench.txt
	@touch $@

bench: $(BENCHED)  ## how fast it is beside its peers: table, plots, docs/performance.md (15 min; needs an idle machine)
	$(BIN)/python bench/run.py --publish

bench-quick: $(BENCHED)  ## the same in two minutes, rougher, on the terminal only
	$(BIN)/python bench/run.py --quick

bench-transport: $(STAMP)  ## the transport alone, beside httpx's
	$(BIN)/python bench/loopback/transport.py

bench-affinity: $(STAMP)  ## what affinity is worth, on emulated replicas (on real ones: bench/affinity.py --help)
	$(BIN)/python bench/affinity.py

chaos: $(STAMP)  ## 10,000 turns under 2,000 faults, killed clients too, and an audit of every turn (5 min)
	$(BIN)/python bench/chaos.py

fuzz: $(STAMP)  ## a million random byte sequences through what reads a server's answers (20 min)
	$(BIN)/python bench/fuzz.py

soak: $(STAMP)  ## 200 conversations for half an hour: does memory stay flat?
	$(BIN)/python bench/soak.py

lanes: test-slow test-sdks test-lowest test-newest test-services test-engine test-modal test-browser  ## everything that `make test` leaves out

# These environments are made by scripts/environments.py, in .cache, and made again when their pins change.
test-sdks: $(STAMP)  ## other SDKs on the local edge: openai 2.x (3.x: make test), litellm, LangChain, pydantic-ai, Agents, instructor
	$(BIN)/python scripts/environments.py openai-2
	$(BIN)/python scripts/environments.py litellm
	$(BIN)/python scripts/environments.py ecosystem
	$(BIN)/python scripts/environments.py instructor

# These two need no environment but their own: `make test-lowest PYTHON=python3.13` says on which Python.
CHOSEN = $(if $(filter command,$(firstword $(origin PYTHON))),--python $(PYTHON))

test-lowest:  ## the lowest versions allowed, on the oldest Python that is here
	$(PYTHON) scripts/environments.py lowest $(CHOSEN)

test-newest:  ## the newest versions there are, on the newest Python that is here
	$(PYTHON) scripts/environments.py newest $(CHOSEN)

SERVICES := $(VENV)/.services
$(SERVICES): $(CHECKS) requirements/services.txt
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/services.txt
	@touch $@

test-services: $(SERVICES)  ## the stores on real Redis, PostgreSQL and MariaDB, cookies behind real HAProxy
	$(BIN)/python scripts/services.py

environments: $(STAMP)  ## what the lanes install apart, beforehand: CI does it beside the checks
	$(BIN)/python scripts/environments.py --make
	$(BIN)/homing engine install

# SGLang's own environment, 1.6 GB: kept between runs, and made again when what is pinned changes.
environments test-engine: export HOMING_ENGINE_HOME := $(CURDIR)/.cache/engine
test-engine: export HOMING_TEST_ENGINE := 1
test-engine: $(STAMP) requirements/engine.txt  ## the client, the edge and the emulation on real SGLang, without a GPU
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/engine.txt
	$(BIN)/homing engine install
	$(BIN)/python -m pytest -q -m engine tests/engine

# Environments and wheels stay in .cache/; a first run fetches some 90 MB.
test-modal: $(STAMP) requirements/modal.txt  ## the oldest and newest modal, SGLang's own parsers, bare environments
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/modal.txt
	$(BIN)/python -m pytest -q -m wheels tests/wheels
	$(BIN)/python scripts/modal_versions.py

BROWSED := $(VENV)/.browsed
$(BROWSED): $(STAMP) requirements/browser.txt
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -r requirements/browser.txt
	@touch $@

test-browser: $(BROWSED)  ## the chatbot in headless Chromium, with axe (new pictures for the docs: scripts/browser.py --publish)
	$(BIN)/python scripts/browser.py

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .coverage* build dist
