# `make help` prints the targets with what stands behind their "##".

GO          ?= go
ENGINE      ?= docker
FUZZTIME    ?= 10s
BENCH       ?=
SOAK        ?= 10m
ROUNDS      ?= 200
REQUIRE     ?=
STORE       ?=
CA_BUNDLE   ?= /etc/ssl/certs/ca-certificates.crt
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.6.1

# The packages of tests that measure times: one at a time, and the others two at a time.
ALONE := /(gc|hostile|limits)$$

# The first tag leaves out gRPC's way to Google Cloud Storage, 13 MB that are not used.
TAGS     ?= disable_grpc_modules
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -tags "$(TAGS)" -ldflags "-s -w -X main.version=$(VERSION)"
COMPILER := $(shell command -v gcc)
RACE     := $(if $(COMPILER),-race)
MODULES  := . tests

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build cross run test e2e bench soak suite fuzz lint format imports vet cover rootfs image clean no-race

help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Build bin/berth, a static binary
	$(BUILD) -o bin/berth ./cmd/berth

cross: ## Build for linux and darwin, amd64 and arm64, into bin
	@for target in linux-amd64 linux-arm64 darwin-amd64 darwin-arm64; do \
		echo "bin/berth-$$target"; \
		GOOS=$${target%-*} GOARCH=$${target#*-} $(BUILD) -o bin/berth-$$target ./cmd/berth; \
	done

run: build ## Build, and serve 127.0.0.1:5000 with the storage in ./data
	REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=./data bin/berth serve config.example.yml

test: format vet no-race ## Run all tests that need nothing but Go (with the race detector where gcc is)
	CGO_ENABLED=$(if $(COMPILER),1,0) $(GO) test $(RACE) ./storage/... ./... # what takes longest first
	cd tests && $(GO) test -short -count=1 . ./conformance

no-race:
	$(if $(COMPILER),,@echo "WITHOUT THE RACE DETECTOR: there is no gcc here")

e2e: ## Try the real clients, the specification, kills and faults (REQUIRE=1: a missing tool fails)
	@cd tests; export REQUIRE=$(REQUIRE); failed=; \
		$(GO) test -count=1 -p 1 -v -timeout 40m $$($(GO) list ./... | grep -E "$(ALONE)") || failed=yes; \
		$(GO) test -count=1 -p 2 -v -timeout 40m $$($(GO) list ./... | grep -vE "$(ALONE)") || failed=yes; \
		test -z "$$failed"

bench: build ## Compare with a least possible server and with docker-registry (BENCH="-quick -run push")
	cd tests && $(GO) run ./bench $(BENCH)

soak: ## Storm the registry, also while it collects, and replicas of it, for SOAK=10m, its faults ROUNDS=200 times, a blob of 6 GiB, S3 by MinIO and Ceph
	cd tests && $(GO) test -count=1 -v -timeout 0 ./crash -storm $(SOAK)
	cd tests && $(GO) test -count=1 -v -timeout 0 ./gc -storm $(SOAK) -kills $(ROUNDS)
	cd tests && ROUNDS=$(ROUNDS) $(GO) test -count=1 -v -timeout 0 ./faults
	cd tests && $(GO) test -count=1 -v -timeout 0 ./replicas -storm $(SOAK) -every -large 6442450944
	cd tests && $(GO) test -count=1 -v -timeout 0 ./buckets -second

suite: ## Hold the service that REGISTRY_STORAGE_* variables configure to the specification (STORE=s3, gcs or azure)
	@[[ "$(STORE)" =~ ^(s3|gcs|azure)$$ ]] || { echo "say which driver: make suite STORE=s3, gcs or azure"; exit 1; }
	cd tests && $(GO) test -count=1 -v -timeout 2h ./buckets -run 'TestSuite|TestPartsHaveRevs|TestSignedURL' -store $(STORE)

fuzz: ## Run each fuzz target for FUZZTIME=10s
	@for module in $(MODULES); do cd $(CURDIR)/$$module; \
		$(GO) test -list '^Fuzz' ./... | \
		awk '/^Fuzz/ { t[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print t[i], $$2; n = 0 }' | \
		while read -r target package; do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package || exit 1; \
		done; \
	done

lint: format vet imports ## Check the format, the import rules, and what vet and staticcheck find
	@for module in $(MODULES); do (cd $$module && echo "staticcheck $$module" && $(GO) run $(STATICCHECK) ./...); done

format:
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		test -z "$$unformatted" || { echo "not as gofmt has it:"; echo "$$unformatted"; exit 1; }

vet:
	@for module in $(MODULES); do (cd $$module && $(GO) vet ./...); done

imports:
	cd tests && $(GO) test -count=1 .

cover: ## Print how much of each package its tests reach
	$(GO) test -cover ./...

rootfs: build
	rm -rf bin/rootfs
	mkdir -p bin/rootfs/etc/docker/registry bin/rootfs/etc/ssl/certs bin/rootfs/var/lib/registry
	cp bin/berth bin/rootfs/berth
	cp docs/packaging/config.yml bin/rootfs/etc/docker/registry/config.yml
	cp $(CA_BUNDLE) bin/rootfs/etc/ssl/certs/ca-certificates.crt

image: rootfs ## Build the container image berth (ENGINE=docker or podman)
	$(ENGINE) build -t berth -f docs/packaging/Dockerfile bin/rootfs

clean: ## Remove what was built; ./data stays
	rm -rf bin tests/bin
