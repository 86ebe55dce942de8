# The verbs of the project. Each installs what it needs into .venv first.
#   make install into .venv, and nothing else
#   make repro   run the workflow as params.yaml says and print the results
#   make test    lint, types, security and tests; make test-long: those that take minutes each
#   make test-lowest  the tests on the oldest packages that pyproject.toml admits
#   make audit   asks osv.dev for known holes in what is installed; part of check where it answers
#   make report  the results as a page, report/index.html, that is read in any browser
#   make suite   queue every published variant as an experiment, unless it is there already;
#                then: utkface-mtl tune run --jobs 2; utkface-mtl suite compare
#   make docs    the documentation as a site, build/docs/index.html
#   make publish run the workflow and fill its figures into README.md and docs/;
#                NAME=utkface-aligned names the split file (default: data.source)
PYTHON ?= python3
BIN := .venv/bin
ASK := import requests; requests.get("https://api.osv.dev/v1/vulns/GHSA-3f63-hfp8-52jq", timeout=5).raise_for_status()
# Python compiles what it imports; to compile all that is installed takes as long as installing it.
INSTALL := install --quiet --no-compile
# Images of containers often forbid it; each process of a run would compile tensorflow anew, 6 s.
unexport PYTHONDONTWRITEBYTECODE
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: install repro test test-long test-lowest check audit format dag plots publish report suite docs \
  clean

install: .venv/installed

repro: .venv/installed
	$(RUN) dvc repro

test: .venv/installed-dev check
	$(RUN) python -m pytest -n auto --dist loadfile -m 'not long'

test-long: .venv/installed-cluster
	$(RUN) python -m pytest -m long

test-lowest: .venv-lowest/installed
	PATH="$(CURDIR)/.venv-lowest/bin:$$PATH" python -m pytest -n auto --dist loadfile -m 'not long'

check: .venv/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) bandit --quiet --configfile pyproject.toml --recursive stages benchmarks
	@if $(BIN)/python -c '$(ASK)' 2>/dev/null; then $(MAKE) --no-print-directory audit; \
	  else echo "WARNING: NOT AUDITED: api.osv.dev, which knows of holes in packages, does not answer" >&2; fi

# Of the versions that are installed, all of them: one that could not be looked up fails.
audit: .venv/installed-dev
	$(BIN)/python -m pip freeze --exclude-editable > .venv/frozen.txt
	$(RUN) pip-audit --strict --vulnerability-service osv --no-deps --disable-pip \
	  --requirement .venv/frozen.txt

format: .venv/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

publish: repro
	$(RUN) utkface-mtl publish $(if $(NAME),--name $(NAME))

# DVC does not know the tables of searches; a report that is older than one is written anew.
report: .venv/installed
	$(RUN) dvc repro report
	@[ -z "$$(find data/tuning -name '*.csv' -newer report/index.html 2>/dev/null)" ] \
	  || $(RUN) dvc repro --force --single-item report
	@echo "$(CURDIR)/report/index.html"

# What all variants share is made once, here; then there is nothing of it to do in the experiments.
suite: .venv/installed
	$(RUN) dvc repro lists
	$(RUN) utkface-mtl suite queue

# A link or an anchor that leads nowhere fails.
docs: .venv/installed-docs
	$(RUN) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict
	@echo "$(CURDIR)/build/docs/index.html"

# The templates of `dvc plots`, from the report's charts.
plots: .venv/installed
	$(RUN) python -m stages.publishing.dvc_templates

# The picture of the workflow in the README; needs graphviz.
dag: .venv/installed
	$(RUN) docs/dag.sh

# A file, not the folder, marks a finished installation: one that was cut is done again.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python >= 3.10 is needed; set it with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip $(INSTALL) --upgrade pip
	touch $@

.venv/installed: pyproject.toml .venv/made
	$(BIN)/python -m pip $(INSTALL) --editable .
	touch $@

.venv/installed-dev: pyproject.toml .venv/made
	$(BIN)/python -m pip $(INSTALL) --editable '.[dev,docs,export,serve]'
	touch $@ .venv/installed .venv/installed-docs

.venv/installed-cluster: pyproject.toml .venv/installed-dev
	$(BIN)/python -m pip $(INSTALL) --editable '.[cluster]'
	touch $@

.venv/installed-docs: pyproject.toml .venv/made
	$(BIN)/python -m pip $(INSTALL) --editable '.[docs]'
	touch $@ .venv/installed

# uv finds the lowest set; pip does not know how.
.venv-lowest/installed: pyproject.toml .venv/made
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip $(INSTALL) --upgrade pip uv
	.venv-lowest/bin/uv pip compile --quiet --all-extras --resolution lowest-direct \
	  --output-file .venv-lowest/requirements.txt pyproject.toml
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
	  --requirement .venv-lowest/requirements.txt --editable .
	touch $@

clean:
	rm -rf .venv .venv-lowest .mypy_cache .ruff_cache .pytest_cache
