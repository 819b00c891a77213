# Everything that a developer or CI runs; `make help` lists it. `make demo` builds only what the walkthrough uses. `make test` on a clean
# clone installs its needs (in .build/bin, which git ignores, and from Debian when run as root) and then runs every check.

# The steps share one Cargo target folder and one Go cache: side by side they would only wait for each other.
.NOTPARALLEL:
.DELETE_ON_ERROR:

BIN := .build/bin
GO_TOOLS := conformance crane regctl regsync oras registry helm kubeconform dashboard
NODE_TOOLS := containerd containerd-shim-runc-v2 ctr dns pause
MISSING_NODE_TOOLS := $(filter-out $(notdir $(wildcard $(addprefix $(BIN)/,$(NODE_TOOLS)))),$(NODE_TOOLS))
MISSING_TOOLS := $(filter-out $(notdir $(wildcard $(addprefix $(BIN)/,$(GO_TOOLS)))),$(GO_TOOLS))
KUBERNETES := v1.37.2
NODE_STORIES := $(addprefix stories::,consent:: dead_watch:: hints:: kinds:: progress:: quiet:: referrers:: scale:: tag_filters:: troubles:: \
	node:: node_latency:: node_leaders:: node_losses:: node_pending:: node_rights::)
CARGO_DENY := 0.20.2
IS_ROOT := $(filter 0,$(shell id -u))
# Registries of the demo: Debian's as root on Debian, else one that is installed, else one that Go builds.
DEMO_NEEDS := $(if $(and $(IS_ROOT),$(shell command -v apt-get 2>/dev/null)),debian-demo,$(if $(shell command -v docker-registry 2>/dev/null),,$(BIN)/registry))
# A node takes root and Linux, and cannot be kept.
NODE_DEMO_NEEDS := $(if $(and $(IS_ROOT),$(filter Linux,$(shell uname -s)),$(if $(filter 1,$(KEEP)),,node)),debian-demo-cluster $(BIN)/.node $(BIN)/helm)

# Without these the API server calls itself v0.0.0 and clients refuse to speak to it.
KUBERNETES_FLAGS := -s -w \
	-X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
	-X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=37 \
	-X k8s.io/client-go/pkg/version.gitVersion=$(KUBERNETES)

.PHONY: again help tools go-tools debian debian-demo debian-demo-cluster build generate pre-commit pages lint deny advisories \
	test test-host test-node bench scale micro fuzz simulate mutants soak tenants crashes prove figures demo demo-cluster clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

tools: go-tools debian ## Build or install everything that the tests start besides our own binaries.

go-tools: $(BIN)/control-plane $(BIN)/.node $(BIN)/.tools ## Build Kubernetes, containerd, crane, helm and the others with Go.

debian: ## Install Debian packages as root: a second registry implementation and a second copying tool.
	@sh tests/tools/debian.sh

debian-demo debian-demo-cluster:
	@sh tests/tools/debian.sh $(@:debian-%=%)

# Built under another name and moved, so that an interrupted build never leaves half a binary behind.
$(BIN)/control-plane: tests/cluster/go.mod tests/cluster/go.sum tests/cluster/main.go
	@mkdir -p $(BIN)
	@echo "building the test control plane: about 12 minutes on two cores the first time, seconds with Go's cache"
	cd tests/cluster && CGO_ENABLED=0 go build -trimpath -ldflags "$(KUBERNETES_FLAGS)" -o ../../$@.new .
	mv $@.new $@

