# Twinhull's commands.  `make help` lists them; every target first prepares what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory --warn-undefined-variables

# The Python that makes the virtual environment: 3.11 or newer.
PYTHON ?= python3
# More arguments for pytest, such as PYTEST_ARGS='-k verity'.
PYTEST_ARGS ?=
# More arguments for a benchmark, such as BENCH_ARGS='--json --rounds 3'.
BENCH_ARGS ?=
# More arguments for the fuzzer, such as FUZZ_ARGS='--seconds 3600 channel release'.
FUZZ_ARGS ?=
CI ?=

PACKAGES := bedrock partitions keys updater imagebuild
PY := .venv/bin/python

.PHONY: help setup venv demo image test lint unit integration qemu test-disks test-docs test-ways reproducible bitrot bench-update bench-build bench-boot bench-hardening lock clean distclean test-suites test-faults test-build-host fuzz powercut

help: ## List the targets
	@echo "Twinhull: signed, immutable container hosts that keep themselves up to date."
	@echo
	@echo "  make demo          build, sign, publish, boot, update and roll back a host in a VM (out/demo/report.json)"
	@echo "  make test          everything that must hold: lint, types, layers, unit, integration and VM tests"
	@echo "  make image         the reference image, and what each part of it costs (out/image/build, out/size.json)"
	@echo
	@echo "Parts of the above:"
	@echo "  make setup         host packages and the virtual environment (the other targets call it themselves)"
	@echo "  make lint          ruff, mypy and the import layers"
	@echo "  make unit          unit tests: no root, no network, seconds"
	@echo "  make integration   tests that run real tools on real files"
	@echo "  make qemu          whole machines: firmware, boot, update, rollback, tampering"
	@echo "  make test-disks    a host on each kind of disk: NVMe, AHCI, virtio, USB, VMware, RAID"
	@echo "  make test-ways     provisioning by firmware and boot partition, signed, sealed; ssh, rescue, consoles, firewall, image policy"
	@echo "  make test-faults   more damage to a host's disk than make test does; foreign disks, cut containers, locks, unfair judgement"
	@echo "  make test-docs     every command block of README and docs/, the slow ones too"
	@echo "  make test-suites   a host of Debian testing and one of unstable: built and booted (out/suites.json)"
	@echo "  make test-build-host  the README's first commands on a clean Debian 13, as root (out/build-host.json)"
	@echo "  make powercut      a power cut at every write of an update and of a fallback, judged and booted (out/powercut.json)"
	@echo "  make fuzz          every parser of foreign bytes on damaged documents, 1 s of processor time each (out/fuzz)"
	@echo "  make reproducible  ten builds of one lock, compared byte by byte (out/reproducible.json)"
	@echo "  make bitrot        flipped bits and lost sectors all over a host's disk, each booted for real (out/bitrot.json)"
	@echo "  make bench-update  speed and memory of an update in a VM, compared with dd on the same disk"
	@echo "  make bench-build   seconds of a build, cold and after a change, compared with plain mkosi (out/bench-build.json)"
	@echo "  make bench-boot    seconds from power on until podman answers, compared with plain mkosi (out/bench-boot.json)"
	@echo "  make bench-hardening  what each kernel argument of the hardening costs (out/bench-hardening.json)"
	@echo
	@echo "For maintainers:"
	@echo "  make lock          the newest versions that fit, with hashes, into the lock files"
	@echo "  make clean         remove results (out/) and the checkers' caches"
	@echo "  make distclean     clean, and remove the virtual environment and the cache of trees and packages"
	@echo
	@echo "PYTHON=/usr/bin/python3.12 names another Python; PYTEST_ARGS='-k verity' is handed to pytest."

setup: ## Host packages and the virtual environment
	@$(PYTHON) -m setup all

venv:
	@$(PYTHON) -m setup venv

demo: setup ## The main job, once, for real
	@$(PY) -m imagebuild.demo --out out/demo

