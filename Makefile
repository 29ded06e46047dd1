# The README's commands. Each sets up the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The demo's case: a real one where it lies beside the project, else a synthetic one.
REAL := $(wildcard ../shared/cases/gli/images/BraTS-GLI-90001-000)
SAMPLE := $(or $(REAL),demo/input)

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	rm -rf demo
	$(if $(REAL),,$(BIN)/brats-opt phantom --task gli --cases 1 --anatomy ellipsoid --out demo/input)
	$(BIN)/brats-opt --task gli --input $(SAMPLE) --output demo/output --report demo/report
	$(BIN)/brats-opt check --task gli --input $(SAMPLE) --output demo/output
	@echo "label map: $$(ls demo/output/*.nii.gz)"
	@echo "picture:   $$(ls demo/report/*.png)"

test: lint
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
