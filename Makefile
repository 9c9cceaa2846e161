# The menu. `make demo` and `make test` do all of their own set-up on a fresh Debian machine; the second run is quick.
.DEFAULT_GOAL := help
.PHONY: help demo stack test check format generate pictures bench clean
SHELL := /bin/bash
BIN := .venv/bin

help:            ## this list
	@grep -hE '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: .venv/.installed    ## four simulated weeks of four models with known faults: incidents, then injected against found
	@$(BIN)/driftline demo

stack: .venv/.installed    ## the demo with Prometheus, Alertmanager and Grafana around it, as far as they are installed
	@scripts/stack

test: .venv/.installed-dev    ## every test, with a real Kafka broker, PostgreSQL and Prometheus (installed when root on Debian)
	@scripts/install-parts
	@$(BIN)/python -m pytest -q

check: .venv/.installed-dev    ## format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/.installed-dev    ## let ruff format the code and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: .venv/.installed-dev    ## write anew what is generated and committed: boards, the rule manifest, the page on metrics
	@$(BIN)/python -m grafana.board

pictures: .venv/.installed-dev    ## the pictures of the documents, from a run of the demo (needs DRIFTLINE_GRAFANA and Chromium)
	@scripts/install-parts
	@$(BIN)/python -m tests.parts.pictures docs/pictures

bench: .venv/.installed-dev    ## the benchmarks; ARGS="--json" for machines
	@$(BIN)/python -m benchmarks $(ARGS)

clean:           ## remove the environment and every cache
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist

# A stamp is as old as the pyproject it was installed from, so a second run installs nothing.
.venv/.installed: pyproject.toml
	@if [ -e .venv/.installed-dev ]; then scripts/install '.[postgres,fast,apprise,dev]' && touch .venv/.installed-dev; else scripts/install '.[postgres]'; fi
	@touch $@

.venv/.installed-dev: pyproject.toml
	@scripts/install '.[postgres,fast,apprise,dev]'
	@touch .venv/.installed $@
