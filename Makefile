# Marquee: `make demo` shows it, `make test` tests it; both set up what they need first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
UV := $(BIN)/uv
SYNC = $(UV) pip install --quiet --require-hashes
STAMP := build/stamps

.PHONY: help setup demo test up down status check fmt bench lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)/project $(STAMP)/emulator $(STAMP)/runtime $(STAMP)/layers  ## install what the commands below need (they do it by themselves)

$(BIN)/python:
	@bash infra/python.sh -m venv .venv

$(STAMP)/bootstrap: infra/bootstrap.txt | $(BIN)/python
	@mkdir -p $(STAMP)
	@$(BIN)/python -m pip install --quiet --require-hashes -r infra/bootstrap.txt
	@touch $@

$(STAMP)/project: requirements.txt pyproject.toml $(STAMP)/bootstrap
	@echo "Installing Marquee and its tools into .venv"
	@$(SYNC) --python $(BIN)/python -r requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

$(STAMP)/emulator: infra/emulator/requirements.txt $(shell find infra/emulator/plugin -type f -not -path '*/__pycache__/*' 2>/dev/null) $(STAMP)/bootstrap
	@echo "Installing LocalStack into build/envs/emulator"
	@test -x build/envs/emulator/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/emulator
	@$(SYNC) --python build/envs/emulator/bin/python -r infra/emulator/requirements.txt
	@$(UV) pip install --quiet --python build/envs/emulator/bin/python --no-deps --reinstall ./infra/emulator/plugin
	@touch $@

$(STAMP)/runtime: infra/emulator/runtime.txt $(STAMP)/bootstrap
	@echo "Installing the Lambda runtime into build/envs/runtime"
	@test -x build/envs/runtime/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/runtime
	@$(SYNC) --python build/envs/runtime/bin/python -r infra/emulator/runtime.txt
	@touch $@

lock: | $(STAMP)/bootstrap  ## resolve the hash-pinned requirements files anew
	@bash infra/lock.sh $(UV)
