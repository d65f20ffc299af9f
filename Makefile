# `make demo` and `make test` set up all they need: Python >= 3.11, make and a package index are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# PyPI's torch for Linux is the large CUDA build. For the small CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INSTALL ?= torch==2.13.0
TORCH_INDEX   ?=
READY  := $(VENV)/.ready

.PHONY: help demo test check mutants format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     the whole pipeline on the embedded model and data, then the report"
	@echo "make test     the test suite (under ten minutes on two cores)"
	@echo "make check    lint, format, types, architecture"
	@echo "make mutants  plants known mistakes; each must turn the suite red"
	@echo "make format   rewrites the sources in the project's format"
	@echo "make clean    removes $(VENV) and caches; outputs/ stays"

demo: $(READY)
	@$(BIN)/harken demo

test: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 -q

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/mutants.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist

# The stamp is written last, so an interrupted set-up is taken up again by the next call.
# torch comes first: the second install then finds it in place, whichever index it came from.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "harken needs Python >= 3.11: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): torch ..."
	@$(BIN)/python -m pip install --quiet \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),-c constraints.txt) $(TORCH_INSTALL)
	@echo "Setting up $(VENV): harken and its tools ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
