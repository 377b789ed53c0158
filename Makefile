# make demo, make test: each installs what it needs, builds and runs. make help lists the rest.
SHELL       := /bin/bash
PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
SUDO        := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEBIAN      := build-essential pkg-config ninja-build python3-dev python3-venv libdpdk-dev dpdk dpdk-dev \
               libpcap-dev iproute2 iputils-ping iputils-arping iperf3 ethtool procps kmod tcpdump \
               clang libclang-rt-14-dev clang-format
# Peers that the benchmarks measure beside us; without them they run all the same, and say so.
PEERS       := openvswitch-switch-dpdk
export PATH := $(CURDIR)/$(BIN):$(PATH)
# By its full name, so that rebuilding on import finds it whatever PATH is then.
export CYTHON := $(CURDIR)/$(BIN)/cython
BUILD_NEEDS := meson-python>=0.17 meson>=1.3 ninja cython>=3.2.2 numpy>=2.0

.PHONY: help setup build test lint format demo demo-clean storm bench bench-check bench-record bench-docs clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.stamp-debian: Makefile
	@missing=$$(for p in $(DEBIAN); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "setup: installing Debian packages:" $$missing; \
	  $(SUDO) apt-get -qq update && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get -qq install -y --no-install-recommends $$missing >/dev/null || \
	  { echo "error: could not install:" $$missing; echo "fix:   run as root or with sudo, on Debian 12, with a package registry in reach"; exit 1; }; fi
	@touch $@

.stamp-venv: pyproject.toml .stamp-debian
	@echo "setup: Python environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip -qq --disable-pip-version-check install $(foreach p,$(BUILD_NEEDS),'$(p)')
	@echo "setup: building"
	@$(BIN)/pip -qq --disable-pip-version-check install --no-build-isolation --editable '.[test,bench]'
	@touch $@

setup: .stamp-venv ## install what is needed, build (editable: rebuilds on import)

build: setup
	@$(BIN)/python -c 'import fastpath'

test: setup ## everything that is tested: C, sanitizers, Python, namespaces
	@$(BIN)/python tests/run.py

lint: setup ## ruff, mypy, clang-format
	@git ls-files 'native/*.[ch]' 'benchmarks/*.[ch]' | xargs clang-format --dry-run -Werror
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/mypy src
	@$(BIN)/mypy -p benchmarks

format: setup ## clang-format and ruff format
	@git ls-files 'native/*.[ch]' 'benchmarks/*.[ch]' | xargs clang-format -i
	@$(BIN)/ruff format src tests benchmarks

demo: setup ## two gateways and a kernel VTEP in namespaces; KEEP=1 leaves it running
	@$(SUDO) $(BIN)/python -m demo $(if $(KEEP),--keep)

storm: build ## kill, stop, step the clock, fill the disk, restore, under traffic; SECONDS=300 SEED=n
	@$(SUDO) $(BIN)/python tests/system/storm.py --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED))

demo-clean: ## remove what make demo KEEP=1 left running
	@$(SUDO) $(BIN)/python -m demo --clean

.stamp-bench: .stamp-venv
	@missing=$$(for p in $(PEERS); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "setup: installing peers to measure beside us:" $$missing; \
	  { $(SUDO) apt-get -qq update && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get -qq install -y --no-install-recommends $$missing >/dev/null; } || \
	  echo "setup: could not install:" $$missing "(what is measured beside them will be missing)"; fi
	@touch $@

BENCH := $(SUDO) env PATH="$(PATH)" $(BIN)/python -m benchmarks

bench: build .stamp-bench ## measure, beside peers; QUICK=1, SCENARIO=vxlan-*, FLOWS=1000, FRAMES=64, PORTS="0000:3b:00.0 0000:3b:00.1"
	@$(BENCH) run $(if $(QUICK),--quick) --scenario '$(SCENARIO)' --flows '$(FLOWS)' --frames '$(FRAMES)' --subjects '$(SUBJECTS)' --ports '$(PORTS)'

bench-check: build .stamp-bench ## judge the last figures: gates, and ratios beside the recorded ones
	@$(BENCH) check

bench-record: build .stamp-bench ## keep the ratios of the last run for bench-check; ANEW=1 forgets those before
	@$(BENCH) record $(if $(ANEW),--anew)

bench-docs: build .stamp-bench ## write the figures of the last run into docs/benchmarks.md
	@$(BENCH) docs

clean: ## remove what was built
	@rm -rf build .venv .stamp-* benchmarks/results
