# make demo: segment the volume that ships with the package.   make test: everything, slow tests too,
# in two processes; a file's tests are all in one, and files in order: the longest, of the laws, first.
# make benchmark: everyone side by side, half an hour; tests/benchmarks/versus.py says what it needs.
PYTHON ?= python3
BIN = .venv/bin
FOLDERS = $(sort $(dir $(wildcard $(addsuffix /*.py,core core/* models models/* workers pipeline pipeline/* configs))))
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint benchmark clean

demo: .venv/.installed
	$(BIN)/cadseg demo demo-output --workers 2

test: .venv/.dev
	$(BIN)/pytest -m "" --hypothesis-profile=thorough -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: .venv/.benchmark
	$(BIN)/python tests/benchmarks/versus.py

# torch goes first and by version: unpinned, pip may take gigabytes of CUDA packages along.
.venv/.python: constraints.txt
	$(PYTHON) -m venv .venv || { $(PYTHON) -m pip install --user --break-system-packages virtualenv && $(PYTHON) -m virtualenv .venv; }
	$(INSTALL) torch==2.13.0
	touch $@

# The strict mode builds a tree of links, which type checkers can follow; a new file needs a new tree,
# so the folders are prerequisites.
.venv/.installed: .venv/.python setup.cfg $(FOLDERS)
	$(INSTALL) --config-settings editable_mode=strict --editable .
	touch $@

.venv/.dev: .venv/.python setup.cfg $(FOLDERS)
	$(INSTALL) --config-settings editable_mode=strict --editable ".[dev]"
	touch $@ .venv/.installed

.venv/.benchmark: .venv/.python setup.cfg $(FOLDERS)
	$(INSTALL) --config-settings editable_mode=strict --editable ".[benchmark]"
	touch $@ .venv/.installed

clean:
	rm -rf .venv build dist demo-output
