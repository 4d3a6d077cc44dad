# Two commands do everything on a machine that has python3: `make shapes` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A test process a core, of one thread each: quicker than one process of many threads.
PYTEST := env OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto
MADE_FROM := setup.cfg setup.py pyproject.toml constraints.txt

.PHONY: shapes test test-fast test-oldest lint types benchmark

shapes: .venv/.installed
	$(BIN)/python tools/print_shapes.py configs/resnet/resnet50.yaml --image examples/data/astronaut.jpg

test: lint types
	$(PYTEST)

test-fast: .venv/.installed-test
	$(PYTEST) -m "not slow"

lint: .venv/.installed-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: .venv/.installed-test
	$(BIN)/python -m mypy

# torch and torchvision come together from the package index, in versions that belong together.
.venv/.installed: $(MADE_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) torch torchvision --editable '.[image]'
	touch $@

.venv/.installed-test: .venv/.installed
	$(INSTALL) --editable '.[test,dev]'
	touch $@

# Side by side with timm and torchvision, in a few minutes; best on an idle machine.
benchmark: .venv/.installed-test
	$(BIN)/python -W ignore -m benchmarks --threads 1 --write docs/benchmarks

# By hand: the oldest torch that is promised, in an environment of its own.
test-oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet torch==2.4.0 torchvision==0.19.0 'numpy<2.3' --editable '.[test]'
	env OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest --numprocesses auto -m "not slow"
