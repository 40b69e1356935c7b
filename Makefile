# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo up down test fuzz lint format bench docs clean

demo: $(INSTALLED)
	$(BIN)/emu demo

up: $(INSTALLED)
	$(BIN)/emu up -f examples/tutorial

down: $(INSTALLED)
	$(BIN)/emu down

test: $(INSTALLED)
	$(BIN)/pytest -n 4 --dist loadfile

# schemathesis against each OpenAPI document that is served, for so many seconds each; packets to DNS.
fuzz: $(INSTALLED)
	EMU_FUZZ_SECONDS=120 $(BIN)/pytest tests/api/test_schemathesis.py
	EMU_FUZZ_PACKETS=5000000 $(BIN)/pytest tests/coredns/test_fuzz.py

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Pages that are made from the code, and the column of tests in the page on Services.
docs: $(INSTALLED)
	$(BIN)/python -m emu.api.reference > docs/reference/api.md
	$(BIN)/python tests/end_to_end/test_services_page.py > docs/reference/services.md.new
	mv docs/reference/services.md.new docs/reference/services.md

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis emu/api/data

# The environment, made anew when what it installs has changed.
$(INSTALLED): pyproject.toml hatch_build.py $(wildcard emu/api/resources/*.py)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "emu needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
