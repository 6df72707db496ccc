SHELL := /bin/bash
GO ?= go
SINK ?=
ARGS ?=
FUZZTIME ?= 30s
TESTFLAGS ?=
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := help
.PHONY: help build demo test lint fuzz docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/outboxd
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/outboxd ./cmd/outboxd

demo: build ## see it work: SINK=pulsar, ARGS="--for 20s --rate 1000"
	bin/outboxd demo $(if $(SINK),--sink $(SINK)) $(ARGS)

test: ## install what is missing and run all tests with the race detector; TESTFLAGS="-run Name"
	@scripts/setup.sh
	$(GO) test -race -count=1 -p 2 -timeout 20m $(TESTFLAGS) ./...

lint: ## go vet, and golangci-lint with the import graph
	$(GO) vet ./...
	$(GO) run $(GOLANGCI) run ./...

fuzz: ## every fuzz target for FUZZTIME (30s)
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

docs: ## write docs/configuration.md anew from the code
	$(GO) generate ./...

clean: ## remove what the build made
	rm -rf bin
