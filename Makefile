# Every target sets up what it needs in .venv. The README names two: demo and test.
PYTHON ?= python3
DATA ?= ../shared/pandaset/002
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

demo: .venv/.runtime
	rm -f "$(OUT)/drive.mcap"
	$(BIN)/python -m training.to_bag pandaset "$(DATA)" "$(OUT)/drive.mcap" --frames $(FRAMES)
	$(BIN)/xmodelkd replay "$(OUT)/drive.mcap" --model student --label-set pandaset9 --out "$(OUT)"

test: .venv/.complete
	$(BIN)/python -m pytest

check: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build install log .pytest_cache .mypy_cache .ruff_cache
