# `make` lists the targets. Each installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin
ASK := import requests; requests.get("https://api.osv.dev/v1/vulns/GHSA-3f63-hfp8-52jq", timeout=5).raise_for_status()
# Python compiles modules on import; compiling all of them here would double the time to install.
INSTALL := install --quiet --no-compile
# The versions that `make test` was last green with. Another Python may have no wheels of them, and
# takes the newest that pyproject.toml admits.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PINS := $(wildcard constraints-$(VERSION).txt)
PINNED := $(addprefix --constraint ,$(PINS))
# Container images often set it; each process would then compile TensorFlow again, for 6 s.
unexport PYTHONDONTWRITEBYTECODE
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install repro test test-long test-lowest check audit format dag plots publish report suite docs \
  clean constraints release

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## install the project and its packages into .venv

repro: .venv/installed ## run the workflow on the images that params.yaml names (the demo)
	$(RUN) dvc repro

test: .venv/installed-dev check ## lint, types, security and all tests but the long ones
	$(RUN) python -m pytest -n auto --dist loadfile -m 'not long'

test-long: .venv/installed-cluster ## the tests that take minutes each
	$(RUN) python -m pytest -m long

test-lowest: .venv-lowest/installed ## the tests on the oldest packages that pyproject.toml admits
	PATH="$(CURDIR)/.venv-lowest/bin:$$PATH" python -m pytest -n auto --dist loadfile -m 'not long'

check: .venv/installed-dev ## lint, types and security, without tests
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) bandit --quiet --configfile pyproject.toml --recursive stages benchmarks
	@if $(BIN)/python -c '$(ASK)' 2>/dev/null; then $(MAKE) --no-print-directory audit; \
	  else echo "WARNING: NOT AUDITED: api.osv.dev, the database of vulnerabilities, does not answer" >&2; fi

# Fails if one of the installed versions cannot be looked up.
audit: .venv/installed-dev ## look up known vulnerabilities of the installed packages at osv.dev
	$(BIN)/python -m pip freeze --exclude-editable > .venv/frozen.txt
	$(RUN) pip-audit --strict --vulnerability-service osv --no-deps --disable-pip \
	  --requirement .venv/frozen.txt

format: .venv/installed-dev ## format the code
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

publish: repro ## fill figures into README.md and docs/; NAME=... names the record
	$(RUN) utkface-mtl publish $(if $(NAME),--name $(NAME))

# DVC does not track the tables of searches: a report older than one of them is written again.
report: .venv/installed ## the results as a page, report/index.html
	$(RUN) dvc repro report
	@[ -z "$$(find data/tuning -name '*.csv' -newer report/index.html 2>/dev/null)" ] \
	  || $(RUN) dvc repro --force --single-item report
	@echo "$(CURDIR)/report/index.html"

release: .venv/installed-dev ## a trained run becomes the model of the package; NAME=... names it
	$(RUN) utkface-mtl release $(NAME)

# The stages that all variants share run once, before the experiments.
suite: .venv/installed ## queue the 29 published variants as experiments
	$(RUN) dvc repro lists
	$(RUN) utkface-mtl suite queue

# Fails on a link or an anchor that leads nowhere.
docs: .venv/installed-docs ## the documentation as a site, build/docs/index.html
	$(RUN) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict
	@echo "$(CURDIR)/build/docs/index.html"

plots: .venv/installed ## generate the templates of `dvc plots` from the report's charts, and a page for no network
	$(RUN) python -m stages.publishing.dvc_templates

dag: .venv/installed ## draw docs/dag.svg, the picture of the workflow (needs graphviz)
	$(RUN) docs/dag.sh

# A file marks a finished installation, so that an interrupted one is repeated.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python >= 3.10 is needed; set it with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip $(INSTALL) --upgrade pip
	touch $@

.venv/installed: pyproject.toml .venv/made
	$(BIN)/python -m pip $(INSTALL) --editable '.[train]'
	touch $@

.venv/installed-dev: pyproject.toml $(PINS) .venv/made
	$(BIN)/python -m pip $(INSTALL) $(PINNED) --editable '.[dev,docs,export,serve,train]'
	touch $@ .venv/installed .venv/installed-docs

.venv/installed-cluster: pyproject.toml .venv/installed-dev
	$(BIN)/python -m pip $(INSTALL) $(PINNED) --editable '.[cluster]'
	touch $@

.venv/installed-docs: pyproject.toml .venv/made
	$(BIN)/python -m pip $(INSTALL) --editable '.[docs,train]'
	touch $@ .venv/installed

# pip cannot resolve to the lowest versions; uv can.
.venv-lowest/installed: pyproject.toml .venv/made
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip $(INSTALL) --upgrade pip uv
	.venv-lowest/bin/uv pip compile --quiet --all-extras --resolution lowest-direct \
	  --output-file .venv-lowest/requirements.txt pyproject.toml
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
	  --requirement .venv-lowest/requirements.txt --editable .
	touch $@

constraints: ## pin the newest packages that pyproject.toml admits, by their versions
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip $(INSTALL) --upgrade pip
	.venv-newest/bin/python -m pip $(INSTALL) '.[cluster,dev,docs,export,serve,train]'
	.venv-newest/bin/python -m pip freeze --exclude utkface-mtl > constraints-$(VERSION).txt
	rm -rf .venv-newest

clean: ## remove the environments and the caches of the tools
	rm -rf .venv .venv-lowest .mypy_cache .ruff_cache .pytest_cache
