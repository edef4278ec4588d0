# coordemu: from a fresh clone, `make demo`. Needs Linux, Python 3.11 or later, a C compiler and make.
# PYTHON=... chooses the interpreter; otherwise the first of these that is new enough.

FIND_PYTHON = for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done
PYTHON ?= $(or $(shell $(FIND_PYTHON)),python3)

VENV := .venv
BIN := $(VENV)/bin
# The extension is compiled when the package is installed, so whatever it is made of is named here.
INPUTS := pyproject.toml setup.py src/coordemu/_build_native.py $(wildcard csrc/*.[ch])

.PHONY: demo test bench bench-docs schedules lint sanitize clean help

help:
	@echo "make demo | test | bench | bench-docs | schedules | lint | sanitize | clean"

demo: $(VENV)/.installed
	@$(BIN)/coordemu run

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-test
	$(BIN)/python bench/run_all.py

# CURVES=FILE draws an older run's curves instead of measuring; QUICK=--quick measures less.
CURVES ?=
QUICK ?=
bench-docs: $(VENV)/.installed-bench
	@mkdir -p docs/benchmarks
	$(if $(CURVES),cp $(CURVES),$(BIN)/python bench/curves.py $(QUICK)) docs/benchmarks/curves.json
	$(BIN)/python bench/draw.py docs/benchmarks/curves.json docs

schedules: $(VENV)/.installed-test
	rm -f examples/schedules/*.json
	$(BIN)/python bench/orders.py plans --orders 100 --jobs 2 --save examples/schedules

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	@for file in csrc/*.c tests/c/*.c; do \
		$(CC) -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror -Icsrc -fsyntax-only $$file || exit 1; done
	@echo "csrc: no warnings"

sanitize: $(VENV)/.installed-test
	PYTHON=$(BIN)/python .ci/sanitize

# One environment; each stamp says how much is installed in it. An installation with extras serves those with fewer.
define install
	@command -v $(PYTHON) >/dev/null || { echo "coordemu: Python 3.11 or later is needed, and there is no $(PYTHON)" >&2; exit 3; }
	@$(PYTHON) .ci/check_machine.py
	@echo "installing coordemu$(1) into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".$(1)"
endef

$(VENV)/.installed: $(INPUTS)
	$(call install,)
	@touch $@

$(VENV)/.installed-test: $(INPUTS)
	$(call install,[test])
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(INPUTS)
	$(call install,[test$(COMMA)bench])
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

$(VENV)/.installed-lint: $(INPUTS)
	$(call install,[test$(COMMA)lint])
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

COMMA := ,

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/coordemu/_native*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
