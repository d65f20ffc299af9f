# `make demo` and `make test` set up all they need: Python >= 3.11, make and a package index are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# PyPI's torch for Linux is the large CUDA build. For the small CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INSTALL ?= torch==2.13.0
TORCH_INDEX   ?=
READY  := $(VENV)/.ready
PEERS  := .venv-trl
AUDIT  := .venv-audit
BENCH  ?=
KILL   ?=

.PHONY: help demo web test test-nightly test-kill check audit mutants bench bench-peers format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     the whole pipeline on the embedded model and data, then the report"
	@echo "make web      builds the script and the style of the pages from web/; needs Node and npm"
	@echo "make test     the test suite (under ten minutes on two cores)"
	@echo "make test-nightly  slow tests: every processor capability in turn, and more"
	@echo "make test-kill  kills every stage at 500 moments or more, resumes, and compares; KILL='ppo --points 5000'"
	@echo "make check    lint, format, types, architecture"
	@echo "make audit    looks up known vulnerabilities of the pinned packages; needs the network"
	@echo "make mutants  plants known mistakes; a test must fail on each"
	@echo "make bench    seconds, memory and tokens/s beside other libraries, and their plots; BENCH=--quick: only checks that it runs"
	@echo "make bench-peers  sets up $(PEERS) with the libraries that bench compares with"
	@echo "make format   rewrites the sources in the project's format"
	@echo "make clean    removes $(VENV) and caches; outputs/ stays"

demo: $(READY)
	@$(BIN)/harken demo

# .pyc files are allowed: the tests start many processes, which would otherwise compile every module again.
test: $(READY)
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

web:
	@cd web && npm ci --no-audit --no-fund --loglevel=error && npm run build

test-nightly: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HARKEN_SHAPE_CHECKS=all $(BIN)/python -m pytest -n 2 -q -m nightly

test-kill: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/kill/harness.py $(KILL)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# --strict: a package that the service does not know fails the audit instead of being passed over.
audit:
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet pip-audit
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

mutants: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/mutants.py

# Without bench-peers the other libraries are left out, with a line that says so. HARKEN_DATA names the folder of real rows.
bench: $(READY)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,bench]'
	@for one in ppo_update supervised rollouts lengths; do \
		echo; echo "== $$one"; HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/$$one.py $(BENCH) || exit 1; done
	@echo; $(BIN)/python benchmarks/plots.py $(filter --quick,$(BENCH))

bench-peers:
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),) torch==2.13.0
	@$(PEERS)/bin/python -m pip install --quiet torch==2.13.0 trl==1.11.0 transformers==5.23.0 peft==0.21.2

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist

# The stamp is written last, so the next call resumes an interrupted set-up.
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
