# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-all faults bench check docs lock clean distclean

DEMO_OUT ?= build/demo
DEMO_ARGS ?= --map winding --duration 60 --real-time-factor 1.0
TEST_ARGS ?=
TEST_PROCESSES ?= 3
FAULTS_ARGS ?=
BENCH_ARGS ?=
TOOLS := .venv/tools
SPHINX := .venv/sphinx
SCHEMA := $(TOOLS)/bin/check-jsonschema --builtin-schema
WORKFLOWS := $(wildcard .github/workflows/*.yaml)
# The first with sidecars without a feature gate, and the newest that the pinned tool knows.
KUBERNETES := 1.29 1.37
PURE_CODE := $(wildcard td3_agent/driving td3_agent/policy td3_agent/td3 td3_agent/sim td3_agent/training td3_agent/doctor)

# Each run gets a domain of its own, so that runs side by side do not hear each other. Compiled files
# are kept whatever the environment says: the tests start programs by the dozen.
ENV := export ROS_DOMAIN_ID=$$(($$$$ % 100 + 1)) && unset PYTHONDONTWRITEBYTECODE && source ./env.sh
PYTEST = python -m pytest --numprocesses $(TEST_PROCESSES)

help: ## list what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 16

setup: ## build the workspace: .venv, build/, install/ (PYTHON=... and ROS=jazzy|kilted choose)
	@PYTHON='$(PYTHON)' ROS='$(ROS)' scripts/setup.sh

demo: setup ## drive a car around a road; DEMO_ARGS='...' and DEMO_OUT=DIR change how and where
	@$(ENV) && td3_agent demo $(DEMO_ARGS) --out $(DEMO_OUT)

test: setup ## run the tests; TEST_ARGS='-k name' chooses, TEST_PROCESSES is how many run at once
	@$(ENV) && $(PYTEST) $(or $(TEST_ARGS),test)

test-fast: setup ## run those that start no ROS node, no Ray and no process that takes seconds
	@$(ENV) && $(PYTEST) -m 'not nightly and not slow' $(or $(TEST_ARGS),test/unit)

test-all: setup ## run all tests, benchmarks and faults without their guards too
	@$(ENV) && $(PYTEST) -m '' $(or $(TEST_ARGS),test)

faults: setup ## run all cases of loads and faults; FAULTS_ARGS='agent_killed --repeat 5' chooses
	@$(ENV) && python test/faults $(FAULTS_ARGS)

bench: setup ## measure speed: NAME=rate|latency|..., BENCH_ARGS='--turns 3' (NAME=--help lists)
	@$(ENV) && python -m benchmarks $(or $(NAME),--help) $(BENCH_ARGS)

check: setup $(TOOLS)/ready ## lint, check format, types, containers and manifests
	@$(ENV) && ruff check . && ruff format --check . && mypy --strict $(PURE_CODE)
	@$(TOOLS)/bin/hadolint --config .hadolint.yaml docker/*.Dockerfile
	@$(SCHEMA) vendor.compose-spec docker/compose*.yaml
	@$(if $(WORKFLOWS),$(SCHEMA) vendor.github-workflows $(WORKFLOWS))
	@for version in $(KUBERNETES); do $(TOOLS)/bin/kubernetes-validate --strict --quiet -k $$version deploy/*.yaml || exit; done

# An environment of its own: what checks containers needs nothing of ours, and other versions.
$(TOOLS)/ready: requirements/deploy.in | setup
	@.venv/bin/python -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

docs: setup $(SPHINX)/ready ## build the site in docs/_build, without a warning
	@$(ENV) && PYTHONPATH=$(CURDIR)/$(SPHINX):$$PYTHONPATH python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo docs/_build/index.html

$(SPHINX)/ready: requirements/docs.in | setup
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(SPHINX) -r $<
	@touch $@

lock: ## renew requirements/lock_*.txt from requirements/*.in (needs uv)
	@scripts/lock.sh

clean: ## remove what was built; .venv stays
	@rm -rf build install log docs/api docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove everything that make made
	@rm -rf .venv
