# Two targets are all that a newcomer needs: `make demo` and `make test`. Both do their own set-up, once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
BINDIR ?= /usr/local/bin
# Namespaces, links and OVS need root; a user who is not root gets there with sudo.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo "sudo --preserve-env=NETCTL_ENGINE,NETCTL_ENGINE_DIR")
PYTEST_ARGS ?=
# Files of tests run side by side, each test in labs of its own; a file stays together, as its tests may share a lab.
SIDE_BY_SIDE ?= --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help setup install uninstall demo test test-pure test-live lint bench soak docs clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

setup:  ## install what is missing: system packages, .venv, the engine (idempotent; offline when done)
	@scripts/setup

install: setup  ## put netctl into the PATH
	@$(ROOT) ln -sfn "$(CURDIR)/$(BIN)/netctl" "$(BINDIR)/netctl"
	@echo "$(BINDIR)/netctl -> $(CURDIR)/$(BIN)/netctl"

uninstall:  ## take netctl out of the PATH and remove the engine
	@$(ROOT) rm -rf "$(BINDIR)/netctl" "$${NETCTL_ENGINE_DIR:-/var/lib/netctl/engine}"

demo: setup  ## bring up the flagship lab, run its checks, show what was sent and seen, take it down
	@$(ROOT) scripts/demo

test: setup lint  ## everything: lint, unit, golden, property and live tests
	$(ROOT) $(BIN)/python -m pytest -m "not soak" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-pure: setup  ## the tests that need no root
	$(BIN)/python -m pytest tests/unit tests/golden tests/property $(PYTEST_ARGS)

test-live: setup  ## the tests on real namespaces, OVS and OVN
	$(ROOT) $(BIN)/python -m pytest -m "not soak" tests/live $(SIDE_BY_SIDE) $(PYTEST_ARGS)

lint: setup  ## ruff, mypy --strict, and the one-way rule of the packages
	@echo "ruff" >&2;         $(BIN)/ruff check --quiet .
	@echo "mypy" >&2;         $(BIN)/mypy --no-error-summary
	@echo "import rules" >&2; $(BIN)/lint-imports --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

bench: setup  ## measure, and compare with plain Mininet
	$(ROOT) $(BIN)/python -m bench $(BENCH_ARGS)

soak: setup  ## the same tests with hundreds of kills, 1,000 repeats of checks and 10,000 mutations
	$(ROOT) env NETCTL_KILLS=$${NETCTL_KILLS:-300} NETCTL_EXAMPLES=10000 NETCTL_CHECK_REPEATS=1000 \
		NETCTL_POLICY_SETS=1000 NETCTL_POLICY_CHANGES=100 \
		$(BIN)/python -m pytest --timeout 7200 tests/property tests/live/test_kill.py tests/live/test_checks.py tests/live/test_bonds.py \
		tests/live/test_plugin.py tests/live/test_microseg_random.py tests/live/test_microseg_changes.py $(PYTEST_ARGS)

docs: setup  ## write the reference that is generated from the code
	$(BIN)/python -m netctl.intent.reference >docs/reference.md

clean:  ## remove .venv and caches (not the engine: make uninstall)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
