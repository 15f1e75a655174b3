# `make demo` and `make test` need Python 3.10-3.13 and nothing else: they set up .venv by themselves.
PYTHON ?= python3
SYSTEM ?= acoustic_scattering_maze
VENV := .venv
BASELINES := .venv-baselines
RUN := $(VENV)/bin/python -m
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-long lint types install tutorials baselines wheel clean

demo: $(VENV)/.installed
	$(VENV)/bin/wavelit demo $(SYSTEM)

# Two processes of one thread each: small operators on two busy threads can be many times slower than on one.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 -m "not slow and not long"

test-long: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile -m "long and not slow"

lint: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.installed
	$(RUN) mypy

install: $(VENV)/.installed

# The site, in site/. The tutorials are run again where one of them has changed: some minutes, the site itself half of one.
.PHONY: docs
docs: $(VENV)/.docs $(VENV)/.notebooks
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

$(VENV)/.notebooks: $(wildcard docs/tutorials/*.py)
	$(MAKE) tutorials
	touch $@

# Every tutorial as a notebook beside it, with what it prints and draws; WAVELIT_TUTORIALS=tiny for a quick look.
tutorials: $(VENV)/.tutorials
	$(VENV)/bin/jupytext --quiet --to ipynb docs/tutorials/*.py
	printf '%s\n' docs/tutorials/*.ipynb | OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore:IProgress \
		xargs -P 2 -n 1 $(VENV)/bin/jupyter-execute --inplace

# The built wheel in an empty environment, outside of the checkout.
wheel:
	PYTHON=$(PYTHON) scripts/check_wheel.sh

# The rivals need torchvision, hence another torch with CUDA libraries of about 6 GB: an environment of their own.
baselines: $(BASELINES)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed constraints-docs.txt
	$(VENV)/bin/python $(PIP) -c constraints.txt -c constraints-docs.txt -e ".[docs]"
	touch $@

$(VENV)/.tutorials: $(VENV)/.installed
	$(VENV)/bin/python $(PIP) -c constraints.txt -e ".[tutorials]"
	# What its networks need is in the extra; it declares an experiment tracker and thirty more.
	$(VENV)/bin/python $(PIP) -c constraints.txt --no-deps neuraloperator
	touch $@

$(BASELINES)/.installed: pyproject.toml constraints-baselines.txt
	$(PYTHON) -m venv $(BASELINES)
	$(BASELINES)/bin/python $(PIP) -c constraints-baselines.txt -e ".[baselines]"
	touch $@

clean:
	rm -rf $(VENV) $(BASELINES) site .cache .mypy_cache .pytest_cache .ruff_cache
