# make help lists the targets.

GO         ?= go
SINK       ?=
ARGS       ?=
LINES      ?=
TESTFLAGS  ?=
PARALLEL   ?= 2
FUZZTIME   ?= 30s
FOR        ?=
SEED       ?=
FAULTS     ?=
SHARDS     ?=
ONLY       ?=
SEEDS      ?=
RATE       ?=
SIZE       ?=
TOPICS     ?=
KEYS       ?=
# With the race detector a process sleeps for a second at its end, unless GORACE says less.
GORACE     ?= atexit_sleep_ms=20
export FOR ONLY SEEDS GORACE
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINTER     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile bin/outboxd
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/outboxd ./cmd/outboxd

.PHONY: demo
demo: build ## show it at work; SINK=pulsar for Pulsar, ARGS='--for 20s' for more flags
	bin/outboxd demo $(if $(SINK),--sink $(SINK)) $(ARGS)

.PHONY: setup
setup: ## install the servers and tools that tests and lint use, where this machine allows it
	scripts/setup.sh

# Without -pgo=off all that cmd/outboxd imports is compiled once more for its tests, by its profile. lint runs go vet.
.PHONY: test
test: setup ## run all tests on real servers; TESTFLAGS='-run NAME' for more flags
	$(GO) test -race -pgo=off -vet=off -count=1 -timeout 20m -p $(PARALLEL) $(TESTFLAGS) ./...
	$(GO) -C docker/check test -count=1 ./...

.PHONY: matrix
matrix: setup ## run the suite on PostgreSQL 12 to 18, on two Redis, Valkey and two Pulsar; LINES='postgres-12 valkey-9' for some
	scripts/matrix.sh $(LINES)

.PHONY: edges
edges: ## run what touches PostgreSQL on the oldest and the newest one
	scripts/matrix.sh edges

.PHONY: torture
torture: setup ## a storm of faults on real servers; FOR=10m SEED=7 SINK=redis|pulsar FAULTS=name,pattern* SHARDS=3 TENANTS=8 RATE=400; the report is in torture-report
	$(GO) test ./internal/torture -v -count=1 -timeout 0 -run TestStorm -torture.dir $(CURDIR)/torture-report $(if $(FOR),-torture.for $(FOR)) \
		$(if $(SEED),-torture.seed $(SEED)) $(if $(SINK),-torture.sink $(SINK)) $(if $(FAULTS),-torture.faults '$(FAULTS)') $(if $(SHARDS),-torture.shards $(SHARDS)) $(if $(TENANTS),-torture.tenants $(TENANTS)) $(if $(RATE),-torture.rate $(RATE))

.PHONY: torture-proof
torture-proof: setup ## show that the torture can fail: with each protection switched off it must; ONLY=name FOR=90s SEEDS='1 2 3' SINK=redis|pulsar
	scripts/torture-proof.sh

.PHONY: soak
soak: setup ## a steady rate without faults, FOR=1h SINK=redis|pulsar RATE=400; memory, goroutines, connections and retained log must stay flat
	$(GO) test ./internal/torture -tags soak -v -count=1 -timeout 0 -run TestSoak -torture.dir $(CURDIR)/torture-report -torture.for $(or $(FOR),1h) \
		$(if $(SINK),-torture.sink $(SINK)) $(if $(RATE),-torture.rate $(RATE))

.PHONY: resources
resources: setup ## what large and slow things take of memory: a 5 GB transaction, 10,000 destinations, a byte a second, 100,000 keys; SIZE=5e9 TOPICS=500 KEYS=100000 ONLY=Keys
	@names=$$(sed -n 's/^func TestResources\([A-Za-z0-9]*\)(.*/\1/p' internal/torture/resources_*_test.go); \
		echo "$$names" | grep -Eq '$(ONLY)' || { echo "make resources: ONLY=$(ONLY) names no test; there are" $$names >&2; exit 2; }
	$(GO) test ./internal/torture -tags resources -v -count=1 -timeout 0 -run '^TestResources.*$(ONLY)' -torture.dir $(CURDIR)/torture-report \
		$(if $(SIZE),-resources.bytes $(SIZE)) $(if $(TOPICS),-resources.topics $(TOPICS)) $(if $(KEYS),-resources.keys $(KEYS))

.PHONY: simulate
simulate: ## play SEEDS=100000 histories of the core on models of the servers, from SEED=1
	$(GO) test -count=1 -timeout 2h -run '^TestSimulation' ./relay -seeds $(or $(SEEDS),100000) -seed $(or $(SEED),1)

.PHONY: bench
bench: build ## measure outboxd beside what others use, into docs/benchmarks.md; ROWS=300000, SINKS, SIZES, DEBEZIUM=DIR: scripts/bench.sh
	scripts/bench.sh

.PHONY: profile
profile: ## write cmd/outboxd/default.pgo anew, by which go build optimizes outboxd
	scripts/profile.sh

.PHONY: lint
lint: ## check the code, the import graph, and what is in docker/
	$(GO) vet ./...
	$(GO) run $(LINTER) run
	$(GO) -C docker/check vet ./...
	docker/lint.sh

.PHONY: vuln
vuln: ## look for known vulnerabilities in what the program calls
	scripts/vuln.sh

# One fuzz target at a time, as go test demands.
.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME=30s
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file" | while read -r target; do \
			echo "$$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

.PHONY: cover
cover: ## run all tests and show which lines they miss (cover.html)
	$(GO) test -pgo=off -count=1 -timeout 20m -p $(PARALLEL) -coverpkg=./... -coverprofile=cover.out ./...
	$(GO) tool cover -html=cover.out -o cover.html

.PHONY: docs
docs: ## write the configuration reference anew from the code
	$(GO) generate ./...

.PHONY: clean
clean: ## remove what make made
	rm -rf bin bench-results matrix-logs torture-report cover.out cover.html
