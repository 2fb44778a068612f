# On a machine with Python 3.11 and make: `make demo` runs the demonstration, `make test` the tests.
# Both install into .venv when pyproject.toml has changed since the last time, and not otherwise.

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/zoomloc demo --out demo-output

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv demo-output