# With keys of its own: the image is for looking at, not for publishing.
image: setup ## The reference image, and what each part of it costs
	@mkdir -p out/image
	@[[ -d out/image/keys ]] || .venv/bin/twinhull keys init out/image/keys --profile dev
	@[[ -d out/image/repo ]] || .venv/bin/twinhull repo init out/image/repo --keys out/image/keys
	@rm -rf out/image/build
	@.venv/bin/twinhull build examples/container-host --version 1.0.0 --keys out/image/keys --out out/image/build
	@.venv/bin/twinhull inspect out/image/build --json > out/size.json.new && mv out/size.json.new out/size.json
	@$(PY) -c 'import json; size = json.load(open("out/size.json")); \
		print("out/size.json:", *(f"{name} {size[name]}" for name in ("wire_bytes", "uki_bytes", "initrd_bytes", "packages")))'

# Cheap checks first; the time is printed before each step, and the last lines are pytest's own.
test: setup
	@step() { echo; echo "== $$1 (after $$SECONDS s)"; shift; "$$@"; }; \
	step "1/4 lint, types, layers" $(MAKE) lint-only; \
	step "2/4 unit tests" $(PY) -m pytest tests/unit $(PYTEST_ARGS); \
	step "3/4 integration tests" $(PY) -m pytest tests/integration $(PYTEST_ARGS); \
	step "4/4 whole machines" $(PY) -m pytest qemu-test $(PYTEST_ARGS); \
	if [[ -z "$(CI)" ]]; then echo "make test: passed in $$SECONDS s"; fi

lint: venv lint-only

.PHONY: lint-only
lint-only:
	@echo "ruff check";         $(PY) -m ruff check --quiet .
	@echo "ruff format";        $(PY) -m ruff format --quiet --check .
	@echo "mypy, the packages"; $(PY) -m mypy $(addprefix -p ,$(PACKAGES) setup)
	@echo "mypy, the tests";    MYPYPATH=.:qemu-test $(PY) -m mypy --explicit-package-bases tests qemu-test
	@echo "import layers";      .venv/bin/lint-imports --no-cache

unit: venv
	@$(PY) -m pytest tests/unit $(PYTEST_ARGS)

integration: setup
	@$(PY) -m pytest tests/integration $(PYTEST_ARGS)

qemu: setup
	@$(PY) -m pytest qemu-test $(PYTEST_ARGS)

test-disks: setup
	@$(PY) -m pytest qemu-test/test_disks.py -m "all_disks or not all_disks" -v --durations=0 --durations-min=1 $(PYTEST_ARGS)

test-ways: setup
	@$(PY) -m pytest qemu-test -m all_ways -v $(PYTEST_ARGS)

test-docs: setup
	@TWINHULL_DOCS=all $(PY) -m pytest qemu-test/test_documentation.py $(PYTEST_ARGS)

test-faults: setup
	@$(PY) -m pytest qemu-test -m all_faults -v $(PYTEST_ARGS)

# Their archives change every day, so they are not part of `make test`; docs/measurements.md has the last result.
test-suites: setup
	@PYTHONPATH=. $(PY) qemu-test/suites.py $(BENCH_ARGS)

test-build-host: setup
	@PYTHONPATH=. $(PY) qemu-test/build_host.py $(BENCH_ARGS)

powercut: setup
	@PYTHONPATH=. $(PY) qemu-test/powercut.py $(BENCH_ARGS)

fuzz: venv
	@$(PY) -m tests.fuzz $(FUZZ_ARGS)

reproducible: setup
	@$(PYTHON) -m setup rootless
	@PYTHONPATH=. $(PY) qemu-test/reproducible.py $(BENCH_ARGS)

bitrot: setup
	@$(PYTHON) -m setup rootless
	@PYTHONPATH=. $(PY) qemu-test/bitrot.py $(BENCH_ARGS)

bench-update: setup
	@PYTHONPATH=. $(PY) qemu-test/bench_update.py $(BENCH_ARGS)

bench-build: setup
	@PYTHONPATH=. $(PY) qemu-test/bench_build.py $(BENCH_ARGS)

bench-boot: setup
	@PYTHONPATH=. $(PY) qemu-test/bench_boot.py $(BENCH_ARGS)

bench-hardening: setup
	@PYTHONPATH=. $(PY) qemu-test/bench_hardening.py $(BENCH_ARGS)

lock:
	@$(PYTHON) -m setup lock

clean:
	@rm -rf out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	@$(PYTHON) -m setup forget
