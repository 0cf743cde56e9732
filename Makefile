# Every target installs what it needs into .venv.
PYTHON ?= python3
# Drive of the demo: generated from a held-out test seed, or frames of a PandaSet sequence (DATA=folder).
SEED ?= 9
SWEEPS ?= 40
DATA ?=
FRAMES ?= 40:61
OUT ?= build/demo

BIN := .venv/bin
SOURCES := setup.py setup.cfg pyproject.toml

.PHONY: setup demo test check clean

setup: .venv/.complete

# Without torch: enough to run models, not to train them.
.venv/.runtime: $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ros-pip,onnxruntime,tools,datasets]'
	touch $@

.venv/.complete: .venv/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ros-pip,onnxruntime,tools,datasets,training,test]'
	touch $@

# The same labels in three dimensions, where the extra view is installed; the report links it.
IN_3D := if $(BIN)/python -c 'import rerun' 2>/dev/null; then \
	$(BIN)/xmodelkd view "$(OUT)/drive.mcap" --model student --save "$(OUT)/demo.rrd"; fi

demo: .venv/.runtime
	rm -f "$(OUT)/drive.mcap" "$(OUT)/demo.rrd"
ifeq ($(DATA),)
	$(BIN)/python -m training.world --seed $(SEED) --sweeps $(SWEEPS) --lidar Pandar64 --bag "$(OUT)/drive.mcap"
	$(IN_3D)
	$(BIN)/xmodelkd replay "$(OUT)/drive.mcap" --model student --out "$(OUT)"
else
	$(BIN)/python -m training.to_bag pandaset "$(DATA)" "$(OUT)/drive.mcap" --frames $(FRAMES)
	$(IN_3D)
	$(BIN)/xmodelkd replay "$(OUT)/drive.mcap" --model student --label-set pandaset9 --out "$(OUT)"
endif

# Tests that start nodes run in a second step: other tests beside them would slow the nodes down.
WITH_NODES := test/harness test/resilience test/node test/tools
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test: .venv/.complete
	OMP_NUM_THREADS=1 $(PYTEST) test $(WITH_NODES:%=--ignore=%)
	$(PYTEST) --maxprocesses 2 $(WITH_NODES)

check: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build install log .pytest_cache .mypy_cache .ruff_cache
	find training -name '*.nbi' -delete -o -name '*.nbc' -delete
