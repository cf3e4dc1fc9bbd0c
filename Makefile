# Two words to remember: `make demo` and `make test`. Both make the virtual environment .venv first, if need be.

SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.installed
# Any of these will do; PYTHON=/path/to/python chooses another.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))

.PHONY: demo test lint fmt bench soak fuzz sim clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Takes long: also makes .venv-peers with upstream Ray and measures the two side by side.
bench: $(STAMP)
	$(BIN)/rayd microbenchmark --build-peers

# A quarter of an hour: a thousand workers and a hundred nodes are killed under load.
soak: $(STAMP)
	$(BIN)/python tests/soak/soak.py --workers 1000 --nodes 100
	$(BIN)/python tests/soak/restart.py --names 10000 --nodes 100

# Ten minutes of nonsense, from strangers and from those whom the daemon believes.
fuzz: $(STAMP)
	$(BIN)/python tests/soak/fuzz.py --seconds 600

# Half an hour: a thousand small clusters by seed, then one of a thousand nodes, in virtual time and with faults.
sim: $(STAMP)
	$(BIN)/python -m rayd.sim --seeds 0:1000 --nodes 4 --tasks 300 --encoded --check-every 5
	$(BIN)/python -m rayd.sim --nodes 1000 --drivers 20 --tasks 100000 --seconds 10

clean:
	rm -rf .venv .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The sources are installed by reference, so only what the project declares can make this out of date.
$(STAMP): pyproject.toml
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "No Python 3.11, 3.12 or 3.13 was found on PATH (tried: $(or $(PYTHON),none)). Install one, or name it: make PYTHON=/path/to/python"; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,data]'
	@touch $@
