# `make demo` and `make test` work on a fresh machine: each sets up .venv first, and is quick when that is done.
VENV ?= .venv
export VENV
PY := $(VENV)/bin/python
BENCHMARKS := $(patsubst benchmarks/bench_%.py,%,$(wildcard benchmarks/bench_*.py))

.PHONY: help setup demo test lint format docs constraints bench clean
help:
	@echo "make setup        make $(VENV) with everything that is needed"
	@echo "make demo         train, compile, publish, roll out and measure, on this machine"
	@echo "make test         lint, types, import rules and all tests"
	@echo "make lint         ruff, mypy and import-linter alone"
	@echo "make format       let ruff format the code"
	@echo "make docs         make the pages that are made from sources and results"
	@echo "make bench        list the benchmarks; make bench-NAME runs one"
	@echo "make constraints  pin what is installed now"

setup:
	@deploy/setup.sh

demo: setup
	@$(PY) examples/digits/demo.py

test: lint
	$(PY) -m pytest -n 2 --dist loadfile --max-worker-restart=0

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: setup
	$(PY) docs/make_errors.py
	$(PY) benchmarks/table.py

bench:
	@echo "make bench-NAME, NAME one of: $(BENCHMARKS)"

bench-%: setup
	$(PY) benchmarks/bench_$*.py
	$(PY) benchmarks/table.py

constraints: setup
	@(sed "/^[^#]/,\$$d" constraints.txt; $(VENV)/bin/pip freeze --all --exclude-editable | sed "/^pip==/d; s/+cpu$$//") > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .demo .mypy_cache .ruff_cache .pytest_cache