$(BIN)/.node: tests/node/go.mod tests/node/go.sum $(wildcard tests/node/*/main.go) $(if $(MISSING_NODE_TOOLS),again)
	@mkdir -p $(BIN)
	@echo "building what a test node runs: about 4 minutes on two cores the first time, seconds with Go's cache"
	cd tests/node && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -tags "no_btrfs no_devmapper no_zfs" -o ../../$(BIN)/ tool ./dns ./pause
	@cd $(BIN) && for tool in $(NODE_TOOLS); do test -x $$tool || { echo "the build left no $$tool"; exit 1; }; done
	touch $@

$(BIN)/.tools: tests/tools/go.mod tests/tools/go.sum tests/tools/dashboard/main.go $(if $(MISSING_TOOLS),again)
	@mkdir -p $(BIN)
	@echo "building the test tools: about 5 minutes on two cores the first time, seconds with Go's cache"
	cd tests/tools && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../$(BIN)/ tool ./dashboard
	@cd $(BIN) && for tool in $(GO_TOOLS); do test -x $$tool || { echo "the build left no $$tool"; exit 1; }; done
	touch $@

# One tool alone, for the demos: all of them take minutes.
$(BIN)/registry: PACKAGE := github.com/distribution/distribution/v3/cmd/registry
$(BIN)/helm: PACKAGE := helm.sh/helm/v4/cmd/helm
$(BIN)/registry $(BIN)/helm: tests/tools/go.mod tests/tools/go.sum
	@mkdir -p $(BIN)
	cd tests/tools && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../$@.new $(PACKAGE)
	mv $@.new $@

build: ## Build the program, for development.
	cargo build --locked

generate: ## Write crds/ and the page of the metrics from the Rust types.
	cargo run --locked -- crds --output crds
	GENERATE=1 cargo test --locked --quiet --lib metrics::

pre-commit: pages ## Check before a commit: formatting, pages, versions, clippy on the library, unit tests.
	cargo fmt --all --check
	cargo clippy --locked --lib -- -D warnings
	cargo test --locked --lib --quiet

pages: ## Check the pages and that crate, chart and image have one version.
	.ci/pages
	.ci/version

lint: pages ## Check pages, formatting, lock files, clippy and the documentation build, warnings being errors.
	cargo fmt --all --check
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

deny: .build/cargo-deny-$(CARGO_DENY)/bin/cargo-deny ## Check crates, licences and sources.
	$< check bans licenses sources

# A target of its own: it fetches the database of advisories, and its result changes without a commit.
advisories: .build/cargo-deny-$(CARGO_DENY)/bin/cargo-deny ## Check the lock file against the RustSec advisories.
	$< check advisories

.build/cargo-deny-$(CARGO_DENY)/bin/cargo-deny:
	cargo install --locked --root .build/cargo-deny-$(CARGO_DENY) --version $(CARGO_DENY) cargo-deny

test: test-host test-node ## Run every check and every test, both demos included.

# Steps that fail in seconds go first, and those that take minutes on a fresh machine go last.
# Tests that count or measure, or change definitions, run one after another: others beside them would be measured, or disturbed.
ALONE := measured:: stories::tenants:: stories::two_destinations:: stories::hints::fifty_pushes stories::undecodable:: \
	stories::leaders::a_follower

test-host: debian lint deny go-tools ## Run the checks and tests that need no node.
	cargo test --locked -p transship-simulation replication::simulation
	cargo test --locked -- --test-threads=8 --skip stories::node $(addprefix --skip ,$(ALONE))
	cargo test --locked --test it -- --test-threads=1 $(ALONE)
	tests/demo.sh
	DEMO_REGISTRY=$(BIN)/registry tests/demo.sh

# The same stories again, and more, with the chart, copy Jobs and pods, as root on Linux. TRANSSHIP_COLD_PUSHES=50 measures more
# pushes by new pods than 10, TRANSSHIP_AWAY=300 keeps the operator away for longer, TRANSSHIP_TAGS=20 counts 1,000 tags. Pushes are
# measured before other stories take the node, and rights are compared after all of them.
test-node: debian go-tools ## Run the tests that take a real node; needs root and Linux.
	cargo test --locked --no-run
	tests/node/dockerfile.sh target/debug/transship
	tests/demo-cluster.sh
	tests/node/run.sh target/debug/transship sh -ec '\
	  cargo test --locked --test it -- --test-threads=1 fifty_pushes; \
	  cargo test --locked --test it -- --test-threads=4 --skip fifty_pushes $(NODE_STORIES); \
	  cargo test --locked --test it -- --test-threads=1 stories::node_alone::'

# BENCH_FIXTURES="A B" and BENCH_TOOLS="transship crane" choose, BENCH_REPETITIONS=1 is quick, BENCH_FORCE=1 goes on although the machine
# is busy. DOCS=1 writes docs/performance.md and docs/performance-tables.md.
bench: debian $(BIN)/.tools $(BIN)/control-plane ## Compare the program with other tools: time, requests, bytes, memory.
	cargo bench --locked --bench peers -- $(if $(DOCS),--write-docs)

SOAK_SECONDS ?= 1200

soak: go-tools ## Fail everything now and then for SOAK_SECONDS (1,200), and look for what breaks.
	TRANSSHIP_SOAK_SECONDS=$(SOAK_SECONDS) cargo test --locked --test it -- --nocapture stories::soak::

tenants: go-tools ## Measure a tenant's push while another one takes all that it can.
	TRANSSHIP_TENANTS=full cargo test --locked --test it -- --nocapture --test-threads=1 stories::tenants::

crashes: go-tools ## Kill the operator at every write, before and after it.
	TRANSSHIP_CRASH_STEP=1 cargo test --locked --test it -- --nocapture --test-threads=1 stories::crashes::

# All sizes take an hour; SIZES=images:100x100x1 takes a minute.
SIZES ?= images:1000x100x1 images:1000x100x3 images:20x5000x1 images:1x100000x1 configurations:10000x1 configurations:5000x1000

scale: $(BIN)/control-plane ## Measure an operator with SIZES of images and configurations, such as images:1000x100x3.
	cargo bench --locked --bench scale -- $(SIZES)

SCHEDULES ?= 1000000

simulate: ## Drive the core through SCHEDULES (1,000,000) random schedules; TRANSSHIP_SEED=N replays one.
	TRANSSHIP_SCHEDULES=$(SCHEDULES) cargo test --release --locked -p transship-simulation replication::simulation

# A build for each fault: a minute or two each on two cores. MUTANTS="a2-late-answer windows-ignored" runs some of them, and
# MUTANT_SCHEDULES=N gives each more or fewer schedules than 4,000.
mutants: ## Show that the simulation notices each fault of tests/mutants.
	tests/mutants/run.sh $(MUTANTS)

CASES ?= 10000000

prove: ## Compare the evaluator of policies with the documentation in CASES (10,000,000) random cases; TRANSSHIP_SEED=N replays them.
	TRANSSHIP_CASES=$(CASES) cargo test --release --locked --lib policy::prove -- --nocapture

figures: ## Print the size and the shape of the code; DIR="FOLDER ..." compares checkouts.
	@FIGURES="$(abspath $(DIR))" cargo test --locked --quiet --test it architecture::figures -- --nocapture

micro: ## Measure single functions.
	cargo bench --locked --bench micro

# The flags of cargo-fuzz without the address sanitizer: the project has no unsafe code, and so a stable toolchain is enough.
FUZZ_SECONDS ?= 30
FUZZ_HOST := $(shell rustc --print host-tuple)
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

fuzz: ## Fuzz each parser of registries' answers for FUZZ_SECONDS (30).
	cd fuzz && cargo run --locked --quiet --bin seeds corpus
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --release --target $(FUZZ_HOST) $(addprefix --bin ,$(FUZZ_TARGETS))
	@cd fuzz && mkdir -p artifacts && for target in $(FUZZ_TARGETS); do \
	  target/$(FUZZ_HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=5 -rss_limit_mb=1024 \
	    -artifact_prefix=artifacts/$$target- corpus/$$target > artifacts/$$target.log 2>&1 \
	    || { tail -40 artifacts/$$target.log; exit 1; }; \
	  echo "$$target: $$(tail -1 artifacts/$$target.log)"; \
	done

# The demos run what `make build` and the tests build too: without optimization, and in less than half the time of a release.
demo: $(DEMO_NEEDS) ## Show the walkthrough without a cluster: `serve` between three registries.
	cargo build --locked --bin transship
	tests/demo.sh

demo-cluster: $(NODE_DEMO_NEEDS) $(BIN)/control-plane $(BIN)/registry ## Show the operator: on a real node as root on Linux, else under a real API server.
	cargo build --locked --bin transship
	tests/demo-cluster.sh

clean: ## Remove everything that was built, the tools included.
	rm -rf .build target
