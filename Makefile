# Two commands do everything on a fresh machine with Python 3.11+, make and the package index:
#   make demo    builds the environment and runs the main job, offline, on the embedded default
#   make test    builds the environment and passes lint, types and tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?= -n 2

.PHONY: demo test lint types unit slow format clean install

demo: $(READY)
	$(BIN)/shoestring demo

test: lint types unit

install: $(READY)

$(READY): pyproject.toml constraints.txt scripts/install.py
	@echo "building the environment in $(VENV) (once; a few minutes)"
	@$(PYTHON) scripts/install.py $(VENV)
	@touch $(READY)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python

unit: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

slow: $(READY)
	$(BIN)/python -m pytest -m slow

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
