# Every target makes its own environment first, so that a fresh clone needs one command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench

.PHONY: demo check test full bench clean

$(DEV): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(DEV)

$(BENCH): $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $(BENCH)

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

bench: $(BENCH)
	$(BIN)/python -m bench.run recall_qps --dataset fashion-mnist-784 --rivals hnswlib faiss-hnsw usearch

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
