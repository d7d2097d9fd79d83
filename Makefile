# make test      everything that can run here, in a local environment made from constraints.txt
# make check     the same, after format, lint, layer and type checks
# make simulate  the simulated world: SEEDS=300 of them from FIRST=0 on, or SEED=17 to replay one
# make soak      churn and faults on a real engine for MINUTES=10
# make torture   power-loss images of the ledger
# make diagnosis the truth table on a real engine, right / wrong / unknown per cause
# make figures   the figures of docs/reliability.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Files side by side; `make test PYTEST_ARGS=-n0` for one after the other.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
MINUTES ?= 10
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help test check lint format simulate soak torture diagnosis figures constraints clean

help:
	@sed -n 's/^# make /make /p' Makefile

$(BIN)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3")'
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@# What builds the packages that come as source, the project among them: newer interpreters bring none of it along.
	@$(BIN)/python -m pip install -q -c constraints.txt hatchling editables setuptools
	@$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[test]'
	@touch $@

test: $(BIN)/.ready
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(BIN)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint test

format: $(BIN)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

simulate: $(BIN)/.ready
	$(BIN)/python -m tests.simulation.run $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),300) --first $(or $(FIRST),0))

soak: $(BIN)/.ready
	$(BIN)/python -m tests.docker.soak --minutes $(MINUTES)

torture: $(BIN)/.ready
	$(BIN)/python -m tests.store.power_loss

diagnosis: $(BIN)/.ready
	$(BIN)/python -m tests.docker.diagnosis

figures: $(BIN)/.ready
	$(BIN)/python -m tests.figures

# The versions themselves: a clean environment, the newest that pyproject.toml allows.
constraints:
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp/v" && "$$tmp/v/bin/pip" install -q hatchling editables setuptools '.[test]' && \
	{ sed -n '/^#/p' constraints.txt; "$$tmp/v/bin/pip" freeze --all --exclude pip --exclude agentd-controller; } >"$$tmp/c" && \
	cp "$$tmp/c" constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
