# Every target makes its own environment first, so that a fresh clone needs one command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
RIVALS := $(VENV)/.rivals

.PHONY: demo check test full full-kills full-power full-crash full-damage full-fuzz full-together full-model full-codes full-rest bench clean

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
	$(BIN)/pytest -q -m 'not full' -n 2 --dist loadfile

# The long suite, in parts that end within 25 minutes each on two cores that nothing else uses: a thousand kills, power
# loss, every other crash, damaged files, mutated bytes (two minutes for each decoder, four at a time), readers and writers
# at once, the model, codes on every kind of data, all the rest.
FULL := $(BIN)/pytest -q -m full --timeout 1500
KILLS := tests/crash/test_kill.py
POWER := tests/crash/test_engine_power_loss.py tests/crash/test_storage_power_loss.py
CRASH := tests/crash tests/unit/storage
FUZZ := tests/corrupt/test_fuzz.py
DAMAGE := tests/corrupt
TOGETHER := tests/concurrency
MODEL := tests/model
CODES := tests/property/test_codec_choice.py

full: full-kills full-power full-crash full-damage full-fuzz full-together full-model full-codes full-rest

full-kills: $(BENCH)
	$(FULL) -n 2 $(KILLS)

full-power: $(BENCH)
	$(FULL) -n 2 $(POWER)

full-crash: $(BENCH)
	$(FULL) -n 2 $(CRASH) $(addprefix --ignore=,$(KILLS) $(POWER))

full-damage: $(BENCH)
	$(FULL) -n 2 $(DAMAGE) --ignore=$(FUZZ)

full-fuzz: $(BENCH)
	$(FULL) -n 4 $(FUZZ)

full-together: $(BENCH)
	$(FULL) $(TOGETHER)

full-model: $(BENCH)
	$(FULL) -n 2 $(MODEL)

full-codes: $(BENCH)
	$(FULL) -n 2 $(CODES)

full-rest: $(BENCH)
	$(FULL) -n 2 --dist loadfile tests $(addprefix --ignore=,$(CRASH) $(DAMAGE) $(TOGETHER) $(MODEL) $(CODES))

bench: $(RIVALS)
	$(BIN)/python -m bench.figures $(FIGURES)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
