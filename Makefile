PYTHON ?=
ARGS ?=
PYTEST_ARGS ?=
SOAK ?= tests/fault
LOCK_ARGS ?=

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-ready
DEV := $(VENV)/.dev-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# posix_ipc has no wheel yet for 3.14, where it needs a C compiler: an older interpreter, if there is
# one, is taken first.
find_python = \
	py=; bare=; \
	for below in 14 100; do \
	  for p in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
	    "$$p" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, $$below))" 2>/dev/null || continue; \
	    if "$$p" -c 'import ensurepip, venv' 2>/dev/null; then py=$$p; break 2; fi; \
	    bare=$$p; \
	  done; \
	done; \
	if [ -z "$$py" ] && [ -n "$$bare" ]; then \
	  v=$$("$$bare" -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
	  echo "error: $$bare cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install $$v-venv)" >&2; exit 1; \
	elif [ -z "$$py" ]; then \
	  echo "error: no Python 3.11 or later found$(if $(PYTHON), as $(PYTHON)): install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi

# The environment is also made anew when the checkout was moved (its scripts hold the old path), when
# its interpreter has gone, or when another one is asked for.
stale := $(shell { [ -x $(BIN)/python ] && [ "$$(cat $(VENV)/.home)" = "$$(pwd -P)" ] \
	&& { [ -z '$(PYTHON)' ] || [ "$$(cat $(VENV)/.python)" = '$(PYTHON)' ]; }; } 2>/dev/null || echo FORCE)

.DEFAULT_GOAL := demo
.PHONY: demo test lint types bench soak wheel lock clean help FORCE

demo: $(RUN) ## run the demonstration (ARGS= its options)
	@$(BIN)/spectacles demo $(ARGS)

test: lint types ## lint, check types, then run the whole test suite (PYTEST_ARGS=)
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS) || { [ $$? -eq 1 ] && \
	  echo "once more, one at a time: what has failed beside others" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures=none $(PYTEST_ARGS); }

lint: $(DEV) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## check types
	$(BIN)/mypy --strict spectacles tests

bench: $(RUN) ## run the benchmark (ARGS= its options)
	@$(BIN)/python -m spectacles.lab.bench $(ARGS)

soak: $(DEV) ## run the long endurance tests (SOAK= their place and options)
	$(BIN)/python -m pytest -m soak --timeout=0 -o faulthandler_timeout=0 $(SOAK)

wheel: $(RUN) ## build the wheel and the source archive into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

# Each stage ends by writing its stamp, so an interrupted one is not taken for complete. Nothing is
# built in isolation, as pip would then fetch build tools that no lock pins.
$(RUN): pyproject.toml requirements-build.lock requirements.lock $(stale)
	@rm -rf $(VENV)
	@$(find_python); \
	echo "$(VENV): made with $$py, $$("$$py" --version 2>&1)"; \
	"$$py" -m venv $(VENV) && printf '%s\n' "$$py" >$(VENV)/.python
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-build.lock
	@$(PIP) install --require-hashes --no-build-isolation -r requirements.lock || { \
	  echo "error: the pinned packages could not be installed; from Python 3.14 on this takes a C compiler and Python's headers" >&2; exit 1; }
	@$(PIP) install --no-deps --no-build-isolation -e .
	@pwd -P >$(VENV)/.home
	@touch $@

# An interrupted pip may leave half a package behind: without the first stamp, all is made anew.
$(DEV): requirements-dev.lock $(RUN)
	@echo "$(VENV): adding the test tools"
	@rm -f $(RUN)
	@$(PIP) install --require-hashes --no-build-isolation -r requirements-dev.lock
	@touch $(RUN)
	@touch $@

lock: ## pin anew what pyproject.toml asks for (LOCK_ARGS=--upgrade: newest versions)
	@$(find_python); \
	t=$$(mktemp -d) && trap 'rm -rf "$$t"' EXIT && trap 'exit 1' INT TERM && \
	"$$py" -m venv "$$t" && \
	"$$t/bin/python" -m pip --disable-pip-version-check --quiet install --only-binary :all: uv==$(UV_VERSION) && \
	compile() { \
	  "$$t/bin/uv" pip compile --quiet --universal --python "$$t/bin/python" --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	    $(LOCK_ARGS) "$$@"; \
	} && \
	compile --group pyproject.toml:build -o requirements-build.lock && \
	compile pyproject.toml -o requirements.lock && \
	compile pyproject.toml --extra test -c requirements-build.lock -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment, the caches and what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

help: ## list the targets (all of them take PYTHON=, any interpreter from 3.11 on)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
