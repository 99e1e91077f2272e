# Marquee: `make demo` shows it, `make test` tests it; both set up what they need first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
UV := $(BIN)/uv
SYNC = $(UV) pip install --quiet --require-hashes
STAMP := build/stamps

.PHONY: help setup demo test soak up down status check fmt spark spark-pack bench bench-train bench-ingest bench-serve lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)/project $(STAMP)/emulator $(STAMP)/runtime $(STAMP)/mlflow $(STAMP)/layers  ## install what the commands below need (they do it by themselves)

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

$(STAMP)/emulator: infra/emulator/requirements.txt $(shell find infra/emulator/plugin -type f -not -path '*/__pycache__/*' 2>/dev/null) $(STAMP)/project
	@echo "Installing LocalStack into build/envs/emulator"
	@test -x build/envs/emulator/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/emulator
	@$(SYNC) --python build/envs/emulator/bin/python -r infra/emulator/requirements.txt
	@$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python -o build/plugin infra/emulator/plugin
	@$(UV) pip install --quiet --python build/envs/emulator/bin/python --no-deps --reinstall build/plugin/*.whl
	@rm -rf build/envs/emulator/files && mkdir -p build/envs/emulator/files/usr/lib/localstack
	@FILESYSTEM_ROOT=build/envs/emulator/files OVERRIDE_IN_DOCKER=0 build/envs/emulator/bin/python -m localstack.aws.spec
	@touch $@

$(STAMP)/runtime: infra/emulator/runtime.txt $(STAMP)/bootstrap
	@echo "Installing the Lambda runtime into build/envs/runtime"
	@test -x build/envs/runtime/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/runtime
	@$(SYNC) --python build/envs/runtime/bin/python -r infra/emulator/runtime.txt
	@touch $@

# --no-deps: what infra/lock.sh leaves out of MLflow's own requirements stays out.
$(STAMP)/mlflow: infra/mlflow/requirements.txt $(STAMP)/bootstrap
	@echo "Installing MLflow into build/envs/mlflow"
	@test -x build/envs/mlflow/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/mlflow
	@$(SYNC) --no-deps --python build/envs/mlflow/bin/python -r infra/mlflow/requirements.txt
	@touch $@

# Some 450 MB, and of no use without Java; so only tests on a machine that has it, and whoever asks, bring it.
$(STAMP)/spark: infra/spark/requirements.txt $(STAMP)/bootstrap
	@echo "Installing Spark into build/envs/spark"
	@test -x build/envs/spark/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/spark
	@$(SYNC) --python build/envs/spark/bin/python -r infra/spark/requirements.txt
	@touch $@

spark: $(STAMP)/project $(STAMP)/spark  ## what `marquee train --engine spark` needs (and Java 17)

spark-pack: $(STAMP)/project  ## the archive that EMR Serverless runs our training in
	@bash infra/spark/pack.sh $(UV) $(BIN)/python

demo: setup  ## the main job, end to end, on this machine (RATINGS=path replays MovieLens)
	@$(BIN)/marquee demo $(if $(RATINGS),--ratings "$(RATINGS)")

test: setup check $(if $(shell command -v java),$(STAMP)/spark)  ## lint, types, import contracts, then every test
	@OPENBLAS_NUM_THREADS=1 $(BIN)/pytest tests/unit -q -n auto  # a process per core, so one BLAS thread in each
	@$(BIN)/pytest tests/integration tests/e2e -q -m "not soak" -n 2 --dist loadfile  # a stack in each of two processes

soak: setup  ## the full-length runs: drains killed 50 times and more, backlogs beyond memory, 30 million ratings
	@$(BIN)/pytest tests -q -m soak

check: $(STAMP)/project  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fmt: $(STAMP)/project  ## format and mend what ruff can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

up: setup  ## start LocalStack and Kafka (KAFKA=apache for Apache Kafka)
	@$(BIN)/marquee up

down:  ## end every process of the stack
	@if [ -x $(BIN)/marquee ]; then $(BIN)/marquee down; fi

status: $(STAMP)/project  ## URL, versions, models, weights, lag
	@$(BIN)/marquee status

bench: setup  ## benchmarks, written to build/
	@$(BIN)/python -m tests.benchmarks

$(STAMP)/bench: tests/benchmarks/requirements.txt $(STAMP)/bootstrap
	@echo "Installing the peers into build/envs/bench"
	@test -x build/envs/bench/bin/python || $(UV) venv --quiet --python $(BIN)/python build/envs/bench
	@$(SYNC) --python build/envs/bench/bin/python -r tests/benchmarks/requirements.txt
	@touch $@

bench-train: $(STAMP)/bench  ## our models beside Surprise, implicit, EASE^R (DATA="MovieLens folders")
	@test -n "$(DATA)" || { echo 'say which data: make bench-train DATA="path/to/ml-latest-small"'; exit 2; }
	@PYTHONPATH=layers/core/python build/envs/bench/bin/python -m tests.benchmarks.peers $(DATA)

bench-ingest: setup $(STAMP)/bench  ## the drain beside a bare consumer and the seed's way, on Apache Kafka
	@$(BIN)/python -m tests.benchmarks.ingest

bench-serve: setup $(STAMP)/bench  ## serving beside implicit and the seed's way (ONLY="handler cold shards live")
	@PYTHONPATH=infra/emulator/plugin $(BIN)/python -m tests.benchmarks.serve $(foreach part,$(ONLY),--only $(part))

clean: down  ## remove everything `make` made
	rm -rf .venv build functions/*/.chalice/config.json functions/*/.chalice/deployed functions/*/.chalice/deployments
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP)/layers: $(shell find layers -type f -not -path '*/__pycache__/*' 2>/dev/null) $(wildcard infra/deploy/*.py) $(STAMP)/project
	@$(BIN)/marquee layers
	@touch $@

lock: | $(STAMP)/bootstrap  ## resolve the hash-pinned requirements files anew
	@bash infra/lock.sh $(UV)
