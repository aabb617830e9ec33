# The targets a user or contributor needs; `make help` lists them.
export CGO_ENABLED := 0
GO ?= go
BIN := bin

.PHONY: help setup build demo test test-unit test-nested lint fuzz bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what builds, tests and the demo need (Debian packages, when root)
	@scripts/setup

build: ## build polyvisor and its two helpers into bin/
	@mkdir -p $(BIN)
	@$(GO) build -trimpath -ldflags='-s -w' -o $(BIN)/ ./cmd/polyvisor ./cmd/polyvisor-vmm ./cmd/polyvisor-usernet

demo: setup build ## boot a stock Debian kernel in a virtual machine of ours
	@$(GO) run ./internal/demo

test: setup build ## run everything this machine can run
	@scripts/test

test-unit: ## run the tests that need no other machine, with the race detector
	@CGO_ENABLED=1 $(GO) test -race ./...

test-nested: setup build ## run the engine's tests with real Linux guests in the nested machine
	@scripts/test-nested

lint: ## gofmt, and vet for every platform
	@scripts/lint

fuzz: ## run each fuzz target for FUZZTIME (default 30s)
	@scripts/fuzz

bench: setup build ## measure, as ratios against references in the same run
	@scripts/bench

clean: ## remove what the other targets built
	@rm -rf $(BIN) build
