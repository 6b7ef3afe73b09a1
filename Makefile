# Herd. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
HERD := $(CARGO_TARGET_DIR)/debug/herd
PIPELINE ?= examples/shop.yaml
RUN := .herd/run

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: build ## Run the example shop with generated shoppers; ARGS="--for 30s" ends by itself with a summary
	@$(HERD) up $(PIPELINE) --generate $(ARGS)

.PHONY: example-react example-shop
example-react: build examples/react/node_modules/.installed ## A React page with hooks and widgets, beside the example shop
	@HERD=$(HERD) node examples/run.mjs react
example-shop: build ## Static pages with the script, beside the example shop
	@HERD=$(HERD) node examples/run.mjs shop-site

examples/react/node_modules/.installed: examples/react/package.json examples/react/package-lock.json
	@echo "example: installing packages"
	@cd examples/react && npm install --no-save --silent --no-audit --no-fund # the lock file of links is never complete for `npm ci`
	@touch $@

.PHONY: test
test: ## Every check: format, lints, tests on real Kafka and PostgreSQL, the page in a browser
	@dev/test

.PHONY: unit
unit: ## Run the checks that need no services
	@dev/test unit

.PHONY: simulate
simulate: ## Faults by the thousand on a simulated bus: SEEDS=1000000 (FROM=, MINUTES=), SEED=7 alone, CHANGES=7 alone of those with changes of the spec, MUTANT=WatermarksFirst
	@SEEDS=$(SEEDS) FROM=$(FROM) MINUTES=$(MINUTES) SEED=$(SEED) CHANGES=$(CHANGES) MUTANT=$(MUTANT) cargo test --workspace --test simulation $(if $(CHANGES),when_the_spec_changes,under_faults) -- --nocapture

.PHONY: faults endurance
FAULT ?= all
endurance: MINUTES ?= 30
faults: ## Real faults on three brokers and PostgreSQL, an hour for all; FAULT=broker-kill for one, FAULT=help for names; TOGETHER=all in one run, ten minutes
	@dev/faults $(if $(TOGETHER),together $(TOGETHER),$(FAULT))
endurance: ## MINUTES=30 RATE=20000: a fault a minute; writes endurance.csv and endurance.svg. WORKER=FILE for another build
	@RATE=$(RATE) dev/faults endurance $(MINUTES)

.PHONY: build
build: install web ## Build the dashboard and the `herd` command
	@echo "herd: building (the first time takes about five minutes on two cores)"
	@cargo build --workspace --features herd-bus/simulated --bin herd # with the features of the tests: `make test` goes on from here

.PHONY: install
install: ## Install the Debian packages that are missing
	@dev/install build

.PHONY: web
web: web/dist/.built ## Build the dashboard and the tracker

web/node_modules/.installed: web/package.json web/package-lock.json
	@echo "dashboard and tracker: installing packages"
	@cd web && npm ci --silent --no-audit --no-fund
	@touch $@

web/dist/.built: web/node_modules/.installed $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*' -not -path 'web/tracker/dist/*' -not -path 'web/react/dist/*' -not -path 'web/e2e/*' 2>/dev/null)
	@echo "dashboard and tracker: building"
	@cd web && npm run --silent build
	@touch $@

.PHONY: fmt lint docs deny reference
fmt: ## Format the Rust code
	@cargo fmt --all
lint: ## Clippy, ESLint, shellcheck, ruff, unused dependencies
	@dev/test tools web web-check lint scripts unused
docs: ## Build the Rust documentation
	@cargo doc --workspace --no-deps --open
deny: ## Licences, sources and advisories of all dependencies
	@dev/test tools deny
reference: web/node_modules/.installed ## Write the generated reference, CRD, OpenAPI document and its types anew, and what the chart takes from them
	@UPDATE=1 cargo test --workspace reference
	@cd web && npm run --silent types
	@UPDATE=1 dev/chart/test

.PHONY: up down logs ps clean
up: build ## Start the pipeline of PIPELINE in the background
	@mkdir -p $(RUN)
	@if [ -f $(RUN)/pid ] && kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then echo "it runs already: make ps"; exit 0; fi; \
	setsid nohup $(HERD) up $(PIPELINE) $(ARGS) >$(RUN)/log 2>&1 </dev/null & echo $$! >$(RUN)/pid; \
	sleep 2; cat $(RUN)/log; kill -0 $$(cat $(RUN)/pid) 2>/dev/null || { echo "it did not start"; exit 1; }
down: ## Stop it
	@if [ -f $(RUN)/pid ]; then kill -TERM $$(cat $(RUN)/pid) 2>/dev/null; for i in $$(seq 100); do kill -0 $$(cat $(RUN)/pid) 2>/dev/null || break; sleep 0.1; done; rm -f $(RUN)/pid; else echo "it does not run"; fi
logs: ## Follow its log
	@tail -n 100 -f $(RUN)/log
ps: ## Show whether the background pipeline is running
	@if [ -f $(RUN)/pid ] && kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then ps -o pid,etime,rss,args -p $$(cat $(RUN)/pid); else echo "it does not run: make up"; fi
clean: down ## Stop it and remove its data
	@rm -rf .herd

.PHONY: cluster-demo cluster-demo-open cluster-demo-down kind kind-down images
cluster-demo: web ## The demo on a one-node Kubernetes of our own, without Docker (root, Debian 12)
	@dev/kubernetes/demo up
cluster-demo-open: ## Forward the dashboard of the demo to http://127.0.0.1:8081, until Ctrl-C
	@dev/kubernetes/demo open
cluster-demo-down: ## Remove it
	@dev/kubernetes/demo down
kind: ## A cluster in Docker with the operator and the demo; see docs/install.md
	@dev/kind/up
kind-down: ## Remove it
	@dev/kind/down
images: web ## Build the images without Docker, as OCI archives under target/images
	@dev/images

.PHONY: services-down
services-down: ## Stop the Kafka and PostgreSQL of the tests
	@dev/kafka/broker down; dev/postgres/server down
