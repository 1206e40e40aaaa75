PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RIVALS := .venv-rivals
DEMO_FLAGS ?=
TEST_FLAGS ?= -n 2 --dist loadgroup

# Two test processes with several threads each would fight for the cores.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint rivals clean clean-rivals

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-13s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv and install the project with all that it needs

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: bayfed needs Python 3.11 or newer: make $(or $(MAKECMDGOALS),install) PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[federation,serve,export,openvino,dev]'
	@touch $@

demo: install ## Meta-train on synthetic factories; the last line says where the report is
	@$(BIN)/bayfed run experiments/demo.yaml $(DEMO_FLAGS)

lint: install ## Check style, types and the direction of imports
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }

test: lint ## Check everything that is fast; the last line is pytest's
	@$(BIN)/pytest -m "not slow" $(TEST_FLAGS)

test-slow: install ## Run the tests that take longer than a minute
	@$(BIN)/pytest -m slow || test $$? -eq 5  # 5: no test is that slow yet

rivals: $(RIVALS)/.installed ## Create .venv-rivals, with the libraries that some benchmarks compare with

$(RIVALS)/.installed: experiments/rivals/requirements.txt
	@test -x $(RIVALS)/bin/python || $(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean-rivals: ## Remove .venv-rivals
	rm -rf $(RIVALS)

clean: ## Remove what tools leave behind; environments and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
