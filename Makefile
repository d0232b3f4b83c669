# Everything a developer runs. `make help` lists it; nothing is installed outside .local/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENVS := .local/venv
UV := $(CURDIR)/$(VENVS)/tools/bin/uv
DEV := $(VENVS)/dev/bin
SAM := SAM_CLI_TELEMETRY=0 $(VENVS)/sam/bin/sam
# The machine's own certificate store, so that a company's proxy is trusted as far as everything else trusts it.
export UV_SYSTEM_CERTS := 1

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# ── environments, from hashed locks ──
$(VENVS)/tools/.made: requirements/tools.txt
	@echo "setting up: tools"
	@$(PYTHON) -c 'import sys; sys.exit("Espial needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv --clear $(VENVS)/tools
	@$(VENVS)/tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENVS)/%/.made: requirements/%.txt $(VENVS)/tools/.made
	@echo "setting up: $*"
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENVS)/$*
	@$(UV) pip install --quiet --python $(VENVS)/$*/bin/python --require-hashes -r $<
	@case $* in dev) $(install-espial) ;; esac
	@touch $@

# The `espial` command runs from the source tree. Not in the cloud's environment: functions must bring all they import.
define install-espial
	echo "$(CURDIR)/layers/core" > "$$($(VENVS)/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/espial.pth"; \
	printf '#!/bin/sh\nexec "%s" -m espial.cli "$$@"\n' "$(CURDIR)/$(VENVS)/$*/bin/python" > $(VENVS)/$*/bin/espial; chmod +x $(VENVS)/$*/bin/espial
endef

setup: $(VENVS)/dev/.made $(VENVS)/sam/.made $(VENVS)/cloud/.made ## make the environments under .local/
lock: $(VENVS)/tools/.made ## renew the hashed locks
	UV=$(UV) requirements/compile.sh

# ── build ──
BUILD := .local/build
SOURCES := template.yaml $(shell find layers functions -type f -not -path '*/__pycache__/*')
# For this machine: the functions run under the local cloud's own interpreter.
$(BUILD)/template.yaml: $(SOURCES) $(VENVS)/sam/.made $(VENVS)/cloud/.made
	@echo "building the stack"
	@mkdir -p .local
	@UV=$(UV) TARGET=$$($(VENVS)/cloud/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') PLATFORM= \
		COMPILER=$(CURDIR)/$(VENVS)/cloud/bin/python $(SAM) build --build-dir $(BUILD) >.local/build.log 2>&1 || { cat .local/build.log; exit 1; }
	@touch $@

build: $(BUILD)/template.yaml ## build the stack for this machine
build-aws: setup ## build the stack for AWS (python3.13 on arm64): what `sam deploy` sends
	UV=$(UV) $(if $(COMPILER),COMPILER=$(COMPILER)) $(SAM) build
	@if [ -z "$$(find .aws-sam/build/EdgeLayer -name '*.pyc' -print -quit)" ]; then \
		printf '\n%s\n%s\n' "WARNING: there is no python3.13 here that runs, so this build has no bytecode: it works, and every cold start" \
		"takes about twice as long. Install Python 3.13, or name one: make build-aws COMPILER=/path/to/python3.13" >&2; fi

# For Lambda's own image, which `sam local invoke` runs: python3.13 on this machine's architecture.
RUNTIME := .local/build-runtime
$(RUNTIME)/template.yaml: $(SOURCES) $(VENVS)/sam/.made $(VENVS)/tools/.made
	@echo "building the stack for Lambda's runtime"
	@mkdir -p .local
	@UV=$(UV) TARGET=3.13 PLATFORM=$$(uname -m)-unknown-linux-gnu SDK=1 $(SAM) build --build-dir $(RUNTIME) >.local/build.log 2>&1 || { cat .local/build.log; exit 1; }
	@touch $@

# ── run ──
demo: setup build ## the main job on the local cloud, from webhook to email
	@$(DEV)/python -m local.demo
up: setup build ## start a stack to play with; prints its URLs
	@$(DEV)/python -m local.stack up
down: ## end what `make up` started
	@if [ -x $(DEV)/python ]; then $(DEV)/python -m local.stack down; fi
logs: ## what the functions of `make up` log
	@$(DEV)/python -m local.stack logs
# make invoke FUNCTION=receive_webhook EVENT=events/invoke/receive_webhook/<case>.json   (needs a Docker engine)
SAM_LOCAL_FLAGS ?=
invoke: setup build $(RUNTIME)/template.yaml ## run one function in Lambda's image: FUNCTION=… EVENT=…
	@$(DEV)/python -m local.invoke $(FUNCTION) $(EVENT) $(SAM_LOCAL_FLAGS)
invoke-all: setup build $(RUNTIME)/template.yaml ## every function on every event of events/invoke/
	@$(DEV)/python -m local.invoke all $(SAM_LOCAL_FLAGS)
samples: setup ## write events/invoke/ anew from the sample library
	@$(DEV)/python -m local.invoke_events

conformance: setup build ## every platform's samples against the whole stack: PLATFORM=… for one
	@$(DEV)/python -m local.conformance $(PLATFORM)

docs: setup ## write the reference pages and schemas anew from the code
	@$(DEV)/python -m local.docs

# ── check ──
test: setup build chromium ## every test
	$(DEV)/pytest -q $(PYTEST)
test-browser: setup chromium ## the snippet for web pages, in Chromium
	$(DEV)/pytest -q tests/browser
# Installed where we may and apt has it; elsewhere the tests skip and say so, in CI they fail.
chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing Chromium"; apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; fi
shop: setup ## the demo shop's pages on http://127.0.0.1:8000/shop/ (the stack: make up)
	@$(DEV)/python -m http.server --bind 127.0.0.1 --directory web 8000
fuzz: setup ## a million hostile deliveries of every platform: INPUTS=… PLATFORM=…
	$(DEV)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) $(PLATFORM)
lint: setup ## format, lint, import contracts, template
	$(DEV)/ruff format --check . && $(DEV)/ruff check .
	$(DEV)/lint-imports --no-logo
	$(DEV)/cfn-lint template.yaml
types: setup ## mypy, strict
	$(DEV)/mypy layers/core/espial local tests
bench: setup build ## every benchmark, or BENCH="normalise worker"
	$(DEV)/python -m tests.perf $(BENCH)
bench-export: BENCH := export export_parquet
bench-export: bench ## the benchmarks of export files
pr: lint types test ## everything before a merge

.PHONY: help setup lock build build-aws demo up down logs invoke invoke-all samples conformance docs bench bench-export test test-browser chromium shop fuzz lint types pr
