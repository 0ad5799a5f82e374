# Every target makes its own environment first, so that a fresh clone needs one command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
RIVALS := $(VENV)/.rivals

.PHONY: demo check test full bench clean

$(DEV): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(DEV)

$(BENCH): $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $(BENCH)

$(RIVALS): $(BENCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[rivals]'
	touch $(RIVALS)

demo: $(DEV)
	$(BIN)/vicinal demo

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(DEV)
	$(BIN)/pytest -q -m 'not full'

full: $(BENCH)
	$(BIN)/pytest -q -m full --timeout 1500

# Every claimed figure, hours in all: it goes on where it was broken off. `make bench FIGURES=speed-784` is one of them.
bench: $(RIVALS)
	$(BIN)/python -m bench.figures $(FIGURES)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
