# Everything is installed into .venv, from constraints.txt, whose hashes pip verifies; on Debian and Ubuntu root gets what
# the system lacks, too (scripts/setup.sh). `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SEEDS ?= 200
FIRST ?= 1
LENGTH ?= 0
SOAK_MINUTES ?= 60
PYTEST_OPTIONS ?=

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test soak check format docs bench sim scale chaos mpi lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## A cluster of 64 nodes on this machine, in under a minute
	@$(BIN)/python -m heorot.embedded.demo

test: ## Run the tests, two at a time on each core; some of them with PYTEST_OPTIONS="-k streams -x"
	@PYTHON="$(PYTHON)" scripts/setup.sh test $(VENV)
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_OPTIONS)

soak: ## Run the long forms of the tests by turns, for a given time (SOAK_MINUTES=60, SOAK_OPTIONS="--only hosts")
	@PYTHON="$(PYTHON)" scripts/setup.sh test $(VENV)
	@$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) $(SOAK_OPTIONS)

check: $(STAMP) ## Format, lint, strict types, layers
	@failed=; run() { echo "$$*"; "$$@" || failed=yes; }; \
	run $(BIN)/ruff format --check .; \
	run $(BIN)/ruff check .; \
	run $(BIN)/mypy src tests scripts plugins $(wildcard bench); \
	run $(BIN)/lint-imports --no-logo; \
	[ -z "$$failed" ]

format: $(STAMP) ## Format the sources and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## Write the tables of docs/protocol.md and the pictures of docs/states.md anew from the machines' own
	$(BIN)/python -m scripts.tables

bench: $(STAMP) ## Measure against the floor of this machine; writes JSON and a picture
	@$(BIN)/python -m bench $(BENCH_OPTIONS)

sim: $(STAMP) ## Simulate clusters under faults (SEEDS=200, FIRST=1, LENGTH=10 virtual minutes), or tell the story of one (SEED=7)
	@$(BIN)/python -m heorot.sim $(if $(SEED),--seed $(SEED) --story,--seeds $(SEEDS) --first $(FIRST)) --length $(LENGTH)

scale: $(STAMP) ## Launches and broadcasts on clusters far larger than this machine, in virtual time, with a picture (three minutes)
	@echo "make scale: up to 16,384 nodes, about three minutes; tables below, and at the end bench/out/scale.png" >&2
	@mkdir -p bench/out
	@$(BIN)/python -m heorot.sim.timed.scale --json bench/out/scale-launches.json $(SCALE_OPTIONS)
	@$(BIN)/python -m heorot.sim.timed.scale --broadcast 256 --nodes 16,64,256,1024 --fanout 2,4,8,16,32,peers --gbit 1 --json bench/out/scale-broadcasts.json
	-@$(BIN)/python -m bench.scale_picture bench/out/scale-launches.json bench/out/scale-broadcasts.json bench/out/scale.png

chaos: $(STAMP) ## Kill the heads of a busy cluster again and again, and count what is lost (CHAOS_OPTIONS="--kills 20")
	@$(BIN)/python -m tests.chaos $(CHAOS_OPTIONS)

mpi: $(STAMP) ## Run unchanged MPI libraries on a real cluster (MPI_OPTIONS="--measure 9", "--prefix /usr"; fetches MPICH and Open MPI, 22 MB)
	@$(BIN)/python -m tests.mpi $(MPI_OPTIONS)

venv: $(STAMP) ## Install everything into .venv (once, about a minute)

lock: ## Write constraints.txt anew from pyproject.toml (for maintainers)
	$(PYTHON) scripts/lock.py

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests bench scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): constraints.txt pyproject.toml scripts/venv.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh run $(VENV)
