# hotpatch: make alone lists the targets.
GO      ?= go
BIN     := bin/hotpatch
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help build install test lint fuzz demo debian cases corpus pairing bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, bin/hotpatch
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/hotpatch

install: build ## the program, its manual pages and bash completion, below PREFIX
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/sbin/hotpatch
	$(BIN) man $(DESTDIR)$(PREFIX)/share/man/man8
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BIN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/hotpatch

test: ## all tests, also those that patch live processes (as root)
	$(GO) test -p 1 $(TESTFLAGS) ./... # one package at a time: live targets need the processors

lint: ## gofumpt and staticcheck, as pinned in tools/
	@out=$$($(GO) tool -modfile=tools/go.mod gofumpt -l .); test -z "$$out" || { echo "gofumpt would change:"; echo "$$out"; exit 1; }
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

fuzz: ## every fuzz target for FUZZTIME, one after the other
	@set -e; grep -rHo '^func Fuzz[A-Za-z]*' --include='*_test.go' internal | while IFS=: read -r file f; do \
		$(GO) test -run NONE -fuzz "^$${f#func }$$" -fuzztime $(or $(FUZZTIME),1m) -fuzzminimizetime 20x ./$$(dirname $$file); done

demo: build ## patch a vulnerable server under load, and roll back
	$(GO) run ./examples/demo --tool $(BIN)

debian: build ## patch real updates of Debian in running programs; ONLY=a,b ROUNDS=100
	$(GO) run ./test/debian --tool $(BIN) $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

cases: ## patch programs in every place one may run in: docs/cases.md
	$(GO) run ./test/cases

corpus: build ## build, check and try the patches of all listed sources of Debian; ONLY=a,b SLICE=1/6 BUDGET=8m FRESH=1
	$(GO) run ./test/corpus --tool $(BIN) $(if $(ONLY),--only $(ONLY)) $(if $(SLICE),--slice $(SLICE)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(FRESH),--fresh)

pairing: ## hold the pairing of stripped builds against symbols; ONLY=a,b
	$(GO) run ./test/pairing $(if $(ONLY),--only $(ONLY))

bench: build ## pauses, build time, memory, cost of a call
	$(GO) run ./test/bench --tool $(BIN)

clean: ## remove what was built
	rm -rf bin
