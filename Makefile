# make demo   the paper's claim, seen on this machine, with a page that explains it
# make test   linter, formatter, type checker and tests
# Both install into .venv first, once.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Tests run beside each other, one process a core; each computes with one thread.
TOGETHER := -n auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint quick slow bench evidence docs clean

help:
	@echo "make demo   train four objectives, then explain the result on one page (six and a half minutes on two cores)"
	@echo "make test   linter, formatter, type checker and the quick tests"
	@echo "make lint   the same without the tests"
	@echo "make quick  the quick tests alone"
	@echo "make slow   the tests that take longer"
	@echo "make evidence  every study's missing runs, the cheapest and most telling first; resumable"
	@echo "make bench  training speed on this machine"
	@echo "make docs   what is made of code and rows: drawings, tables, findings, and the API reference in build/reference"
	@echo "make clean  remove the environment and every cache; runs/ stays"

# PYTHON=... chooses the interpreter; otherwise the first of these that is 3.11 or newer.
$(BIN)/python:
	@for candidate in $(PYTHON) python3.11 python3 python3.12 python3.13 python; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "creating $(VENV) with $$("$$candidate" --version)"; \
	        "$$candidate" -m venv $(VENV) && exit 0; \
	        rm -rf $(VENV); \
	        echo "could not create $(VENV); on Debian and Ubuntu install python3-venv" >&2; exit 1; \
	    fi; \
	done; \
	echo "foresee needs Python 3.11 or newer, and none is on the PATH; name one with: make PYTHON=/path/to/python3.11 ..." >&2; \
	exit 1

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time this fetches PyTorch, which takes a while"
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time this fetches PyTorch, which takes a while"
	@$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $(VENV)/installed $@

# $(call stage,NAME,COMMAND): says what runs, and on failure names that stage last.
define stage
@echo "== $(1)"; $(2) || { status=$$?; echo "make: FAILED in stage: $(1)" >&2; exit $$status; }
endef

demo: $(VENV)/installed
	@$(BIN)/foresee demo

lint: $(VENV)/installed-dev
	$(call stage,ruff check,$(BIN)/python -m ruff check)
	$(call stage,ruff format,$(BIN)/python -m ruff format --check)
	$(call stage,mypy,$(BIN)/python -m mypy)

# The type checker keeps one core busy, so that the tests begin beside it.
test: $(VENV)/installed-dev
	@$(MAKE) --no-print-directory -j2 lint quick

quick: $(VENV)/installed-dev
	$(call stage,pytest,$(BIN)/python -m pytest -q $(TOGETHER))

# pytest exits 5 where no test is marked slow.
slow: $(VENV)/installed-dev
	$(call stage,pytest -m slow,$(BIN)/python -m pytest -q -m slow $(TOGETHER) || [ $$? -eq 5 ])

# Stop it whenever you like: it continues. Only the small rows are kept by git.
evidence: $(VENV)/installed
	@$(BIN)/foresee study all --train --runs results/studies

bench: $(VENV)/installed
	@$(BIN)/foresee bench

docs: $(VENV)/installed-dev
	@PYTHONPATH=docs $(BIN)/python -m generate

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache src/foresee.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
