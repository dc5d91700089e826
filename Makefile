# make run [PROFILE=demo] [DATA=folder]   and so make controls, make nested, make search
# make test   make ui   make dashboard   make check   make format   make dev   make lock   make clean
PYTHON ?= python3
PROFILE ?=
DATA ?=
VENV := .venv
INSTALL := python -m pip install --disable-pip-version-check --no-compile
# On all cores, and without the packages' own tests: pip compiles one file after the other.
COMPILE := python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
FREEZE := .venv-lock/bin/python -m pip freeze --all --exclude mer-pnao --exclude pip | \
	sed -E -e 's/^(torch==[0-9.]+)\+.*/\1/' -e '/^(cuda|nvidia|triton)/d'  # the same for each build of torch
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run nested controls search dashboard init env dev clone profile test check format images lock ui clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

# Whoever comes second to a checkout waits until the first has installed, and finds it done. The lock is free when all of
# an installation's processes have ended; where files cannot be locked, two must not begin at once.
define ALONE
import fcntl, os, sys
lock = os.open("Makefile", os.O_RDWR if os.access("Makefile", os.W_OK) else os.O_RDONLY)
os.set_inheritable(lock, True)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("another make installs here: waiting for it", file=sys.stderr)
    fcntl.flock(lock, fcntl.LOCK_EX)
except OSError as error:
    print(f"not locked: {error}", file=sys.stderr)
os.execvp(sys.argv[1], sys.argv[1:])
endef
export ALONE

env:  ## what running needs, in .venv, from requirements.lock
	@$(PYTHON) -c "$$ALONE" $(MAKE) --silent $(VENV)/.complete
dev:  ## and what tests, checks, Ray and PostgreSQL need, from requirements-dev.lock
	@$(PYTHON) -c "$$ALONE" $(MAKE) --silent $(VENV)/.complete-dev

# Before anything is installed: DVC works in a git repository alone, and the runs name its commit.
clone:
	@command -v git > /dev/null || { echo 'git is needed: install it, then run make again' >&2; exit 1; }
	@git rev-parse --quiet --verify HEAD > /dev/null || { echo 'The project must be a git repository with a commit:' \
		'clone it, or type here: git init && git add . && git commit -m "As downloaded"' >&2; exit 1; }

# Built beside markers: an interrupted install is started again.
$(VENV)/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/$(INSTALL) --progress-bar on -r requirements.lock
	$(VENV)/bin/$(INSTALL) --quiet --no-deps --no-build-isolation --editable .
	$(VENV)/bin/$(COMPILE)
	@touch $@

$(VENV)/.complete-dev: requirements-dev.lock $(VENV)/.complete
	$(VENV)/bin/$(INSTALL) --progress-bar on -r requirements-dev.lock
	$(VENV)/bin/$(COMPILE)
	@touch $@

init:  ## the MLflow database, experiment and registered model
	@command -v mer > /dev/null || $(MAKE) --no-print-directory env
	@mer init

run nested controls search: READY := --ready
profile: env
	@mer profile $(READY) $(if $(PROFILE),--name $(PROFILE)) $(if $(DATA),--data "$(DATA)")

run: clone env profile init  ## the whole pipeline: make run [PROFILE=ravdess DATA=folder]
	dvc repro
	@test "$$MER_TRACKING" = off || mer track
	@mer table

nested: clone env profile  ## nested cross-validation: make nested [PROFILE=ravdess DATA=folder]
	dvc repro pipelines/nested/dvc.yaml:nested

controls: clone env profile  ## PNAO against its controls: make controls [PROFILE=ravdess DATA=folder]
	dvc repro pipelines/controls/dvc.yaml:controls

search: clone env profile  ## NAOR, sparsity and rounds by Optuna: make search [PROFILE=ravdess DATA=folder]
	dvc repro pipelines/search/dvc.yaml:search

check: dev  ## ruff, mypy, import-linter
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test: export OMP_NUM_THREADS := 1
test: dev  ## the checks and, beside them, all tests: three at a time, for they wait for processes and pages
	@said=$$(mktemp); trap 'rm -f $$said' EXIT; \
	$(MAKE) --no-print-directory check > $$said 2>&1 & checks=$$!; \
	pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=10 -m 'slow or not slow'; tests=$$?; \
	wait $$checks; checked=$$?; cat $$said; test $$tests -eq 0 && test $$checked -eq 0

format: dev  ## let ruff format and fix
	ruff format .
	ruff check --fix .

ui: env  ## the MLflow UI on 127.0.0.1
	mer ui

dashboard: env  ## optuna-dashboard over the searches, on 127.0.0.1
	mer dashboard

images: dev  ## the README's pictures, from the reports of the last run
	python docs/images/draw.py

lock:  ## resolve requirements.lock and requirements-dev.lock anew from pyproject.toml
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/$(INSTALL) --quiet torch==2.13.0
	.venv-lock/bin/$(INSTALL) --quiet . setuptools wheel
	$(FREEZE) > requirements.lock
	.venv-lock/bin/$(INSTALL) --quiet -c requirements.lock '.[dev]'
	{ echo '-r requirements.lock'; $(FREEZE) | grep -vxFf requirements.lock; } > requirements-dev.lock
	rm -rf .venv-lock

clean:  ## forget what the pipeline made, keep the environment
	rm -rf data models work dvc_plots .dvc/cache .dvc/tmp mlruns/mlflow.db* mlruns/artifacts
	git clean -dfqX reports  # what git keeps stays
