# Every target makes .venv when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format lint types contracts docs faults clean

demo: .venv/ready
	$(BIN)/packshot demo

test: .venv/ready
	$(BIN)/pytest

check: format lint types contracts docs test

format: .venv/ready
	$(BIN)/ruff format --check .

lint: .venv/ready
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/pyright

contracts: .venv/ready
	$(BIN)/lint-imports

docs: .venv/ready
	$(BIN)/python docs/build.py --check

# All fault tests at their full counts, some of which take long; results go to benchmarks/results.
faults: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m faults

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist out
