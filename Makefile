# Every target makes .venv when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format lint types contracts docs faults clean

demo: .venv/ready
	$(BIN)/packshot demo

# A file at a time on each core, with one thread: faster than one test at a time on all of them.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile

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
