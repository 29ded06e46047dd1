# The README's commands. Each sets up the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE := tests/sample

# The image: its name stands in mlcube.yaml; VARIANT is cuda or cpu; WEIGHTS is the folder that is built in.
VARIANT ?= cuda
WEIGHTS ?= weights
IMAGE ?= $(shell sed -n 's/^  image: //p' mlcube/mlcube.yaml)

.PHONY: demo test browser lint format image image-test lock audit clean

# Column 8 of the scores is the Dice of the whole volume.
demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/brats-opt --input $(SAMPLE)/images --output demo/output --report demo/report
	$(BIN)/brats-opt check --input $(SAMPLE)/images --output demo/output
	$(BIN)/brats-opt evaluate --task gli --predictions demo/output --references $(SAMPLE)/labels --csv demo/scores.csv >/dev/null
	@echo "label map: $$(ls demo/output/*.nii.gz)"
	@echo "picture:   $$(ls demo/report/pictures/*.png)"
	@echo "page:      demo/report/index.html"
	@awk -F, 'NR > 1 { printf "Dice %s:   %.3f\n", $$2, $$8 }' demo/scores.csv

test: lint
	$(BIN)/python -m pytest -n auto

# What the report's page is tested in; without it those tests are skipped.
browser:
	command -v chromium && command -v chromedriver || \
		(apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

image:
	tests/container/engine.sh start
	WEIGHTS="$(WEIGHTS)" tests/container/build.sh $(VARIANT) $(IMAGE)

image-test: $(VENV)/.installed $(VENV)/organizers/.installed
	tests/container/engine.sh start
	BRATS_OPT_ORGANIZERS=$(abspath $(VENV)/organizers) $(BIN)/python -m pytest tests/container --durations 5

# Locked versions with hashes, for Linux on x86-64 and Python 3.11. The CPU build of torch is where pip finds it.
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --only-binary :all: --custom-compile-command 'make lock' \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28
lock: $(VENV)/.installed
	$(LOCK) pyproject.toml --extra cpu --extra prepare -o requirements/cuda.txt
	sed -n 's/^    "\(torch==[0-9.]*\)",$$/\1+cpu/p' pyproject.toml > requirements/cpu.in
	$(LOCK) pyproject.toml --extra cpu --extra prepare -c requirements/cpu.in $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) -o requirements/cpu.txt
	rm requirements/cpu.in
	$(LOCK) --group sbom -o requirements/sbom.txt
	$(subst --only-binary :all:,,$(LOCK)) --group organizers -o requirements/organizers.txt

# Known vulnerabilities of what the image holds, by the registry's data.
audit: $(VENV)/.installed
	for lock in cuda cpu; do sed 's/+cpu//; / *--hash/d; s/ \\$$//' requirements/$$lock.txt > $(VENV)/audit.txt && \
		$(BIN)/pip-audit --strict --disable-pip --no-deps -r $(VENV)/audit.txt || exit; done

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# What organizers run: MLCube and the BraTS orchestrator. A later pip refuses the metadata of what MLCube asks for.
$(VENV)/organizers/.installed: requirements/organizers.txt
	$(PYTHON) -m venv $(VENV)/organizers
	$(VENV)/organizers/bin/pip install --quiet 'pip<24.1'
	$(VENV)/organizers/bin/pip install --quiet --require-hashes -r $<
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
