# Every target sets up what it needs: Python 3.11 and the internet are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
# Three at a time on two cores: much of a test with several workers is waiting.
PYTEST := $(BIN)/python -m pytest -n 3 --no-loadscope-reorder

.PHONY: train test test-all durations lint docs docs-serve docs-tables equalities matrix setup clean

train: setup  ## Trains MNIST on two workers of this machine.
	$(BIN)/tfdist run -n $(WORKERS) examples/mnist.py

test: setup lint  ## Runs the tests, but for those that take minutes each.
	$(PYTEST)

test-all: setup lint  ## Runs all tests.
	$(PYTEST) -m ""

durations: setup  ## Runs the quick tests and prints what they cost, by folder and by file.
	$(PYTEST) --junitxml=.cache/durations.xml -o junit_duration_report=total
	$(BIN)/python tests/durations.py .cache/durations.xml --write tests/README.md

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tfdist

docs: setup docs-tables  ## Builds the site of docs/ into .cache/site; it needs no internet to be read.
	$(BIN)/zensical build --strict
	@echo "open .cache/site/index.html, or run make docs-serve to search in it, too"

docs-serve: docs  ## Serves the site on this machine alone.
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory .cache/site 8000

docs-tables: setup  ## Writes the pages of the docs that are made by scripts.
	$(BIN)/python docs/patches.py
	$(BIN)/python docs/reference.py
	$(BIN)/python benchmarks/pages.py

equalities: setup  ## Prints how far the numbers are from those of one process.
	$(BIN)/python benchmarks/equalities.py

matrix: setup  ## Prints which features of fit work where, under tfdist and stock.
	$(BIN)/python benchmarks/matrix.py

setup: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .cache/one_process
