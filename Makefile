# The front door. Python 3.11 (with venv) and make are all that is assumed; everything else comes from uv.lock. With
# another Python 3 alone, uv downloads 3.11, or stops where it may not.
PYTHON ?= python3
CORES ?= 2

# uv of the machine, or one of our own in .uv/
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
UV := .uv/bin/uv
endif
RUN := $(UV) run --frozen --no-sync
export PYTHONWARNINGS := ignore::UserWarning:htcondor2

.PHONY: help setup setup-dev demo progress test test-here test-pool lint view report clean

help:
	@echo "make demo      register the embedded phantom cohort, end to end, and say which files to open"
	@echo "make progress  beside a run: what is done, what runs, time left (docs/progress.md)"
	@echo "make test      run all tests, some on a private HTCondor pool of their own (unpacked, not installed, from Debian's packages)"
	@echo "make lint      check the style of Python and Snakemake files, and types"
	@echo "make view      look at every pair, method by method, in the browser (docs/viewer.md)"
	@echo "make report    open the report"
	@echo "make clean     remove the environment and caches; results stay"

setup: .venv/.synced

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/.synced: pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
# Bytecode now, once: without it, or on a shared file system that jobs cannot write to, every job compiles all it imports.
	$(UV) sync --frozen --quiet --compile-bytecode --no-group dev
	@rm -f .venv/.synced-dev; touch $@

# With what tests and checks need.
setup-dev: .venv/.synced-dev

.venv/.synced-dev: pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
	$(UV) sync --frozen --quiet --compile-bytecode
	@touch .venv/.synced $@

demo: setup
	$(RUN) snakemake --cores $(CORES)
	@echo
	@echo "Done: the phantom cohort, six made-up subjects, is registered. Open"
	@echo "  results/report.html                    what did best, which λ and epoch, how sure"
	@echo "  results/evaluation/summary.tsv         the same numbers as a table"
	@echo "  results/qc/                            a page a pair, to judge it by eye"
	@echo "or look at every pair, method by method, in the browser: make view"
	@echo "Your own cohort: edit config/cohort.tsv and config/config.yaml (config/README.md explains both)."

# In an environment of its own: it reads what Snakemake writes down, and touches nothing.
progress: $(filter .uv/bin/uv,$(UV))
	@$(UV) tool run snakesee@0.9.0 watch .

# Side by side: the tests on a pool mostly wait for it. What they say comes when they have ended. Two processes, as
# HTCondor's library cannot encrypt in one that has loaded TensorFlow.
test: setup-dev
	@$(MAKE) --no-print-directory -j 2 test-here test-pool

test-here: setup-dev
	$(RUN) pytest --ignore tests/htcondor --durations=10

test-pool: setup-dev
	@said=$$(mktemp); $(RUN) pytest tests/htcondor --durations=10 > $$said 2>&1; code=$$?; cat $$said; rm $$said; exit $$code

lint: setup-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile rules
	$(RUN) snakemake --lint

# A web server on this machine alone, until Ctrl-C; Python's own modules are all that it needs.
view:
	@PYTHONPATH=scripts $(PYTHON) -m cohortmorph.report.serve results

report:
	@$(PYTHON) -m webbrowser "file://$(CURDIR)/results/report.html"

clean:
	rm -rf .venv .uv .snakemake .pytest_cache .hypothesis .ruff_cache .mypy_cache
