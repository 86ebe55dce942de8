# The verbs of the project. Each installs what it needs into .venv first.
#   make repro   run the workflow as params.yaml says and print the results
#   make test    lint, types and tests; make test-long: those that take minutes each
#   make report  the results as a page, report/index.html, that is read in any browser
#   make publish run the workflow and fill its figures into README.md and docs/;
#                NAME=utkface-aligned names the split file (default: data.source)
PYTHON ?= python3
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: repro test test-long check format dag publish report clean

repro: .venv/installed
	$(RUN) dvc repro

test: .venv/installed-dev check
	$(RUN) python -m pytest -n auto --dist loadfile -m 'not long'

test-long: .venv/installed-dev
	$(RUN) python -m pytest -m long

check: .venv/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: .venv/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

publish: repro
	$(RUN) python -m stages.publish $(if $(NAME),--name $(NAME))

# DVC does not know the tables of searches; a report that is older than one is written anew.
report: .venv/installed
	$(RUN) dvc repro report
	@[ -z "$$(find data/tuning -name '*.csv' -newer report/index.html 2>/dev/null)" ] \
	  || $(RUN) dvc repro --force --single-item report
	@echo "$(CURDIR)/report/index.html"

# The picture of the workflow in the README; needs graphviz.
dag: .venv/installed
	$(RUN) docs/dag.sh

# A file, not the folder, marks a finished installation: one that was cut is done again.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python >= 3.10 is needed; set it with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: pyproject.toml .venv/made
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml .venv/made
	$(BIN)/python -m pip install --quiet --editable '.[dev,export,serve]'
	touch $@ .venv/installed

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
